"""Which metrics are wanted and what they need; `build` makes them, or says in one line what is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance
from ganshrink.metrics.iou import MeanIoU
from ganshrink.metrics.kernel import KernelDistance
from ganshrink.metrics.pixels import Similarity
from ganshrink.metrics.segmenters import SEGMENTERS
from ganshrink.metrics.squeezenet import load_squeezenet
from ganshrink.metrics.value import Metric
from ganshrink.spelling import did_you_mean

NAMES = ("psnr", "ssim", "psnr_teacher", "ssim_teacher", "fd_squeezenet", "kd_squeezenet", "miou")


class MetricsConfig(BaseModel):
    """What to measure on held-out images. Relative weights paths start from GANSHRINK_WEIGHTS if set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(
        ("psnr", "ssim", "psnr_teacher", "ssim_teacher"),
        description=f"what to compute, of {', '.join(NAMES)}",
    )
    split: Literal["val", "test"] = Field("test", description="which images are scored")
    limit: int | None = Field(None, ge=1, description="score at most this many images (default: all)")
    batch_size: int = Field(8, ge=1, description="images per batch while scoring")
    seed: int = Field(0, ge=0, description="seed of the kernel distance's random subsets")
    squeezenet: Path = Field(
        Path("squeezenet11_features.safetensors"),
        description="weights of fd_ and kd_squeezenet",
    )
    segmenter: Literal["espnet-camvid"] = Field("espnet-camvid", description="the network that judges miou")
    segmenter_weights: Path = Field(Path("espnet_camvid.safetensors"), description="the segmenter's weights")

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in NAMES:
                raise ValueError(f"unknown metric {name!r}{did_you_mean(name, NAMES)}")
        if len(set(names)) < len(names):
            raise ValueError(f"a metric is named twice in {list(names)}: name each once")
        return names


def build(
    config: MetricsConfig, device: str | torch.device = "cpu", *, split: str | None = None
) -> list[Metric]:
    """The metrics named in the config, in its order, their networks loaded onto `device`.

    `split` says in the protocols which images were scored, where it is not the config's split.

    Raises:
        FileNotFoundError: a weights file is missing; the message names it and says where it comes from.
        ValueError: a weights file holds another network.
    """
    split, seed = split or config.split, config.seed
    features: list[FeatureNetwork] = []

    def squeezenet() -> FeatureNetwork:
        if not features:  # one network for both distances, so that a batch passes through it once
            features.append(load_squeezenet(config.squeezenet, device))
        return features[0]

    makers: dict[str, Callable[[], Metric]] = {
        "psnr": lambda: Similarity("psnr", against="target", split=split),
        "ssim": lambda: Similarity("ssim", against="target", split=split),
        "psnr_teacher": lambda: Similarity("psnr", against="teacher", split=split),
        "ssim_teacher": lambda: Similarity("ssim", against="teacher", split=split),
        "fd_squeezenet": lambda: FrechetDistance("fd_squeezenet", squeezenet(), split=split),
        "kd_squeezenet": lambda: KernelDistance("kd_squeezenet", squeezenet(), split=split, seed=seed),
        "miou": lambda: MeanIoU(SEGMENTERS[config.segmenter](config.segmenter_weights, device), split=split),
    }
    return [makers[name]() for name in config.names]
