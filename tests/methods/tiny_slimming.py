"""A job for GAN Slimming that takes a moment: every kind of layer that matters, few channels, small pictures."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganshrink.data import Images, TensorInputs, TensorPairs
from ganshrink.methods.base import Job
from ganshrink.methods.gan_slimming import GanSlimmingConfig
from ganshrink.methods.original import Original
from ganshrink.nets.layers import Residual
from ganshrink.pruning import Budget
from ganshrink.training.tasks import Image2Image, Image2ImageConfig, Task
from ganshrink.training.train import StudentTraining

SIZE = 16
EXAMPLE = (torch.zeros(1, 3, SIZE, SIZE),)


def generator() -> nn.Module:
    """A stem, a residual block, a strided and a transposed convolution (without a norm) and a head."""
    torch.manual_seed(1)
    body = [nn.ReflectionPad2d(1), nn.Conv2d(6, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU()]
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.InstanceNorm2d(6, affine=True),
        nn.ReLU(),
        Residual(nn.Sequential(*body, nn.Conv2d(8, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True))),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.InstanceNorm2d(8, affine=True),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 3, 3, padding=1),
        nn.Tanh(),
    )
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return network


TRUNK, OTHERS = "0", ("3.body.1", "4", "7")  # its groups, named after their first producers


def image2image(lambda_gan: float = 0.7) -> Image2Image:
    return Image2Image(Image2ImageConfig(lambda_gan=lambda_gan, ndf=4, d_layers=1, d_norm="none"))


def pictures(count: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(3, SIZE, SIZE, generator=draw) * 2 - 1 for _ in range(count)]


def inputs() -> TensorInputs:
    return TensorInputs(pictures(4, seed=0))


def pairs() -> TensorPairs:
    return TensorPairs(list(zip(pictures(4, seed=0), pictures(4, seed=9), strict=True)))


def original_of(network: nn.Module) -> Original:
    return Original(lambda: copy.deepcopy(network), EXAMPLE, {"affine": True})


@cache
def known() -> Original:
    """The network of most jobs, traced once for all tests."""
    return original_of(generator())


def job(
    network: nn.Module | None = None,
    *,
    task: Task | None = None,
    data: Images | None = None,
    budget: str = "macs=60%",
    **training: Any,
) -> Job:
    """Two pictures a step, two steps an epoch; the teacher is a copy of the network, with a judge of its own."""
    original, task = known() if network is None else original_of(network), task or image2image()
    torch.manual_seed(2)
    trained = task.nets(original.build(), 3, 3)
    settings = {"epochs": 2, "decay_epochs": 0, "max_steps": 2, "batch_size": 2, "log_every": 1}
    return Job(
        original=original,
        teacher=lambda: trained,
        task=task,
        data=data or inputs(),
        budget=Budget.parse(budget).resolve(original.untouched),
        training=StudentTraining(accelerator="cpu", **settings | training),
        progress=False,
    )


def settings(**changes: Any) -> GanSlimmingConfig:
    """Rates at which two steps do something, and no VGG; tables (`search={...}`) add to that."""
    tables = {name: {"lr": 1e-2} | changes.pop(name, {}) for name in ("narrow", "search", "finetune")}
    return GanSlimmingConfig(**{"distance": "mse", "pool": 0} | tables | changes)


def logged(folder: Path, stage: str) -> list[dict[str, Any]]:
    lines = (folder / f"stages/{stage}/events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def saved(folder: Path, stage: str, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"stages/{stage}/{name}.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """To the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
