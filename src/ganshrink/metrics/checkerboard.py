"""The checkerboard that a generator leaves: what of its outputs on smooth inputs repeats every few pixels.

Where a network doubles the size, pixels of odd and even rows come about by different weights, so that a pattern with the
period of its strides can show where the picture has none (Odena et al. 2016, "Deconvolution and checkerboard artifacts").
Outputs on smooth inputs are smooth: what energy they have at the strides' frequencies is that pattern.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ganshrink.metrics.mean import MeanOverImages
from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import Listed, Pictures, Setup

PERIOD = 4  # of two doublings
GRID = 4  # values a side of which smooth pictures are made
MARGIN = 8  # of a side: the part at each border that is left out, where padding shows


def repeating(images: Tensor, period: int) -> Tensor:
    """How strong the part is that repeats every `period` pixels down or across: its root mean square (N,), in the images'
    units. `images` (N, C, H, W)."""
    height, width = images.shape[-2:]
    top, left = height // MARGIN, width // MARGIN
    inner = images[..., top : height - top, left : width - left].double()
    inner = inner - inner.mean(dim=(-2, -1), keepdim=True)
    down, across = (_waves(side, period, images.device) for side in inner.shape[-2:])
    found = (down @ inner.to(torch.complex128) @ across.T).abs().square()
    found[..., 0, 0] = 0
    return found.sum(dim=(-2, -1)).mean(dim=1).sqrt()


def _waves(side: int, period: int, device: torch.device) -> Tensor:
    """(period, side): 1 and the waves that repeat every `period` pixels, under a window that hides what is smooth."""
    window = torch.hann_window(side + 2, periodic=False, dtype=torch.float64, device=device)[1:-1]
    place = torch.arange(side, dtype=torch.float64, device=device)
    turns = torch.arange(period, dtype=torch.float64, device=device)[:, None] * place / period
    return torch.polar(window / window.sum(), -2 * torch.pi * turns)


def smooth(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (N, C, H, W) that pass smoothly through the values of a small grid (N, C, h, w)."""
    return F.interpolate(grid, size=size, mode="bicubic", align_corners=True).clamp(-1, 1)


def smooth_inputs(channels: int, size: tuple[int, int], count: int = 4) -> Tensor:
    """Random smooth pictures in [-1, 1], always the same ones."""
    numbers = torch.rand(count, channels, GRID, GRID, generator=torch.Generator().manual_seed(0))
    return smooth(2 * numbers - 1, size)


def checkerboard(batch: Pictures) -> Tensor:
    """Of each picture's smoothed input (N,), in levels of 255.

    Raises:
        ValueError: the batch has no single input picture, or no generator.
    """
    if batch.inputs is None or len(batch.inputs) != 1 or batch.generator is None:
        raise ValueError(
            "checkerboard smooths the input: a batch needs one picture as its input, and the generator"
        )
    [picture] = batch.inputs
    given = smooth(F.adaptive_avg_pool2d(picture, GRID), (picture.shape[-2], picture.shape[-1]))
    return repeating(batch.generator((given,)).clamp(-1, 1), PERIOD) * 127.5


def _checkerboard(setup: Setup) -> MeanOverImages:
    return MeanOverImages(
        "checkerboard",
        checkerboard,
        against=None,
        needs=frozenset({"pictures"}),
        better="lower",
        split=setup.split,
        details={
            "inputs": f"smoothed to {GRID}x{GRID} values",
            "periods": "2 and 4 pixels",
            "margin": f"1/{MARGIN} of a side",
        },
    )


CHECKERBOARD = Listed(
    _checkerboard,
    "lower",
    "pictures",
    "levels of a pattern of 2 or 4 pixels that outputs on smooth inputs show",
    mean_of,
)
