"""Unconditional generation: latent vectors in, images out, with a discriminator that sees photos.

Hinge losses as SAGAN (Zhang et al. 2019), or non-saturating ones with R1 on photos (Mescheder et al. 2018) and, every few
steps, the regularisation of path lengths, as StyleGAN2 (Karras et al. 2020).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.losses import GanMode, discriminator_loss, generator_loss, gradient_penalty, path_lengths
from ganshrink.nets.sagan import SAGANJudge
from ganshrink.nets.stylegan2 import ResidualJudge
from ganshrink.pruning import initialise
from ganshrink.system.distributed import mean_over_processes
from ganshrink.system.generator import Input
from ganshrink.system.generator import generate as generate_image
from ganshrink.training import Update
from ganshrink.training.tasks.paired import PairedConfig, PairedContext, PairedLearning
from ganshrink.training.tasks.task import TASK_NAMES, Nets, RealImages, Target, Term, adam_of, joined

JUDGES: dict[str, Any] = {"sagan": SAGANJudge, "residual": ResidualJudge}
KEPT = 0.99  # of the mean path length at each look


class UnconditionalConfig(PairedConfig):
    """SAGAN's settings. StyleGAN2's: gan_mode = "vanilla", discriminator = "residual", lambda_r1 = 10, lambda_path = 2."""

    name: Literal["unconditional"] = Field(default="unconditional", description=TASK_NAMES)
    gan_mode: GanMode = Field(
        default="hinge", description="hinge, lsgan or vanilla (non-saturating, as StyleGAN2's)"
    )
    lambda_gan: float = Field(default=1, gt=0, description="weight of the generator's GAN loss")
    lambda_recon: float = Field(
        default=10,
        ge=0,
        description="of a student: weight of the L1 distance to its teacher's image of the same vector",
    )
    discriminator: Literal["sagan", "residual"] = Field(
        default="sagan",
        description="sagan: spectral norm and attention; residual: StyleGAN2's blocks; both without another norm",
    )
    d_layers: int = Field(
        default=4, ge=1, description="how often D halves an image: four times for 64 pixels, three for 32"
    )
    d_norm: Literal["none"] = Field(default="none", description="D has no norm but its own")
    lambda_r1: float = Field(
        default=0, ge=0, description="weight (gamma) of R1, the penalty of D's gradient at photos"
    )
    r1_every: int = Field(default=16, ge=1, description="steps from one R1 to the next, which counts as many")
    lambda_path: float = Field(
        default=0, ge=0, description="weight of path lengths; for generators with a `mapping` to styles"
    )
    path_every: int = Field(default=4, ge=1, description="the same of path lengths; StyleGAN2's: 4")
    lr: float = Field(default=1e-4, gt=0, description="Adam's learning rate, of G")
    lr_d: float = Field(default=4e-4, gt=0, description="D's (two time scales)")
    beta1: float = Field(default=0.0, ge=0, lt=1, description="Adam's momentum")
    beta2: float = Field(default=0.9, ge=0, lt=1, description="Adam's decay of squared gradients")


class Mean:
    """A running mean that survives a kill."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, number: float) -> float:
        """The mean with one more number, which counts little."""
        self.value += (1 - KEPT) * (number - self.value)
        return self.value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = float(state_dict["value"])


