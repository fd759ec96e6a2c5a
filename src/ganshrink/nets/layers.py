"""The few layers that several generators share."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


def norm_layer(norm: str, *, affine: bool | None = None) -> Norm:
    """A norm by the field's names: `instance` (no running statistics), `batch`, `batch_stats` (a batch norm without running
    statistics, which sees the batch in evaluation too), or `none`.

    `affine=None` takes each norm's own habit: batch norms have a scale and a shift, instance norms have none.
    """
    if norm == "instance":
        return partial(nn.InstanceNorm2d, affine=bool(affine), track_running_stats=False)
    if norm in ("batch", "batch_stats"):
        return partial(nn.BatchNorm2d, affine=affine is not False, track_running_stats=norm == "batch")
    if norm == "none":
        return lambda channels: nn.Identity()
    raise ValueError(f"norm must be instance, batch, batch_stats or none, got {norm!r}")


def needs_bias(norm: str) -> bool:
    """The field's habit: convs before a batch norm carry no bias, those before an instance norm do."""
    return norm not in ("batch", "batch_stats")


class Residual(nn.Module):
    """`x + body(x)`. The sum is the block's only job, so a dead body leaves a plain identity."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def padded_conv(
    inside: int, outside: int, kernel: int, *, padding: str = "reflect", **options: Any
) -> list[nn.Module]:
    """A convolution that keeps the size, after what pads its input: `reflect`, or `zeros`, which the convolution adds
    itself, as devices like it. Both are two modules, so that the layers of either net have the same names; with a kernel
    of one the convolution stands alone.

    Raises:
        ValueError: for another padding, or an even kernel.
    """
    if padding not in ("reflect", "zeros"):
        raise ValueError(f"padding must be reflect or zeros, got {padding!r}")
    if kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, got {kernel}")
    border = kernel // 2
    if not border:
        return [nn.Conv2d(inside, outside, kernel, **options)]
    if padding == "reflect":
        return [nn.ReflectionPad2d(border), nn.Conv2d(inside, outside, kernel, **options)]
    return [nn.Identity(), nn.Conv2d(inside, outside, kernel, padding=border, **options)]


def doubling(
    inside: int, outside: int, upsample: str, *, kernel: int = 3, padding: str = "zeros", bias: bool = True
) -> list[nn.Module]:
    """Twice the size. `transposed`: a transposed convolution of stride 2, with a kernel of 3 or 4. `resize`: nearest, then a
    padded 3x3 convolution. `shuffle`: a padded 3x3 convolution to four times the channels, then pixel shuffle.

    Raises:
        ValueError: for another way.
    """
    if upsample == "transposed":
        more = kernel % 2  # of the output, so that it is twice the input
        return [nn.ConvTranspose2d(inside, outside, kernel, 2, padding=1, output_padding=more, bias=bias)]
    if upsample == "resize":
        enlarge = nn.Upsample(scale_factor=2.0, mode="nearest")
        return [enlarge, *padded_conv(inside, outside, 3, padding=padding, bias=bias)]
    if upsample == "shuffle":
        return [*padded_conv(inside, 4 * outside, 3, padding=padding, bias=bias), nn.PixelShuffle(2)]
    raise ValueError(f"upsample must be transposed, resize or shuffle, got {upsample!r}")


def residual_block(width: int, norm: Norm, *, bias: bool, padding: str = "reflect") -> Residual:
    """Two padded 3x3 convolutions; a plain sum, with no activation after it."""
    return Residual(
        nn.Sequential(
            *padded_conv(width, width, 3, padding=padding, bias=bias),
            norm(width),
            nn.ReLU(),
            *padded_conv(width, width, 3, padding=padding, bias=bias),
            norm(width),
        )
    )


class BlurDown(nn.Module):
    """Halve the size without aliasing: reflect-padded binomial filter [1, 2, 1], every second pixel (Zhang 2019)."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _binomial((1.0, 2.0, 1.0), channels))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Double the size without aliasing: a replicate-padded transposed convolution with the filter [1, 3, 3, 1]."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", 4 * _binomial((1.0, 3.0, 3.0, 1.0), channels))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, self.filt, stride=2, padding=3, groups=x.shape[1])


def _binomial(row: Sequence[float], channels: int) -> Tensor:
    """A smoothing filter (channels, 1, k, k) of sum 1."""
    line = torch.tensor(row)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum()).expand(channels, 1, -1, -1).clone()


def check_scale(scale: int, known: Sequence[int]) -> None:
    """Raise ValueError for a factor of enlargement that a network does not have."""
    if scale not in known:
        raise ValueError(f"scale must be {', '.join(map(str, known[:-1]))} or {known[-1]}, got {scale}")


def stem(
    in_channels: int,
    ngf: int,
    norm: Norm,
    *,
    bias: bool,
    halvings: int = 2,
    antialias: bool = False,
    padding: str = "reflect",
) -> list[nn.Module]:
    """Padded 7x7 convolution to `ngf` channels, then `halvings` strided ones that double the channels.

    With `antialias` a blur takes every second pixel, not the convolution.
    """
    first = padded_conv(in_channels, ngf, 7, padding=padding, bias=bias)
    layers: list[nn.Module] = [*first, norm(ngf), nn.ReLU()]
    for width in (ngf * 2**level for level in range(halvings)):
        conv = nn.Conv2d(width, 2 * width, 3, stride=1 if antialias else 2, padding=1, bias=bias)
        layers += [conv, norm(2 * width), nn.ReLU()]
        layers += [BlurDown(2 * width)] if antialias else []
    return layers


def head(
    ngf: int,
    out_channels: int,
    norm: Norm,
    *,
    bias: bool,
    halvings: int = 2,
    antialias: bool = False,
    upsample: str = "transposed",
    padding: str = "reflect",
) -> list[nn.Module]:
    """As many doublings back to full size (see `doubling`), then a padded 7x7 convolution and tanh.

    With `antialias` a blur doubles the size, and a plain convolution follows it.

    Raises:
        ValueError: for another `upsample` than the default with `antialias`, which has a way of its own.
    """
    if antialias and upsample != "transposed":
        raise ValueError(
            f"antialias doubles the size by blurs: leave upsample = {upsample!r} out, or antialias"
        )
    layers: list[nn.Module] = []
    for width in (ngf * 2**level for level in range(halvings, 0, -1)):
        if antialias:
            layers += [BlurUp(width), nn.Conv2d(width, width // 2, 3, padding=1, bias=bias)]
        else:
            layers += doubling(width, width // 2, upsample, padding=padding, bias=bias)
        layers += [norm(width // 2), nn.ReLU()]
    return [*layers, *padded_conv(ngf, out_channels, 7, padding=padding), nn.Tanh()]


def doublings_to(size: int, *, least: int) -> int:
    """How often 4 pixels are doubled to so many.

    Raises:
        ValueError: if it is no such size, or it is less often than `least`.
    """
    doublings = (size // 4).bit_length() - 1
    if size != 4 * 2**doublings or doublings < least:
        known = ", ".join(str(4 * 2**level) for level in range(least, least + 3))
        raise ValueError(f"size must be {known}, ..., got {size}")
    return doublings
