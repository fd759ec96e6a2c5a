"""Which metrics are wanted and what they need; `build` makes them, or says in one line what is missing."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PositiveInt, field_validator

from ganshrink.metrics import inception, luma, perceptual, pixels, segmenters, squeezenet
from ganshrink.metrics.checkerboard import CHECKERBOARD
from ganshrink.metrics.flicker import FLICKER
from ganshrink.metrics.st_lpips import ST_LPIPS, ST_LPIPS_FILE, ST_LPIPS_TEACHER
from ganshrink.metrics.value import Listed, Metric, Reals, Setup
from ganshrink.system.own import call, chosen, qualified, registered
from ganshrink.system.spelling import did_you_mean

METRICS: Mapping[str, Listed] = {
    "psnr": pixels.PSNR,
    "ssim": pixels.SSIM,
    "psnr_teacher": pixels.PSNR_TEACHER,
    "ssim_teacher": pixels.SSIM_TEACHER,
    "psnr_y": luma.PSNR_Y,
    "ssim_y": luma.SSIM_Y,
    "st_lpips": ST_LPIPS,
    "st_lpips_teacher": ST_LPIPS_TEACHER,
    "fd_squeezenet": squeezenet.FD_SQUEEZENET,
    "kd_squeezenet": squeezenet.KD_SQUEEZENET,
    "swd_squeezenet": squeezenet.SWD_SQUEEZENET,
    "fd_squeezenet_teacher": squeezenet.FD_SQUEEZENET_TEACHER,
    "kd_squeezenet_teacher": squeezenet.KD_SQUEEZENET_TEACHER,
    "perceptual_teacher": perceptual.PERCEPTUAL_TEACHER,
    "fid": inception.FID,
    "kid": inception.KID,
    "miou": segmenters.MIOU,
    "flicker": FLICKER,
    "checkerboard": CHECKERBOARD,
}
DEFAULT = ("psnr", "ssim", "psnr_teacher", "ssim_teacher")

NEEDS = {  # in words
    "target": "target images",
    "pairs": "a target image for each input",
    "labels": "label maps",
    "teacher": "a teacher",
    "pictures": "a picture as input",
}

# A name, or in Python a metric itself, which a recipe shows by the name of its class.
Wanted = Annotated[Any, PlainSerializer(lambda given: given if isinstance(given, str) else qualified(given))]


class MetricsConfig(BaseModel):
    """What to measure on held-out images. Relative weights paths start from GANSHRINK_WEIGHTS if set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[Wanted, ...] | None = Field(
        None,
        description=f"what to compute, of {', '.join(METRICS)}, or MODULE:NAME of your own; none: of the first four what "
        "the data allow",
    )
    split: Literal["val", "test"] = Field("test", description="which images are scored")
    limit: int | None = Field(None, ge=1, description="score at most this many images; none: all")
    batch_size: int = Field(8, ge=1, description="images per batch while scoring")
    seed: int = Field(
        0,
        ge=0,
        description="seed of the kernel distance's random subsets, and of swd_squeezenet's directions",
    )
    quantisation: Literal["round", "truncate"] = Field(
        "round", description="how generated pictures become uint8; truncate: as the published scripts do"
    )
    reals: Reals = Field(
        "scored",
        description="which targets fid, kid, fd_, kd_ and swd_ compare with: scored: those of the images scored; train: "
        "of the training images; all: of both; with -stored behind it at the size of their files, not resized to data.size",
    )
    fid_statistics: Path | None = Field(
        None,
        description="fid: mu and sigma of the reals in an .npz file, as of pytorch-fid, instead of targets",
    )
    kid_subsets: tuple[PositiveInt, Annotated[int, Field(ge=3)]] | None = Field(
        None,
        description="kid as it is usually estimated: the mean over so many random subsets of so many images, such as [100, "
        "100], both sides drawn apart; none: over all pairs of images up to 2000",
    )
    squeezenet: Path = Field(
        Path(squeezenet.FILE),
        description="weights of fd_, kd_ and swd_squeezenet",
    )
    vgg: Path = Field(
        Path("vgg19norm_relu3_1.safetensors"),
        description="weights of perceptual_teacher: the normalised VGG-19, or torchvision's VGG-16",
    )
    st_lpips: Path = Field(
        Path(ST_LPIPS_FILE),
        description="weights of st_lpips: alex_shift_tolerant.pth of the package stlpips-pytorch (extra perceptual), found "
        "there where this file is not",
    )
    border: int | None = Field(
        None,
        ge=0,
        description="psnr_y and ssim_y leave out so many pixels on each side; none: as many as outputs are times larger "
        "than inputs, 0 where they are not",
    )
    inception: Path = Field(
        Path(inception.RELEASED_NAME),
        description="weights of fid and kid: TensorFlow's of 2015-12-05, not torchvision's",
    )
    segmenter: str = Field(
        "espnet-camvid",
        description="the network that judges miou: espnet-camvid, drn-d-105-cityscapes, an ONNX file (from the working "
        "directory or GANSHRINK_WEIGHTS), or MODULE:NAME of your own",
    )
    segmenter_weights: Path | None = Field(
        None, description="the segmenter's weights; none: the file name of their release"
    )
    segmenter_void: int | None = Field(
        None,
        ge=0,
        description="the class that miou leaves out; none: the segmenter's own, of ONNX files one past its classes",
    )

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        named = [name for name in names or () if isinstance(name, str)]
        known = [*METRICS, *registered("metrics")] if named else []
        for name in names or ():
            if isinstance(name, str) and ":" not in name and name not in known:
                raise ValueError(f"unknown metric {name!r}{did_you_mean(name, known)}")
            if not isinstance(name, str) and not hasattr(name, "compute"):
                raise ValueError(f"a metric is a name or has update and compute, got {name!r}")
        if len(set(named)) < len(named):
            raise ValueError(f"a metric is named twice in {named}: name each once")
        return names


