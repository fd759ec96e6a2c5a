"""Pix2Pix (Isola et al. 2017) for any generator: a conditional GAN loss and L1 to the target, on paired images."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from ganshrink.training.tasks.paired import PairedConfig, PairedLearning
from ganshrink.training.tasks.task import TASK_NAMES


class Pix2PixConfig(PairedConfig):
    """The paper's settings, as GAN Compression and CAT run them."""

    name: Literal["pix2pix"] = Field(
        default="pix2pix",
        description=TASK_NAMES,
    )
    ndf: int = Field(
        default=128,
        ge=1,
        description="D's width: 128 in GAN Compression and what followed it, 64 in the original code",
    )


@dataclass(frozen=True)
class Pix2Pix(PairedLearning):
    """Pix2Pix: a conditional GAN loss and L1 to the target, on pairs; the default task.

    Data: `input` (B, C, H, W) and `target` (B, 3, H, W) in [-1, 1]; D sees both."""

    Config: ClassVar[type[BaseModel]] = Pix2PixConfig

    config: Pix2PixConfig = field(default_factory=Pix2PixConfig)
