"""What pix2pixHD (Wang et al. 2018, section 3.3) and GauGAN (Park et al. 2019) compare in place of pixels: the features of
their discriminators, and of VGG-19."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

VGG19_WEIGHTS = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}
"""Of the layers of VGG-19, as in the released code of both."""


def feature_matching(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """The mean L1 distance of a discriminator's features of generated images to those of real ones: over scales the mean,
    over layers four times the mean (which is their sum for the papers' four).

    Args:
        fake: for each scale, layers' features (B, C, h, w), the scores last, which do not count.
        real: the same of real images; detached by the caller.

    Returns:
        A float32 scalar.
    """
    total = []
    for ours, theirs in zip(fake, real, strict=True):
        distances = [l1_loss(a.float(), b.float()) for a, b in zip(ours[:-1], theirs[:-1], strict=True)]
        total.append(4 * torch.stack(distances).mean())
    return torch.stack(total).mean()


def weighted_distance(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], weights: Mapping[str, float] = VGG19_WEIGHTS
) -> Tensor:
    """The weighted sum over layers of mean L1 distances of features (B, C, h, w), a float32 scalar.

    Args:
        theirs: of the images to be like; detached by the caller.
    """
    return torch.stack(
        [weight * l1_loss(ours[name].float(), theirs[name].float()) for name, weight in weights.items()]
    ).sum()
