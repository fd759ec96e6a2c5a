"""Jobs for DMAD that take a moment: a residual generator of a few channels, small pictures, searches of a dozen steps."""

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.data import Batches, Images, TensorInputs, TensorPairs
from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.dmad import DmadConfig
from ganshrink.methods.original import Original
from ganshrink.nets.layers import Residual
from ganshrink.pruning import Budget, Plan, extract, initialise
from ganshrink.pruning.allocate import share_of_each
from ganshrink.pruning.search.masks import maskable
from ganshrink.training.tasks import (
    CycleGAN,
    CycleGANConfig,
    Image2Image,
    Image2ImageConfig,
    Pix2Pix,
    Pix2PixConfig,
    Task,
)
from ganshrink.training.train import StudentTraining

SIZE = 16
JUDGE = {"ndf": 4, "d_layers": 1}


def resnet(**options: Any) -> nn.Module:
    return nets.build("resnet6", **{"ngf": 4, "blocks": 2, "norm": "batch"} | options)


def small() -> nn.Module:
    """A strided layer, a trunk with one block, and a transposed layer: less to trace."""
    block = [nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        Residual(nn.Sequential(*block, nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6))),
        *(nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 3, 3, padding=1), nn.Tanh()),
    )


SMALL_TAPS = ("5", "6")


def pix2pix(**options: Any) -> Pix2Pix:
    return Pix2Pix(Pix2PixConfig(**JUDGE | {"lr": 2e-3} | options))


def image2image(**options: Any) -> Image2Image:
    return Image2Image(Image2ImageConfig(**JUDGE | {"lr": 2e-3, "lambda_gan": 0.7} | options))


def cyclegan(**options: Any) -> CycleGAN:
    return CycleGAN(CycleGANConfig(**JUDGE | {"lr": 2e-3, "pool_size": 2} | options))


def pictures(count: int, seed: int, size: int = SIZE) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(3, size, size, generator=draw) * 2 - 1 for _ in range(count)]


def pairs(size: int = SIZE) -> TensorPairs:
    return TensorPairs(list(zip(pictures(4, 0, size), pictures(4, 9, size), strict=True)))


def inputs() -> TensorInputs:
    return TensorInputs(pictures(4, 0))


@cache
def original_of(make: Any, size: tuple[int, int]) -> Original:
    """Traced once for all tests of the same function."""
    network = make()
    return Original(lambda: copy.deepcopy(network), (torch.zeros(1, 3, *size),), {"affine": True})


def job(
    make: Any = resnet,
    *,
    task: Task | None = None,
    data: Images | None = None,
    budget: str = "macs=60%",
    teacher: int = 7,
    **training: Any,
) -> Job:
    """Two pictures a step, twelve steps.

    Args:
        make: the generator.
        teacher: the seed of the trained networks; on BatchNorms' statistics and scales too, as after a training.
    """
    task, data = task or pix2pix(), data or pairs()
    original = original_of(make, data.size)
    torch.manual_seed(teacher)
    trained = task.nets(initialise(original.build()), 3, 3)
    for net in trained.values():
        seasoned(net)
    if task.both_ways:
        trained = task.one_way(trained, "AtoB")
    settings = {"epochs": 50, "decay_epochs": 0, "max_steps": 12, "batch_size": 2, "log_every": 1}
    return Job(
        original=original,
        teacher=lambda: trained,
        task=task,
        data=data,
        budget=Budget.parse(budget).resolve(original.untouched),
        training=StudentTraining(accelerator="cpu", **settings | training),
        progress=False,
    )


def seasoned(net: nn.Module) -> nn.Module:
    """As after a training: nothing at its initial value. In place."""
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.2)
    return net.eval()


def settings(**changes: Any) -> DmadConfig:
    """Rates at which a dozen steps do something; `search` adds to them, all else is about distillation."""
    search = {"lambda_spa": 1.0, "mask_lr": 0.05} | changes.pop("search", {})
    return DmadConfig(search=search, distill=changes)


def logged(folder: Path, stage: str) -> list[dict[str, Any]]:
    lines = (folder / f"stages/{stage}/events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def saved(folder: Path, stage: str, name: str) -> dict[str, Tensor]:
    return load_file(folder / f"stages/{stage}/{name}.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """To the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def both(there: str, back: str, *, data: Images | None = None, **training: Any) -> Job:
    """A CycleGAN both of whose generators are made small, each to its own budget."""
    task = cyclegan()
    forth = job(small, task=task, data=data, budget=there, **training)
    torch.manual_seed(11)
    trained = {name: seasoned(net) for name, net in task.nets(small(), 3, 3).items()}
    limits = Budget.parse(back).resolve(forth.original.untouched)
    backwards = replace(forth, teacher=lambda: task.one_way(trained, "BtoA"), budget=limits)
    return replace(forth, back=backwards)


def first_batch(work: Job) -> dict[str, Tensor]:
    return Batches(work.data, batch_size=work.training.batch_size, seed=work.training.seed).at(0)


def loaded(net: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A copy with these weights, in training mode."""
    twin = copy.deepcopy(net)
    twin.load_state_dict(state)
    return twin.train()


def cut_from_the_search(folder: Path, result: Result, *, width: float = 1, name: str = "G") -> nn.Module:
    """What a student begins with: the searched generator as it was left, less what its plan cuts."""
    of = name if name in result.students else "G"
    original, channels = result.originals[of], result.channels[of]
    whole = initialise(copy.deepcopy(original))
    small = extract(whole, channels, share_of_each(channels, width))
    searched = channels if width == 1 else maskable(trace(small, *channels.example[:1]))
    plans = json.loads((folder / "stages/search/plans.json").read_text())
    net = loaded(small, saved(folder, "search", name))
    return extract(net, searched, Plan.from_json(searched, plans[name])).train()
