"""GauGAN (Park et al. 2019) for any generator of label maps: hinge losses, D's and VGG's features, a rate for each net."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from ganshrink.training.tasks.multiscale import MultiScaleConfig, MultiScaleLearning
from ganshrink.training.tasks.task import TASK_NAMES, DNorm


class GauGANConfig(MultiScaleConfig):
    """The paper's settings (section 3 and appendix A)."""

    name: Literal["gaugan"] = Field(default="gaugan", description=TASK_NAMES)
    d_norm: DNorm = Field(default="instance", description="D's norm")
    d_spectral: bool = Field(default=True, description="spectral norm on D's normed convolutions")
    lr: float = Field(default=1e-4, gt=0, description="Adam's learning rate, of G")
    lr_d: float | None = Field(default=4e-4, gt=0, description="D's (two time scales); none: G's")
    beta1: float = Field(default=0.0, ge=0, lt=1, description="Adam's momentum")
    beta2: float = Field(default=0.9, ge=0, lt=1, description="Adam's decay of squared gradients")


@dataclass(frozen=True)
class GauGAN(MultiScaleLearning):
    """GauGAN: hinge losses at two scales, D's features matched, VGG's distance; no distance of pixels.

    Data: `input` (B, C, H, W), a label map one-hot, perhaps with the edges of instances, and `target` (B, 3, H, W) in
    [-1, 1]; D sees both."""

    Config: ClassVar[type[BaseModel]] = GauGANConfig

    config: GauGANConfig = field(default_factory=GauGANConfig)
