"""Learning from pairs: a GAN loss and an L1 distance to what each input should become.

Pix2Pix is this with true pairs. A student of CycleGAN, or of any trained generator, is this with its teacher's outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.losses import GanMode, discriminator_loss, generator_loss
from ganshrink.system.generator import Input
from ganshrink.training import Context, Forward, Taps, Update
from ganshrink.training.tasks.generator_pass import GeneratorPass, Tapped
from ganshrink.training.tasks.task import (
    DNorm,
    Nets,
    RealImages,
    Target,
    Term,
    adam_of,
    joined,
    new_discriminator,
)
from ganshrink.training.tasks.teacher_cache import TeacherCache


class PairedConfig(BaseModel):
    """The settings of such a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gan_mode: GanMode = Field(
        default="hinge", description="hinge, lsgan or vanilla (the original's cross entropy)"
    )
    lambda_gan: float = Field(
        default=1, ge=0, description="weight of the generator's GAN loss; 0: no discriminator"
    )
    lambda_recon: float = Field(default=100, ge=0, description="weight of the L1 distance to the target")
    ndf: int = Field(default=64, ge=1, description="D's width")
    d_layers: int = Field(
        default=3, ge=1, description="D's strided convolutions; 3: judges patches of 70 pixels"
    )
    d_norm: DNorm = Field(default="batch", description="D's norm, in the papers the same as the generator's")
    lr: float = Field(default=2e-4, gt=0, description="Adam's learning rate, of G and D")
    beta1: float = Field(default=0.5, ge=0, lt=1, description="Adam's momentum")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam's decay of squared gradients")


@dataclass
class PairedContext(Context):
    """What one step knows; each image and its features are computed once, when first asked for."""

    nets: Nets
    task: "PairedLearning"
    taps: Mapping[str, Taps]

    @cached_property
    def ways(self) -> Mapping[str, GeneratorPass]:
        """The generator at work, as "G"."""
        task = self.task
        G = self.nets["G"]
        return {"G": GeneratorPass(G, self.input, task.teacher, self.taps, task.conditional, task.cache)}

    @property
    def input(self) -> Input:
        return self.batch["input"]

    @property
    def fake(self) -> Tensor:
        """G's image."""
        return self.ways["G"].fake

    @property
    def taught(self) -> Tensor:
        """The teacher's image, without a gradient."""
        return self.ways["G"].taught

    @property
    def target(self) -> Tensor:
        """What the reconstruction loss compares G's image with."""
        return self.taught if self.task.target == "teacher" else self.batch["target"]

    @property
    def real(self) -> Tensor:
        """What D is shown as real."""
        return self.taught if self.task.real == "teacher" else self.batch["target"]

    def features(self, net: Tapped) -> dict[str, Tensor]:
        """What the taps of a net caught while it made its image of this step."""
        return self.ways["G"].features(net)

    def scores(self, image: Tensor) -> Tensor:
        """D's scores of an image: beside the input's images of its size where D is conditional, else alone."""
        return self.nets["D"](self.ways["G"].seen(image))


@dataclass(frozen=True)
class PairedLearning:
    """A generator that learns from pairs. Data: `input` (B, C, H, W), or a tuple of tensors for a generator of several,
    and, unless the teacher gives it, `target` (B, 3, H, W) in [-1, 1].

    Attributes:
        teacher: a trained generator; looks on without gradients.
        target: what the reconstruction loss pulls G to: the data's target, or the teacher's image.
        real: what D is shown as real: the data's target, or the teacher's image.
        conditional: whether D sees the input beside the image, which makes sense only if `real` belongs to it.
    """

    Config: ClassVar[type[BaseModel]] = PairedConfig
    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    needs_teacher: ClassVar[bool] = False
    both_ways: ClassVar[bool] = False
    student_settings: ClassVar[frozenset[str]] = frozenset()
    Context: ClassVar[type[PairedContext]] = PairedContext

    config: PairedConfig = field(default_factory=PairedConfig)
    teacher: nn.Module | None = None
    target: Target = "truth"
    real: RealImages = "photos"
    conditional: bool = True

    @cached_property
    def cache(self) -> TeacherCache | None:
        """What the teacher made of inputs that came before."""
        return None if self.teacher is None else TeacherCache(self.teacher)

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return () if self.teacher is None else (self.teacher,)

    def as_student_task(
        self, teacher: nn.Module, *, target: Target | None = None, real: RealImages | None = None
    ) -> Self:
        """See `Task.as_student_task`; what is not given stays as it is."""
        return replace(self, teacher=teacher, target=target or self.target, real=real or self.real)

    def with_teachers(self, teachers: Nets) -> Self:
        """See `Task.with_teachers`; its teacher is "G"."""
        return replace(self, teacher=teachers["G"])

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is, and a fresh discriminator where one judges.

        Raises:
            ValueError: if it is to see the input, and that holds no image.
        """
        if not self.config.lambda_gan:
            return {"G": generator}
        if self.conditional and not in_channels:
            raise ValueError(
                "the discriminator sees the input beside the image, but no input is an image of the target's size: "
                "use task = 'image2image', or task.lambda_gan = 0"
            )
        seen = out_channels + (in_channels if self.conditional else 0)
        return {"G": generator, "D": new_discriminator(seen, self.config)}

    def one_way(self, nets: Nets, direction: str) -> Nets:
        """See `Task.one_way`: there is no other."""
        return nets

    def forward(self, nets: Nets, taps: Mapping[str, Taps] | None = None) -> Forward:
        """See `Task.forward`. `taps` may be on "G" and on "teacher"; the context's `features` gives what they caught."""

        def context(batch: dict[str, Any], step: int, epoch: int) -> PairedContext:
            return self.Context(batch, step, epoch, nets, self, taps or {})

        return context

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """D, then G, which sees the new D; without a GAN loss, G alone."""
        config = self.config

        def judge(context: PairedContext) -> Iterator[dict[str, Tensor]]:
            fake = context.scores(context.fake.detach())
            real = context.scores(context.real)
            d_real, d_fake = discriminator_loss(real, fake, mode=config.gan_mode)
            yield {"D_real": d_real, "D_fake": d_fake}

        def generate(context: PairedContext) -> Iterator[dict[str, Tensor]]:
            losses = {}
            if config.lambda_gan:
                scores = context.scores(context.fake)
                losses["G_gan"] = config.lambda_gan * generator_loss(scores, mode=config.gan_mode)
            distance = l1_loss(context.fake.float(), context.target.float())
            losses["G_recon"] = config.lambda_recon * distance
            yield joined(losses, terms, context)

        generation = Update("G", [adam_of(config, nets["G"].parameters())], generate)
        if not config.lambda_gan:
            return [generation]
        return [Update("D", [adam_of(config, nets["D"].parameters())], judge), generation]
