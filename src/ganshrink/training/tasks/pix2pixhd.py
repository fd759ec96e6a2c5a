"""Pix2pixHD (Wang et al. 2018) for any generator: least squares at several scales, D's and VGG's features."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from ganshrink.losses import GanMode
from ganshrink.nets.instance_encoder import InstanceEncoder
from ganshrink.pruning import initialise
from ganshrink.training.tasks.multiscale import MultiScaleConfig, MultiScaleContext, MultiScaleLearning
from ganshrink.training.tasks.paired import PairedContext
from ganshrink.training.tasks.task import TASK_NAMES, DNorm, Nets


class Pix2PixHDConfig(MultiScaleConfig):
    """The paper's settings (section 4)."""

    name: Literal["pix2pixhd"] = Field(default="pix2pixhd", description=TASK_NAMES)
    gan_mode: GanMode = Field(default="lsgan", description="hinge, lsgan (the paper's) or vanilla")
    d_scales: int = Field(
        default=3, ge=1, description="discriminators, each at half the size of the last; 2 in its code"
    )
    d_norm: DNorm = Field(default="instance", description="D's norm")
    features: int = Field(
        default=0,
        ge=0,
        description="train an encoder of instances together with the generator, of so many features, as many as "
        "data.features (3 in the paper): for `ganshrink train`; compress names its run as data.encoder",
    )
    nef: int = Field(default=16, ge=1, description="width of that encoder")


class Pix2PixHDContext(MultiScaleContext):
    """What one step knows; where an encoder is trained, it fills the last channels of the input."""

    @cached_property
    def input(self) -> Tensor:
        given = self.batch["input"]
        if "E" not in self.nets:
            return given  # type: ignore[no-any-return]
        features = self.nets["E"](self.batch["target"], self.batch["instances"])
        return torch.cat([given[:, : -features.shape[1]], features.to(given.dtype)], 1)

    def judged(self, image: Tensor) -> list[list[Tensor]]:
        """As ever; no encoder learns through what D sees beside an image."""
        if "E" not in self.nets:
            return super().judged(image)
        return self.nets["D"](torch.cat([self.input.detach(), image], 1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Pix2PixHD(MultiScaleLearning):
    """Pix2pixHD: least squares at three scales, D's features matched, VGG's distance; no distance of pixels.

    Data: as for `gaugan`; D sees input and image. With `features` the input's last channels are those of the encoder "E",
    and batches hold `instances`, int64 (B, 1, H, W)."""

    Config: ClassVar[type[BaseModel]] = Pix2PixHDConfig
    Context: ClassVar[type[PairedContext]] = Pix2PixHDContext
    judge_weight: ClassVar[float] = 0.5

    config: Pix2PixHDConfig = field(default_factory=Pix2PixHDConfig)

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """See `MultiScaleLearning.nets`; with `features` also the encoder, "E"."""
        nets, config = super().nets(generator, in_channels, out_channels), self.config
        if config.features:
            made = InstanceEncoder(in_channels=out_channels, features=config.features, nef=config.nef)
            nets["E"] = initialise(made)
        return nets
