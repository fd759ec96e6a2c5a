"""What DECIG's tests need beside `tiny_dmad`: roads of three steps, and networks with layers of little use."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tiny_dmad as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.decig import DecigConfig
from ganshrink.methods.decig.decig import _condense, layer_factors, magnitudes
from ganshrink.nets.layers import Residual
from ganshrink.pruning import Channels
from ganshrink.training.stages import Run
from ganshrink.training.tasks import CycleGAN, Image2Image
from ganshrink.training.train import Nets

L1_TERMS = {"G_recon", "cycle_A", "cycle_B", "idt_A", "idt_B"}


def config(**changes: Any) -> DecigConfig:
    """Settings by the names of their fields alone."""
    tables = {name: getattr(DecigConfig(), name) for name in ("condense", "cut", "finetune")}
    return DecigConfig(
        **{
            name: type(table)(**{key: value for key, value in changes.items() if hasattr(table, key)})
            for name, table in tables.items()
        }
    )


def short(make: Any = tiny.small, **options: Any) -> Job:
    return tiny.job(make, **{"max_steps": 3} | options)


ROADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pix2pix": (short, {"ratio": 0.01, "shape": "exponential", "importance": "own_plus_consumer"}),
    "image2image": (lambda: short(task=tiny.image2image(), data=tiny.inputs()), {}),
    "one way": (lambda: short(task=tiny.cyclegan(lambda_cycle=4)), {}),
    "both ways": (lambda: tiny.both("macs=85%", "macs=40%", max_steps=3), {"ratio": 0.2}),
}


@dataclass(frozen=True)
class Road:
    """A finished run, and the states of its teachers before."""

    folder: Path
    work: Job
    config: DecigConfig
    result: Result
    before: list[dict[str, Tensor]]

    @property
    def names(self) -> list[str]:
        """Of the generators that were made small."""
        return list(self.work.by_generator())


def condensed(run: Run, work: Job, config: DecigConfig) -> Nets:
    """What Stage I makes."""
    return _condense(run, work, work.task, config, layer_factors(work.channels))


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


def sizes(network: nn.Module, channels: Channels, importance: Any = "own") -> dict[str, Tensor]:
    return {name: size.detach() for name, size in magnitudes(network, channels, importance).items()}


def largest(network: nn.Module, channels: Channels) -> dict[str, float]:
    return {name: size.max().item() for name, size in sizes(network, channels).items()}


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