@dataclass(frozen=True)
class Unconditional(PairedLearning):
    """Latent vectors to images: a GAN loss on photos; a student's image is drawn to its teacher's of the same vector, too.

    Data: `input` (B, N), latent vectors, and `target` (B, 3, H, W) in [-1, 1], photos that do not belong to them.

    Attributes:
        drawn: whether the generator is drawn to its teacher's image.
    """

    Config: ClassVar[type[BaseModel]] = UnconditionalConfig
    needs: ClassVar[frozenset[str]] = frozenset({"target", "latents"})
    student_settings: ClassVar[frozenset[str]] = frozenset({"lambda_recon"})

    config: UnconditionalConfig = field(default_factory=UnconditionalConfig)
    target: Target = "teacher"
    conditional: bool = False
    drawn: bool = False

    @property
    def cache(self) -> None:  # type: ignore[override]
        """None: vectors do not come again."""

    def as_student_task(
        self, teacher: nn.Module, *, target: Target | None = None, real: RealImages | None = None
    ) -> Self:
        """See `Task.as_student_task`.

        Raises:
            ValueError: for target="truth": no photo belongs to a vector.
        """
        if target == "truth":
            raise ValueError("latent vectors have no true image for a student: use target='teacher'")
        return replace(self, teacher=teacher, real=real or self.real, drawn=True)

    def nets(self, generator: nn.Module, in_channels: int, out_channels: int) -> Nets:
        """The generator as it is, and a fresh discriminator.

        Raises:
            ValueError: if inputs are pictures; or path lengths are asked for, of a generator without styles.
        """
        config = self.config
        if in_channels:
            raise ValueError("unconditional takes latent vectors, not pictures: set data.name = 'latents'")
        if config.lambda_path and not (isinstance(getattr(generator, "mapping", None), nn.Module)):
            raise ValueError(
                f"lambda_path = {config.lambda_path:g} is for generators with a `mapping` to styles, as stylegan2 has one, "
                f"and {type(generator).__name__} has none: set task.lambda_path = 0"
            )
        judge = JUDGES[config.discriminator](in_channels=out_channels, ndf=config.ndf, layers=config.d_layers)
        return {"G": generator, "D": initialise(judge)}

    def updates(self, nets: Nets, terms: Sequence[Term] = ()) -> list[Update]:
        """D, then G, which sees the new D; and every so many steps R1 for D and path lengths for G, which then count for all
        the steps between."""
        config = self.config

        def generate(context: PairedContext) -> Iterator[dict[str, Tensor]]:
            scores = context.scores(context.fake)
            losses = {"G_gan": config.lambda_gan * generator_loss(scores, mode=config.gan_mode)}
            if self.drawn and config.lambda_recon:
                distance = l1_loss(context.fake.float(), context.taught.float())
                losses["G_recon"] = config.lambda_recon * distance
            yield joined(losses, terms, context)

        def judge(context: PairedContext) -> Iterator[dict[str, Tensor]]:
            real, fake = context.scores(context.real), context.scores(context.fake.detach())
            d_real, d_fake = discriminator_loss(real, fake, mode=config.gan_mode, weight=1)
            yield {"D_real": d_real, "D_fake": d_fake}

        def calm(context: PairedContext) -> Iterator[dict[str, Tensor]]:
            photos = context.real.detach()
            photos.requires_grad_()
            penalty = gradient_penalty(context.scores(photos), photos)
            yield {"D_r1": config.lambda_r1 / 2 * config.r1_every * penalty}

        def smooth(context: PairedContext) -> Iterator[dict[str, Tensor]]:
            lengths = path_lengths(*styled(nets["G"], context.input))
            usual = mean.add(float(mean_over_processes(lengths.detach().mean())))
            penalty = (lengths - usual).square().mean()
            yield {"G_path": config.lambda_path * config.path_every * penalty}

        of_d = [adam_of(config, nets["D"].parameters(), lr=config.lr_d)]
        of_g = [adam_of(config, nets["G"].parameters())]
        updates, mean = [Update("D", of_d, judge), Update("G", of_g, generate)], Mean()
        if config.lambda_r1:
            updates.append(Update("R1", of_d, calm, every=config.r1_every))
        if config.lambda_path:
            kept = {"path_length": mean}
            updates.append(Update("path", of_g, smooth, every=config.path_every, state=kept))
        return updates


def styled(generator: nn.Module, input: Input) -> tuple[Tensor, Tensor]:
    """The images (B, C, H, W) of latent vectors, and the styles (B, N) that its `mapping` made on the way.

    Raises:
        ValueError: if the generator is compiled, so that nothing is seen of its inside.
    """
    caught: list[Tensor] = []
    mapping: nn.Module = generator.mapping  # type: ignore[assignment]
    hook = mapping.register_forward_hook(lambda module, given, made: caught.append(made))
    try:
        image = generate_image(generator, input)
    finally:
        hook.remove()
    if not caught:
        raise ValueError("lambda_path looks into the generator, which is compiled: leave compile out")
    return image, caught[0]
