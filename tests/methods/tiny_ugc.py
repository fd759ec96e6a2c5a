"""What UGC's tests need beside `tiny_dmad`: a network with inserted blocks, few labels, and settings that take a moment."""

import copy
import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny_dmad as tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganshrink.data import Batches, Images, PairedWithUnlabelled, TensorInputs
from ganshrink.data.held_out import TrainingImages, divide
from ganshrink.graph import trace
from ganshrink.losses import structural_similarity
from ganshrink.methods.base import Job, Result
from ganshrink.methods.original import Original
from ganshrink.methods.ugc import UgcConfig, ugc
from ganshrink.methods.ugc.config import FinetuneConfig, SearchConfig, SupernetConfig
from ganshrink.methods.ugc.search import searched_space
from ganshrink.metrics.segmenters.espnet import CLASSES
from ganshrink.metrics.vgg import VGG, VGG19_NORMALISED
from ganshrink.nets.extra_blocks import with_extra_blocks
from ganshrink.pruning import Channels, Plan
from ganshrink.pruning.search.space import Space
from ganshrink.training.stages import Run
from ganshrink.training.train import Nets, batches_of

TABLES = {"supernet": SupernetConfig, "search": SearchConfig, "finetune": FinetuneConfig}


def settings(**changes: Any) -> UgcConfig:
    """Without VGG; a block at each of two places, four widths a layer, a dozen networks scored. Settings may be given flat:
    they go to every table that has them."""
    few = {"extra_blocks": 1, "steps": 4, "population": 4, "generations": 2, "teacher_ratio": 3}
    given = {"lambda_style": 0, "lambda_feature": 0} | few | changes
    whole = {key: value for key, value in given.items() if key in UgcConfig.model_fields}
    for name, table in TABLES.items():
        own = {key: value for key, value in given.items() if key in table.model_fields}
        whole[name] = own | given.get(name, {})
    assert given.keys() <= set(whole).union(*(table.model_fields for table in TABLES.values()))
    return UgcConfig(**whole)


LABELLED_ALONE = {"unlabelled": False}


def inputs(count: int = 6, seed: int = 21) -> TensorInputs:
    return TensorInputs(tiny.pictures(count, seed))


def job(make: Any = tiny.small, *, unlabelled: Images | None | int = 6, **options: Any) -> Job:
    """Four pairs and six inputs without targets, three steps."""
    more = inputs(unlabelled) if isinstance(unlabelled, int) else unlabelled
    return replace(tiny.job(make, **{"max_steps": 3, "budget": "macs=30%"} | options), unlabelled=more)


PREPARED: dict[Any, Original] = {}


def prepared(original: Original, transforms: dict[str, Any]) -> Original:
    """Traced once for all tests of the same network and settings."""
    key = (original.build, *transforms.items())
    return PREPARED.setdefault(key, replace(original, transforms=transforms))


def go(folder: Path, work: Job, config: UgcConfig, run: Run | None = None) -> Result:
    """The method on a job, whose generator is prepared as these settings say."""
    original = prepared(work.original, config.transforms())
    return ugc(run or Run(folder), replace(work, original=original), config)


def images_of(work: Job, config: UgcConfig) -> TrainingImages:
    return divide(work.data, work.unlabelled, config.search_images if config.nas else 0)


@dataclass(frozen=True)
class Whole:
    """A network with its inserted blocks, none of its weights at an initial value, and what can be cut out of it."""

    network: nn.Module
    channels: Channels
    space: Space


def whole(config: UgcConfig | None = None) -> Whole:
    """Each time another copy of the same network."""
    found = _whole(config or settings())
    return replace(found, network=copy.deepcopy(found.network))


@functools.cache
def _whole(config: UgcConfig) -> Whole:
    example = torch.zeros(1, 3, tiny.SIZE, tiny.SIZE)
    torch.manual_seed(3)
    network = tiny.seasoned(with_extra_blocks(tiny.small(), (example,), config.extra_blocks))
    channels = trace(network, example)
    return Whole(network, channels, searched_space(network, channels, config.supernet))


def plans(folder: Path, channels: Channels) -> dict[str, Plan]:
    """Of the teachers that a run searched for."""
    kept = {
        name: json.loads((folder / f"stages/search/{name}.json").read_text()) for name in ("wide", "deep")
    }
    return {name: Plan.from_json(channels, content) for name, content in kept.items()}


def batch_at(work: Job, step: int) -> dict[str, Any]:
    """As stage 2 gets it of images none of which were held out."""
    assert work.unlabelled is not None
    pairs, more = (
        batches_of(work.data, work.training),
        batches_of(work.unlabelled, work.training, beside=True),
    )
    assert isinstance(pairs, Batches)
    return PairedWithUnlabelled(pairs, more).at(step)


def l_od(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) each image's 1 - SSIM, times ten."""
    return 10 * (1 - structural_similarity(student, teacher))


def variation(image: Tensor) -> Tensor:
    """The total variation of a batch, a sum."""
    down, right = image[:, :, 1:] - image[:, :, :-1], image[..., 1:] - image[..., :-1]
    return down.abs().sum() + right.abs().sum()


def vgg(folder: Path) -> Path:
    """A file of the normalised VGG-19 with weights of chance."""
    torch.manual_seed(0)
    state, file = VGG(VGG19_NORMALISED).features.state_dict(), folder / "vgg.safetensors"
    save_file(state, file)
    return file


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C), over their number."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat[0].numel()


class Labelled(TensorInputs):
    """Inputs with label maps, as label-to-photo data have them."""

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        ids = (self.inputs[index].mean(0) * 1000).long() % CLASSES
        return {**super().sample(index, rng), "labels": ids}


def taught_in(run: Run, work: Job, seed: int) -> Job:
    """The job with its teacher as a stage of the run, as recipes have it."""
    teacher = tiny.job(tiny.small, task=work.task, data=work.data, teacher=seed).teacher

    @functools.cache
    def made() -> Nets:
        states = {name: net.state_dict() for name, net in teacher().items()}
        run.stage("teacher", lambda stage: states, made_from={"seed": seed})
        return teacher()

    return replace(work, teacher=made)


def untaught(work: Job) -> Job:
    """A job whose teacher must not be asked for."""

    def teacher() -> Nets:
        raise AssertionError("the teacher was asked for")

    return replace(work, teacher=teacher)


def begun(folder: Path) -> dict[str, int]:
    """How often each stage was begun: those put aside have a dot in their names."""
    found = [path.name.partition(".")[0] for path in (folder / "stages").iterdir()]
    return {name: found.count(name) for name in found}
