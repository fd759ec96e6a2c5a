"""Learning from pairs by features: several discriminators at several scales, whose features are matched, and VGG-19's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.losses import discriminator_loss, feature_matching, generator_loss, weighted_distance
from ganshrink.metrics.vgg import VGG, load_vgg19
from ganshrink.training import Update
from ganshrink.training.tasks.paired import PairedConfig, PairedContext, PairedLearning
from ganshrink.training.tasks.task import Nets, Term, adam_of, joined


class MultiScaleConfig(PairedConfig):
    """The settings of such a training."""

    lambda_gan: float = Field(
        default=1, ge=0, description="weight of the generator's GAN loss; 0: no discriminator, no matching"
    )
    lambda_feat: float = Field(default=10, ge=0, description="weight of the matching of D's features")
    lambda_vgg: float = Field(default=10, ge=0, description="weight of the distance in VGG-19's features")
    vgg: str | None = Field(
        default=None,
        description="weights of torchvision's VGG-19 (`ganshrink fetch vgg19`); none: training without that distance, "
        "which the paper has",
    )
    lambda_recon: float = Field(
        default=0, ge=0, description="weight of the L1 distance to the target; the paper has none"
    )
    d_scales: int = Field(default=2, ge=1, description="discriminators, each at half the size of the last")
    lr_d: float | None = Field(default=None, gt=0, description="D's learning rate; none: the generator's")

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not (self.lambda_gan or self.lambda_recon or (self.lambda_vgg and self.vgg)):
            raise ValueError(
                "lambda_gan and lambda_recon are 0, and there is no vgg: nothing is left to learn from"
            )
        return self


class MultiScaleContext(PairedContext):
    """What one step knows; D gives features at every scale."""

    def judged(self, image: Tensor) -> list[list[Tensor]]:
        """D's features of an image at every scale, its scores last."""
        return self.nets["D"](self.ways["G"].seen(image))  # type: ignore[no-any-return]

    def scores(self, image: Tensor) -> Tensor:
        """How real D finds each image, (B, 1, 1, 1): the mean over scales of its mean score."""
        scales = [layers[-1].float().mean((1, 2, 3), keepdim=True) for layers in self.judged(image)]
        return torch.stack(scales).mean(0)


@dataclass(frozen=True)
class MultiScaleLearning(PairedLearning):
    """A generator that learns from pairs by what others see in its images. Data and attributes: see `PairedLearning`.

    Attributes:
        judge_weight: of D's losses.
    """

    Config: ClassVar[type[BaseModel]] = MultiScaleConfig
    Context: ClassVar[type[PairedContext]] = MultiScaleContext
    judge_weight: ClassVar[float] = 1.0

    config: MultiScaleConfig = field(default_factory=MultiScaleConfig)

    @cached_property
    def vgg(self) -> VGG | None:
        """VGG-19, where its distance is asked for.

        Raises:
            FileNotFoundError, ValueError: see `load_vgg19`.
        """
        config = self.config
        return load_vgg19(config.vgg) if config.vgg and config.lambda_vgg else None

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return (*super().frozen, *([] if self.vgg is None else [self.vgg]))

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is, and fresh discriminators where they judge; VGG's weights are read.

        Raises:
            ValueError: as `PairedLearning.nets` and `vgg`.
        """
        _ = self.vgg  # what cannot be read is told before anything is trained
        return super().nets(generator, in_channels, out_channels)

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """G, with an encoder where there is one, then D, which is shown the images that G made before its step; without a
        GAN loss, G alone."""
        config = self.config

        def generate(context: MultiScaleContext) -> Iterator[dict[str, Tensor]]:
            losses = {}
            if config.lambda_gan:
                fake = context.judged(context.fake)
                by_scale = [generator_loss(layers[-1], mode=config.gan_mode) for layers in fake]
                losses["G_gan"] = config.lambda_gan * torch.stack(by_scale).mean()
            if config.lambda_gan and config.lambda_feat:
                with torch.no_grad():
                    real = context.judged(context.real)
                losses["G_feat"] = config.lambda_feat * feature_matching(fake, real)
            if self.vgg is not None:
                with torch.no_grad():
                    wanted = self.vgg(context.real)
                losses["G_vgg"] = config.lambda_vgg * weighted_distance(self.vgg(context.fake), wanted)
            if config.lambda_recon:
                distance = l1_loss(context.fake.float(), context.target.float())
                losses["G_recon"] = config.lambda_recon * distance
            yield joined(losses, terms, context)

        def judge(context: MultiScaleContext) -> Iterator[dict[str, Tensor]]:
            real, fake = context.judged(context.real), context.judged(context.fake.detach())
            parts = [
                discriminator_loss(r[-1], f[-1], mode=config.gan_mode, weight=self.judge_weight)
                for r, f in zip(real, fake, strict=True)
            ]
            d_real, d_fake = (torch.stack(part).mean() for part in zip(*parts, strict=True))
            yield {"D_real": d_real, "D_fake": d_fake}

        makers = [p for name in ("G", "E") if name in nets for p in nets[name].parameters()]
        generation = Update("G", [adam_of(config, makers)], generate)
        if not config.lambda_gan:
            return [generation]
        return [generation, Update("D", [adam_of(config, nets["D"].parameters(), lr=config.lr_d)], judge)]
