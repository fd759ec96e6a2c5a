"""Which metrics are wanted and what they need; `build` makes them, or says in one line what is missing."""

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance
from ganshrink.metrics.inception import RELEASED_NAME, KernelInceptionDistance, load_inception
from ganshrink.metrics.iou import MeanIoU
from ganshrink.metrics.kernel import KernelDistance
from ganshrink.metrics.perceptual import PerceptualDistance
from ganshrink.metrics.pixels import Similarity
from ganshrink.metrics.segmenters import SEGMENTERS
from ganshrink.metrics.squeezenet import load_squeezenet
from ganshrink.metrics.value import Metric
from ganshrink.metrics.vgg import load_vgg
from ganshrink.system.spelling import did_you_mean

DEFAULT = ("psnr", "ssim", "psnr_teacher", "ssim_teacher")
NAMES = (
    *DEFAULT,
    "fd_squeezenet",
    "kd_squeezenet",
    "fd_squeezenet_teacher",
    "kd_squeezenet_teacher",
    "perceptual_teacher",
    "fid",
    "kid",
    "miou",
)


class MetricsConfig(BaseModel):
    """What to measure on held-out images. Relative weights paths start from GANSHRINK_WEIGHTS if set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] | None = Field(
        None,
        description=f"what to compute, of {', '.join(NAMES)}; none: of the first four what the data allow",
    )
    split: Literal["val", "test"] = Field("test", description="which images are scored")
    limit: int | None = Field(None, ge=1, description="score at most this many images; none: all")
    batch_size: int = Field(8, ge=1, description="images per batch while scoring")
    seed: int = Field(0, ge=0, description="seed of the kernel distance's random subsets")
    squeezenet: Path = Field(
        Path("squeezenet11_features.safetensors"),
        description="weights of fd_ and kd_squeezenet",
    )
    vgg: Path = Field(
        Path("vgg19norm_relu3_1.safetensors"),
        description="weights of perceptual_teacher: the normalised VGG-19, or torchvision's VGG-16",
    )
    inception: Path = Field(
        Path(RELEASED_NAME),
        description="weights of fid and kid: TensorFlow's of 2015-12-05, not torchvision's",
    )
    segmenter: Literal["espnet-camvid"] = Field("espnet-camvid", description="the network that judges miou")
    segmenter_weights: Path = Field(Path("espnet_camvid.safetensors"), description="the segmenter's weights")

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in NAMES:
                raise ValueError(f"unknown metric {name!r}{did_you_mean(name, NAMES)}")
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"a metric is named twice in {list(names)}: name each once")
        return names


def build(
    config: MetricsConfig,
    device: str | torch.device = "cpu",
    *,
    split: str | None = None,
    offered: Collection[str] = ("target", "pairs", "labels"),
) -> list[Metric]:
    """The metrics named in the config, in its order, their networks loaded onto `device`.

    Args:
        split: says in the protocols which images were scored, where it is not the config's split.
        offered: what the images offer of what metrics need (see `Metric.needs`).

    Raises:
        FileNotFoundError: a weights file is missing; the message names it and says where it comes from.
        ValueError: a weights file holds another network, or a metric needs what the images do not offer.
    """
    split, seed = split or config.split, config.seed

    @cache  # one network for all distances over it, so that a batch passes through it once
    def squeezenet() -> FeatureNetwork:
        return load_squeezenet(config.squeezenet, device)

    @cache
    def inception() -> FeatureNetwork:
        return load_inception(config.inception, device)

    makers: dict[str, Callable[[], Metric]] = {
        "psnr": lambda: Similarity("psnr", against="target", split=split),
        "ssim": lambda: Similarity("ssim", against="target", split=split),
        "psnr_teacher": lambda: Similarity("psnr", against="teacher", split=split),
        "ssim_teacher": lambda: Similarity("ssim", against="teacher", split=split),
        "fd_squeezenet": lambda: FrechetDistance("fd_squeezenet", squeezenet(), split=split),
        "kd_squeezenet": lambda: KernelDistance("kd_squeezenet", squeezenet(), split=split, seed=seed),
        "fd_squeezenet_teacher": lambda: FrechetDistance(
            "fd_squeezenet_teacher", squeezenet(), split=split, against="teacher"
        ),
        "kd_squeezenet_teacher": lambda: KernelDistance(
            "kd_squeezenet_teacher", squeezenet(), split=split, against="teacher", seed=seed
        ),
        "perceptual_teacher": lambda: PerceptualDistance(load_vgg(config.vgg, device), split=split),
        "fid": lambda: FrechetDistance("fid", inception(), split=split),
        "kid": lambda: KernelInceptionDistance("kid", inception(), split=split, seed=seed),
        "miou": lambda: MeanIoU(SEGMENTERS[config.segmenter](config.segmenter_weights, device), split=split),
    }
    metrics = [makers[name]() for name in (DEFAULT if config.names is None else config.names)]
    if config.names is None:
        return [metric for metric in metrics if not _lacking(metric, offered)]
    for metric in metrics:
        if lacking := _lacking(metric, offered):
            raise ValueError(f"metrics.names: {metric.name} needs {lacking}, and these data have none")
    return metrics


def _lacking(metric: Metric, offered: Collection[str]) -> str | None:
    """What a metric needs and the data do not offer, in words."""
    words = {"target": "target images", "pairs": "a target image for each input", "labels": "label maps"}
    return next((words[need] for need in sorted(metric.needs - {"teacher"}) if need not in offered), None)
