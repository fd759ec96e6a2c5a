"""Any trained generator and pictures to feed it: the student learns from the generator's own outputs.

No targets, no discriminator and nothing of how the generator was trained are needed.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from ganshrink.losses import GanMode
from ganshrink.training.tasks.paired import PairedConfig, PairedLearning
from ganshrink.training.tasks.task import TASK_NAMES, DNorm, RealImages, Target


class Image2ImageConfig(PairedConfig):
    """The L1 distance to the teacher's image alone; a GAN loss on request, whose real images are the teacher's."""

    name: Literal["image2image"] = Field(
        default="image2image",
        description=TASK_NAMES,
    )
    gan_mode: GanMode = Field(default="lsgan", description="hinge, lsgan or vanilla; with lambda_gan only")
    lambda_gan: float = Field(default=0, ge=0, description="weight of the GAN loss; 0: no discriminator")
    lambda_recon: float = Field(
        default=10, ge=0, description="weight of the L1 distance to the teacher's image"
    )
    d_norm: DNorm = Field(default="instance", description="D's norm")


@dataclass(frozen=True)
class Image2Image(PairedLearning):
    """A generator's own outputs as the target, for inputs alone.

    Data: `input` (B, C, H, W); a `target` is not looked at."""

    Config: ClassVar[type[BaseModel]] = Image2ImageConfig
    needs: ClassVar[frozenset[str]] = frozenset()
    needs_teacher: ClassVar[bool] = True

    config: Image2ImageConfig = field(default_factory=Image2ImageConfig)
    target: Target = "teacher"
    real: RealImages = "teacher"
    conditional: bool = False
