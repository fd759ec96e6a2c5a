"""The adversarial losses of the field: hinge (Lim and Ye 2017), least squares (Mao et al. 2017), vanilla (Goodfellow 2014).

Scores are a discriminator's raw outputs of any shape; every loss is their mean, in float32.
"""

from typing import Literal, get_args

from torch import Tensor
from torch.nn.functional import relu, softplus

GanMode = Literal["hinge", "lsgan", "vanilla"]


def discriminator_loss(
    real: Tensor, fake: Tensor, *, mode: GanMode, weight: float = 0.5
) -> tuple[Tensor, Tensor]:
    """What a discriminator minimises, as the two parts that are logged.

    Args:
        real: scores of real images, raw (no sigmoid).
        fake: scores of generated images, detached from the generator by the caller.
        mode: which loss.
        weight: factor of both parts; pix2pix halves them, which slows D down relative to G.

    Returns:
        `(D_real, D_fake)`, scalars.

    Raises:
        ValueError: for an unknown mode.
    """
    real, fake = real.float(), fake.float()
    if mode == "hinge":
        parts = relu(1 - real).mean(), relu(1 + fake).mean()
    elif mode == "lsgan":
        parts = (real - 1).square().mean(), fake.square().mean()
    elif mode == "vanilla":
        parts = softplus(-real).mean(), softplus(fake).mean()  # BCE with logits against 1 and 0
    else:
        raise _unknown(mode)
    return weight * parts[0], weight * parts[1]


def generator_loss(fake: Tensor, *, mode: GanMode) -> Tensor:
    """What a generator minimises, given the scores of its images; non-saturating in the vanilla mode.

    Raises:
        ValueError: for an unknown mode.
    """
    fake = fake.float()
    if mode == "hinge":
        return -fake.mean()
    if mode == "lsgan":
        return (fake - 1).square().mean()
    if mode == "vanilla":
        return softplus(-fake).mean()
    raise _unknown(mode)


def _unknown(mode: str) -> ValueError:
    return ValueError(f"gan_mode must be one of {', '.join(get_args(GanMode))}, got {mode!r}")
