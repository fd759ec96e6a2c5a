"""The perceptual distance of GAN Slimming (Wang et al. 2020, Eq. 2): content and style in the features of a fixed network.

The paper cites Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer", whose content term is a squared
L2 at relu2_2. Its released code, which made its results, takes an L1 at relu1_2 in its place; so do we.
Always in float32: a Gram matrix sums over all pixels, and the style term is small differences of its entries times 1e5.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

STYLE_WEIGHT = 1e5


def gram(features: Tensor) -> Tensor:
    """Gram matrices (B, C, C), float32, of features (B, C, H, W): products of channels summed over pixels, over C*H*W.

    Raises:
        ValueError: for anything but four axes.
    """
    if features.ndim != 4:
        raise ValueError(
            f"a Gram matrix is made of features (B, C, H, W), got {tuple(features.shape)}: add the missing axes"
        )
    with torch.autocast(features.device.type, enabled=False):
        rows = features.float().flatten(2)
        return rows @ rows.mT / (rows.shape[1] * rows.shape[2])


def perceptual_distance(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    *,
    content: str,
    style: Sequence[str],
    style_weight: float = STYLE_WEIGHT,
) -> Tensor:
    """How different two batches of images look: mean |difference| at one layer, mean squared one of Gram matrices at others.

    Args:
        ours: features (B, C, H, W) of the images that learn, by layer.
        theirs: features of the images to be like, of the same shapes; detached by the caller.
        content: the layer of the L1 term.
        style: the layers of the Gram terms, which are summed.
        style_weight: factor of that sum; 0 leaves it out.

    Returns:
        A float32 scalar, the mean over the batch: that of a batch is the mean of those of its images.

    Raises:
        ValueError: a layer is missing on one side, or its shapes differ.
    """
    wanted = dict.fromkeys((content, *style))
    for name in wanted:
        _check(name, ours, theirs)
    first = ours[content]
    with torch.autocast(first.device.type, enabled=False):
        distance = l1_loss(first.float(), theirs[content].float())
        if style_weight:
            for name in style:
                distance = distance + style_weight * mse_loss(gram(ours[name]), gram(theirs[name]))
        return distance


def _check(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for features in (ours, theirs):
        if name not in features:
            raise ValueError(f"there are no features of layer {name!r}, only of {', '.join(features)}")
    if ours[name].shape != theirs[name].shape:  # losses would broadcast some of these
        raise ValueError(
            f"the features of {name} to compare are {tuple(ours[name].shape)} and {tuple(theirs[name].shape)}: "
            "they must be of as many images of one size"
        )
