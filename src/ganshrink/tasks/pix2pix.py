"""Pix2Pix (Isola et al. 2017) for any generator: a conditional GAN loss and L1 to the target, on paired images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.engine import Context, Forward, Taps, Update, adam
from ganshrink.losses import GanMode, discriminator_loss, generator_loss
from ganshrink.nets import build
from ganshrink.tasks.task import Nets, RealImages, Target, Term, joined


class Pix2PixConfig(BaseModel):
    """The paper's settings, as GAN Compression and CAT run them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["pix2pix"] = "pix2pix"
    gan_mode: GanMode = Field(
        default="hinge", description="hinge, lsgan or vanilla (the original's cross entropy)"
    )
    lambda_gan: float = Field(default=1, ge=0, description="weight of the generator's GAN loss")
    lambda_recon: float = Field(default=100, ge=0, description="weight of the L1 distance to the target")
    ndf: int = Field(
        default=128, ge=1, description="D's width: 128 in GAN Compression and CAT, 64 in the original code"
    )
    d_layers: int = Field(
        default=3, ge=1, description="D's strided convolutions; 3: judges patches of 70 pixels"
    )
    d_norm: Literal["batch", "instance", "none"] = Field(
        default="batch", description="D's norm, in the papers the same as the generator's"
    )
    lr: float = Field(default=2e-4, gt=0, description="Adam's learning rate, of G and D")
    beta1: float = Field(default=0.5, ge=0, lt=1, description="Adam's momentum")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam's decay of squared gradients")


@dataclass
class Pix2PixContext(Context):
    """What one step of Pix2Pix knows; each image and its features are computed once, when first asked for."""

    nets: Nets
    task: "Pix2Pix"
    taps: Mapping[str, Taps]

    @property
    def input(self) -> Tensor:
        return self.batch["input"]

    @property
    def fake(self) -> Tensor:
        """G's image."""
        return self._student[0]

    @property
    def taught(self) -> Tensor:
        """The teacher's image, without a gradient."""
        return self._teacher[0]

    @property
    def target(self) -> Tensor:
        """What the reconstruction loss compares G's image with."""
        return self.taught if self.task.target == "teacher" else self.batch["target"]

    @property
    def real(self) -> Tensor:
        """What D is shown as real."""
        return self.taught if self.task.real == "teacher" else self.batch["target"]

    def features(self, net: Literal["G", "teacher"]) -> dict[str, Tensor]:
        """What the taps of a net caught while it made its image of this step."""
        return self._student[1] if net == "G" else self._teacher[1]

    def scores(self, image: Tensor) -> Tensor:
        """D's scores of an image, given the input."""
        return self.nets["D"](torch.cat([self.input, image], 1))

    @cached_property
    def _student(self) -> tuple[Tensor, dict[str, Tensor]]:
        return self.nets["G"](self.input), self._caught("G")

    @cached_property
    def _teacher(self) -> tuple[Tensor, dict[str, Tensor]]:
        if self.task.teacher is None:
            raise ValueError("this task has no teacher: make one with task.distilling(teacher)")
        with torch.no_grad():
            return self.task.teacher(self.input), self._caught("teacher")

    def _caught(self, net: str) -> dict[str, Tensor]:
        return self.taps[net].take() if net in self.taps else {}


@dataclass(frozen=True)
class Pix2Pix:
    """The task. Data: `input` (B, C, H, W) and `target` (B, 3, H, W) in [-1, 1]."""

    Config: ClassVar[type[BaseModel]] = Pix2PixConfig

    config: Pix2PixConfig = field(default_factory=Pix2PixConfig)
    teacher: nn.Module | None = None
    target: Target = "truth"
    real: RealImages = "photos"

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return () if self.teacher is None else (self.teacher,)

    def distilling(
        self, teacher: nn.Module, *, target: Target = "truth", real: RealImages = "photos"
    ) -> Self:
        """See `Task.distilling`."""
        return replace(self, teacher=teacher, target=target, real=real)

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is, and a fresh PatchGAN that sees input and image."""
        from ganshrink.channels import initialise

        discriminator = build(
            "patchgan",
            in_channels=in_channels + out_channels,
            ndf=self.config.ndf,
            layers=self.config.d_layers,
            norm=self.config.d_norm,
        )
        return {"G": generator, "D": initialise(discriminator)}

    def forward(self, nets: Nets, taps: Mapping[str, Taps] | None = None) -> Forward:
        """See `Task.forward`. `taps` may be on "G" and on "teacher"; the context's `features` gives what they caught."""

        def context(batch: dict[str, Any], step: int, epoch: int) -> Pix2PixContext:
            return Pix2PixContext(batch, step, epoch, nets, self, taps or {})

        return context

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """D, then G, which sees the new D."""
        config = self.config
        betas = (config.beta1, config.beta2)

        def judge(context: Pix2PixContext) -> Iterator[dict[str, Tensor]]:
            fake = context.scores(context.fake.detach())
            real = context.scores(context.real)
            d_real, d_fake = discriminator_loss(real, fake, mode=config.gan_mode)
            yield {"D_real": d_real, "D_fake": d_fake}

        def generate(context: Pix2PixContext) -> Iterator[dict[str, Tensor]]:
            scores = context.scores(context.fake)
            losses = {
                "G_gan": config.lambda_gan * generator_loss(scores, mode=config.gan_mode),
                "G_recon": config.lambda_recon * l1_loss(context.fake.float(), context.target.float()),
            }
            yield joined(losses, terms, context)

        return [
            Update("D", [adam(nets["D"].parameters(), lr=config.lr, betas=betas)], judge),
            Update("G", [adam(nets["G"].parameters(), lr=config.lr, betas=betas)], generate),
        ]
