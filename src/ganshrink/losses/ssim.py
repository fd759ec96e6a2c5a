"""Structural similarity as a loss has it (Wang et al. 2004, by the code that OMGD and others train with).

Not torchmetrics', which mirrors the borders: here there are zeros beyond them, and the constants are those for a data
range of 1 although images span [-1, 1].
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # the field's K1 and K2, for a data range of 1


def structural_similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of each pair of images, differentiable in both.

    Local means, variances and covariance under an 11x11 Gaussian window (sigma 1.5) over an image with zeros around
    it, for each channel by itself; the mean over all pixels and channels.

    Args:
        x: (B, C, H, W).
        y: the images to compare with, of the same shape.

    Returns:
        (B,), float32 whatever autocast says, from -1 to 1; 1 for equal images. The loss is 1 minus it.

    Raises:
        ValueError: the shapes differ, or have not four axes.
    """
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError(
            f"the images to compare must be (B, C, H, W) of one shape, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    with torch.autocast(x.device.type, enabled=False):
        x, y = x.float(), y.float()
        # SSIM needs the variances' sum alone, so that four maps do.
        mean_x, mean_y, squares, products = _local_means(
            torch.cat([x, y, x.square() + y.square(), x * y], 1)
        ).chunk(4, 1)
        means_squared, means_product = mean_x.square() + mean_y.square(), mean_x * mean_y
        variances, covariance = squares - means_squared, products - means_product
        alike = (2 * means_product + C1) * (2 * covariance + C2)
        return (alike / ((means_squared + C1) * (variances + C2))).mean((1, 2, 3))


def _local_means(maps: Tensor) -> Tensor:
    """(B, C, H, W) under the window, zeros beyond the borders. A Gaussian is the product of one along each axis."""
    at = torch.arange(WINDOW, device=maps.device, dtype=torch.float32) - WINDOW // 2
    window = torch.exp(-at.square() / (2 * SIGMA**2))
    window = (window / window.sum()).expand(maps.shape[1], 1, 1, WINDOW)
    along, half = maps.shape[1], WINDOW // 2
    maps = conv2d(maps, window, padding=(0, half), groups=along)
    return conv2d(maps, window.mT, padding=(half, 0), groups=along)