def build(
    config: MetricsConfig,
    device: str | torch.device = "cpu",
    *,
    split: str | None = None,
    offered: Collection[str] = ("target", "pairs", "labels", "pictures"),
) -> list[Metric]:
    """The metrics named in the config, in its order, their networks loaded onto `device`.

    What MODULE:NAME names, a class or function, is called with a `Setup`.

    Args:
        split: says in the protocols which images were scored, where it is not the config's split.
        offered: what the images offer of what metrics need (see `Metric.needs`).

    Raises:
        FileNotFoundError: a weights file is missing; the message names it and says where it comes from.
        ValueError: a weights file holds another network, or a metric needs what the images do not offer; code of the
            user's own fails, or two metrics have one name.
    """
    setup = Setup(config, split or config.split, device)
    metrics = [_made(name, setup) for name in (DEFAULT if config.names is None else config.names)]
    if config.names is None:
        return [metric for metric in metrics if not _lacking(metric, offered)]
    taken: set[str] = set()
    for metric in metrics:
        if lacking := _lacking(metric, offered):
            raise ValueError(f"metrics.names: {metric.name} needs {lacking}, and these data have none")
        if metric.name in taken:
            raise ValueError(f"metrics.names: two metrics are called {metric.name}: rename one")
        taken.add(metric.name)
    return metrics


def _made(wanted: Any, setup: Setup) -> Metric:
    if not isinstance(wanted, str):
        return wanted
    make = chosen("metrics", wanted, METRICS)
    metric = make(setup) if wanted in METRICS else call(wanted, make, setup)
    lacking = [name for name in ("name", "needs", "reset", "update", "compute") if not hasattr(metric, name)]
    if lacking:
        raise ValueError(f"{wanted} must make a metric, and its {type(metric).__name__} has no {lacking[0]}")
    return metric


def _lacking(metric: Metric, offered: Collection[str]) -> str | None:
    """What a metric needs and the data do not offer, in words."""
    return next((NEEDS[need] for need in sorted(metric.needs - {"teacher"}) if need not in offered), None)
