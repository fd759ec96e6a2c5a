"""Integer levels, and rounding to them with a gradient that passes straight through."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TINY = torch.finfo(
    torch.float32
).tiny  # a scale is no smaller: a weight of zeros has levels too, all of them zero

SHARES = 40  # of an observed range that are tried


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The numbers `(level - zero) * scale` for whole levels from `lowest` to `highest`.

    Attributes:
        scale: from one level to the next: a number, or a float32 tensor that broadcasts with what is quantized (one
            scale for each channel).
        zero: the level that means 0, or one for each channel.
    """

    scale: float | Tensor
    zero: int | Tensor
    lowest: int
    highest: int

    def levels(self, x: Tensor) -> Tensor:
        """The nearest level of each number, in float32; halves go to the even one, as ONNX's QuantizeLinear has it."""
        return (torch.round(x.float() / self.scale) + self.zero).clamp(self.lowest, self.highest)

    def round(self, x: Tensor) -> Tensor:
        """The nearest number of the grid, in float32, without a gradient of its own."""
        return (self.levels(x) - self.zero) * self.scale

    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest number of the grid."""
        return (self.lowest - self.zero) * self.scale, (self.highest - self.zero) * self.scale

    def in_bytes(self, *, signed: bool) -> "Grid":
        """The same scale with what no byte can hold dropped: the paper's level 256, or its +128."""
        least, most = (-128, 127) if signed else (0, 255)
        return Grid(self.scale, self.zero, max(self.lowest, least), min(self.highest, most))


@dataclass(frozen=True, slots=True)
class LayerGrids:
    """Of one convolution.

    Attributes:
        input: the grid of its input; None where that stays float, since it is the network's own or rounds too badly.
        output: of its output; scales and zeros are (C, 1, 1).
        snr_db: how far the rounding error of its input was below the input's variance when the grid was found; None
            where it was not looked for. What has little is what an integer network loses by.
    """

    input: Grid | None
    output: Grid
    snr_db: float | None = None


Grids = Mapping[str, LayerGrids]
"""The grids of a network's convolutions, by path."""


def activation_grid(bits: int, limit: float) -> Grid:
    """GAN Slimming's grid of activations (Eq. 7): [0, p] in steps of p / 2^m. Both ends count: 257 levels for m = 8."""
    return Grid(limit / 2**bits, zero=0, lowest=0, highest=2**bits)


def trained_grid(bits: int, scale: float, zero: int) -> Grid:
    """The grid of an observed range that a network was trained under: 2^m levels."""
    return Grid(scale, zero, lowest=0, highest=2**bits - 1)


def observed_grid(bits: int, low: Tensor, high: Tensor) -> Grid:
    """2^m levels over a range that was seen, widened to hold 0, which is a level: padding stays exact.

    Args:
        low, high: the range, one number each or one for each channel. A channel that hardly moves beside the others gets
            a millionth of the widest range.
    """
    low, high = low.double().clamp(max=0), high.double().clamp(min=0)
    width = high - low
    scale = (torch.maximum(width, width.amax() * 1e-6) / (2**bits - 1)).clamp_min(TINY).float()
    zero = torch.round(-low / scale)
    if scale.dim():
        return Grid(scale, zero.float(), lowest=0, highest=2**bits - 1)
    return Grid(float(scale), int(zero), lowest=0, highest=2**bits - 1)


def fitted_grid(bits: int, low: Tensor, high: Tensor, sample: Tensor) -> tuple[Grid, float]:
    """Of the grids over [k low, k high], k from 1/40 to 1, the one that rounds a sample with the least mean square error:
    a few outliers must not make the steps coarse for all. And the sample's variance over that error, in dB."""
    grids = [observed_grid(bits, low * k / SHARES, high * k / SHARES) for k in range(1, SHARES + 1)]
    errors = [float((grid.round(sample) - sample).square().mean()) for grid in grids]
    best = min(range(SHARES), key=lambda k: errors[k])
    signal = float(sample.var(correction=0))
    return grids[best], 10 * math.log10(max(signal, TINY) / max(errors[best], TINY))


def weight_grid(weight: Tensor, bits: int, levels: str, *, channel: int | None = None) -> Grid:
    """A symmetric grid over the present range of a weight.

    Args:
        levels: `paper`: steps of max|W| / 2^(n-1), from -2^(n-1) to 2^(n-1) (GAN Slimming, Eq. 8); `code`: of
            max|W| / (2^(n-1) - 1), as its released code has it.
        channel: the axis of output channels for a scale each; None: one scale for the whole tensor.
    """
    half = 2 ** (bits - 1) - (levels == "code")
    size = weight.detach().float().abs()
    if channel is None:
        largest = size.amax()
    else:
        largest = size.amax([axis for axis in range(weight.dim()) if axis != channel], keepdim=True)
    return Grid((largest / half).clamp_min(TINY), zero=0, lowest=-half, highest=half)
