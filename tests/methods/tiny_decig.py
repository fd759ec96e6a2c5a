"""What DECIG's tests need beside `tiny_dmad`: roads of three steps, a network without norms, runs that are stopped."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tiny_dmad as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.data import TensorPairs
from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.decig import Decig, DecigConfig
from ganshrink.methods.decig.condensing import layer_factors
from ganshrink.nets.layers import Residual
from ganshrink.pruning import Channels
from ganshrink.training.stages import Run
from ganshrink.training.tasks import CycleGAN, Image2Image
from ganshrink.training.train import Nets

BUDGETS = ("macs=85%", "macs=40%")


def short(make: Any = tiny.small, **options: Any) -> Job:
    return tiny.job(make, **{"max_steps": 3} | options)


def both_ways(**options: Any) -> Job:
    return tiny.both(*BUDGETS, **{"max_steps": 3} | options)


def one_way(**options: Any) -> Job:
    return short(task=tiny.cyclegan(lambda_cycle=4), **options)


def own_images(**options: Any) -> Job:
    return short(task=tiny.image2image(), **{"data": tiny.inputs()} | options)


ROADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pix2pix": (short, {}),
    "low-reg": (short, {"ratio": 0.01, "shape": "exponential", "importance": "own_plus_consumer"}),
    "image2image": (own_images, {}),
    "one way": (one_way, {}),
    "both ways": (both_ways, {"ratio": 0.2}),
}


@dataclass(frozen=True)
class Road:
    """A finished run, and the states of its teachers before."""

    folder: Path
    work: Job
    config: DecigConfig
    result: Result
    before: dict[str, dict[str, Tensor]]

    @property
    def names(self) -> dict[str, str]:
        """The small generators' names in the result, by those of the task's nets."""
        jobs = self.work.by_generator()
        return {name: "G" if len(jobs) == 1 else name for name in jobs}


def first_stage(run: Run, work: Job, config: DecigConfig) -> Nets:
    """What Stage I makes."""
    teachers = {name: one.teacher() for name, one in work.by_generator().items()}
    return method(run, work, config).condense(teachers)[0]


def method(run: Run, work: Job, config: DecigConfig) -> Decig:
    channels = structure(work)
    return Decig(run, work, config, work.by_generator(), channels, layer_factors(channels))


def structure(work: Job) -> Channels:
    return trace(work.build(), *work.example)


def steps(work: Job, count: int) -> Job:
    return replace(work, training=work.training.model_copy(update={"max_steps": count}))


def l1_by_hand(work: Job, networks: Nets, batch: dict[str, Tensor]) -> float:
    """The L1 terms of the task's loss, with their weights in it."""
    task, a = work.task, batch["input"]
    if isinstance(task, CycleGAN):
        g_a, g_b, b = networks["G_A"], networks["G_B"], batch["target"]
        cycles = l1_loss(g_b(g_a(a)), a) + l1_loss(g_a(g_b(b)), b)
        identities = l1_loss(g_a(b), b) + l1_loss(g_b(a), a)
        return task.config.lambda_cycle * (cycles + identities / 2).item()
    if isinstance(task, Image2Image):
        return 10 * l1_loss(networks["G"](a), work.teacher()["G"].eval()(a)).item()
    return 100 * l1_loss(networks["G"](a), batch["target"]).item()


# A network without norms


def plain() -> nn.Module:
    """Layers wide enough to have a hinge, with biases; a trunk, a block and a transposed layer."""
    block = nn.Sequential(nn.Conv2d(20, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 20, 3, padding=1))
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 20, 3, padding=1), Residual(block)),
        *(nn.ConvTranspose2d(20, 12, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(12, 3, 3, padding=1), nn.Tanh()),
    )
    return tiny.seasoned(net)


def condensed_by_hand(importance: str) -> tuple[nn.Module, Tensor]:
    """A network half of whose channels are nearly nothing: what makes them is a millionth of what it was, with
    `own_plus_consumer` the weights that read them too, but not their biases; and which channels live, per atom.
    """
    torch.manual_seed(3)
    net = plain()
    channels = trace(net, torch.zeros(1, 3, tiny.SIZE, tiny.SIZE))
    alive = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in channels.groups:
        if group.frozen is None:
            alive[group.atoms[torch.randperm(len(group))[: len(group) // 2]]] = False
    made = {(p.parameter, p.axis) for p in channels.producers}
    with torch.no_grad():
        for name, axes in channels.axes.items():
            tensor = net.get_parameter(name)
            for axis, atoms in enumerate(axes):
                counts = tensor.ndim == 1 if importance == "own" else tensor.ndim > 1
                if atoms is None or not (counts or (name, axis) in made):
                    continue
                dead = torch.tensor([atom >= 0 and not alive[atom] for atom in atoms.tolist()])
                tensor.movedim(axis, 0)[dead] *= 1e-6
    return net, alive


# Runs


class Interrupting(TensorPairs):
    """Fails at the third batch of a stage; counted, since batches are prepared ahead of the step."""

    def __init__(self, stage: Path | None = None) -> None:
        self.stage, self.asked = None, 0
        super().__init__(tiny.pairs().pairs)
        self.stage = stage

    def sample(self, index: int, rng: Any) -> dict[str, Any]:
        if self.stage and self.stage.exists():
            self.asked += 1
            if self.asked > 4:
                raise OSError("the disk is gone")
        return super().sample(index, rng)


def begun(folder: Path) -> dict[str, int]:
    """How often each stage was begun: those put aside have a dot in their names."""
    found = [path.name.partition(".")[0] for path in (folder / "stages").iterdir()]
    return {name: found.count(name) for name in found}


def untaught(work: Job) -> Job:
    """A job whose teacher must not be asked for."""

    def teacher() -> Nets:
        raise AssertionError("the teacher was asked for")

    return replace(work, teacher=teacher, back=work.back and replace(work.back, teacher=teacher))


def taught_in(run: Run, work: Job, seed: int) -> Job:
    """The job with its teacher as a stage of the run, as recipes have it."""
    teacher = short(task=work.task, data=work.data, teacher=seed).teacher

    def made() -> Nets:
        states = {name: net.state_dict() for name, net in teacher().items()}
        run.stage("teacher", lambda stage: states, made_from={"seed": seed})
        return teacher()

    return replace(work, teacher=made)
