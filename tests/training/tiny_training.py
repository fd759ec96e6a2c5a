"""A training run small enough to run many times: a generator with dropout and batch norm, a judge, images in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import Batches
from ganshrink.training import Context, FitConfig, FitResult, Update, adam, fit


class Pairs:
    in_channels, out_channels, size = 3, 3, (8, 8)

    def __init__(self, count: int = 10) -> None:
        self.images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int, rng: Any) -> dict[str, Any]:
        noise = 0.01 * torch.from_numpy(rng.standard_normal((3, 8, 8))).float()
        return {"input": self.images[index] + noise, "target": -self.images[index], "name": str(index)}


def make_nets(*, plain: bool = False) -> dict[str, nn.Module]:
    """With `plain`, nothing depends on the batch as a whole or on random numbers."""
    torch.manual_seed(1)
    middle = [nn.Identity(), nn.Identity()] if plain else [nn.BatchNorm2d(4), nn.Dropout(0.5)]
    g = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), *middle, nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh()
    )
    return {"G": g, "D": nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))}


@dataclass
class Step(Context):
    nets: dict[str, nn.Module]

    @cached_property
    def fake(self) -> Tensor:
        return self.nets["G"](self.batch["input"])


class Average:
    """An exponential average of a net's weights: something that lives outside of nets and optimizers."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.weights = {name: p.detach().clone() for name, p in net.named_parameters()}

    def follow(self, context: Context) -> None:
        for name, p in self.net.named_parameters():
            self.weights[name].lerp_(p.detach(), 0.1)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.weights)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.weights = dict(state_dict)


def make_updates(
    nets: dict[str, nn.Module], *, every: int = 1, after: Callable[[Any], None] | None = None
) -> list[Update]:
    def judge(context: Step) -> Iterator[dict[str, Tensor]]:
        real, fake = nets["D"](context.batch["target"]), nets["D"](context.fake.detach())
        yield {"D_real": (real - 1).square().mean(), "D_fake": fake.square().mean()}

    def generate(context: Step) -> Iterator[dict[str, Tensor]]:
        yield {
            "G_gan": (nets["D"](context.fake) - 1).square().mean(),
            "G_recon": 10 * (context.fake - context.batch["target"]).abs().mean(),
        }

    return [
        Update("D", [adam(nets["D"].parameters(), lr=1e-2)], judge, every=every),
        Update("G", [adam(nets["G"].parameters(), lr=1e-2)], generate, after=after),
    ]


def make_batches(batch_size: int = 2) -> Batches:
    return Batches(Pairs(), batch_size=batch_size, seed=5)


def config(**changes: Any) -> FitConfig:
    settings = {"epochs": 2, "decay_epochs": 2, "log_every": 4, "accelerator": "cpu", "threads": 1}
    return FitConfig(**(settings | changes))


@dataclass
class Outcome:
    nets: dict[str, nn.Module]
    updates: list[Update]
    average: Average
    result: FitResult

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes."""
        found = {f"{n}.{k}": v for n, net in self.nets.items() for k, v in net.state_dict().items()}
        found |= {f"average.{k}": v for k, v in self.average.weights.items()}
        for update in self.updates:
            for index, kept in update.optimizers[0].state_dict()["state"].items():
                found |= {f"{update.name}.{index}.{k}": v for k, v in kept.items()}
        return found


def run(
    directory: Path,
    *,
    break_at: int | None = None,
    breaking: Callable[[], None] | None = None,
    **changes: Any,
) -> Outcome:
    """The run; `breaking` is called in the middle of step `break_at`, after D's update and before G's is done."""
    nets = make_nets()
    average = Average(nets["G"])

    def after(context: Context) -> None:
        if breaking is not None and context.step == break_at:
            breaking()
        average.follow(context)

    updates = make_updates(nets, after=after)
    result = train(nets, updates, directory, state={"average": average}, **changes)
    return Outcome(nets, updates, average, result)


def train(
    nets: dict[str, nn.Module],
    updates: list[Update],
    directory: Path,
    *,
    batches: Batches | None = None,
    state: dict[str, Any] | None = None,
    key: str = "",
    frozen: list[nn.Module] | None = None,
    **changes: Any,
) -> FitResult:
    return fit(
        nets,
        updates,
        batches or make_batches(),
        config(**changes),
        forward=lambda batch, step, epoch: Step(batch, step, epoch, nets),
        directory=directory,
        state=state,
        key=key,
        frozen=frozen or [],
    )
