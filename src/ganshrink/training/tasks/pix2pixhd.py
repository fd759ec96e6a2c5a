"""Pix2pixHD (Wang et al. 2018) for any generator: least squares at several scales, D's and VGG's features."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from ganshrink.losses import GanMode
from ganshrink.training.tasks.multiscale import MultiScaleConfig, MultiScaleLearning
from ganshrink.training.tasks.task import TASK_NAMES, DNorm


class Pix2PixHDConfig(MultiScaleConfig):
    """The paper's settings (section 4)."""

    name: Literal["pix2pixhd"] = Field(default="pix2pixhd", description=TASK_NAMES)
    gan_mode: GanMode = Field(default="lsgan", description="hinge, lsgan (the paper's) or vanilla")
    d_scales: int = Field(
        default=3, ge=1, description="discriminators, each at half the size of the last; 2 in its code"
    )
    d_norm: DNorm = Field(default="instance", description="D's norm")


@dataclass(frozen=True)
class Pix2PixHD(MultiScaleLearning):
    """Pix2pixHD: least squares at three scales, D's features matched, VGG's distance; no distance of pixels.

    Data: as for `gaugan`; D sees input and image."""

    Config: ClassVar[type[BaseModel]] = Pix2PixHDConfig
    judge_weight: ClassVar[float] = 0.5

    config: Pix2PixHDConfig = field(default_factory=Pix2PixHDConfig)
