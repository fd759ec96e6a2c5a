"""The U-Net generator of Pix2Pix (Isola et al. 2017), of any depth."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.nets.layers import Norm, doubling, needs_bias, norm_layer

# Names of pytorch-CycleGAN-and-pix2pix's U-Net: every level is a sequence that holds the next one. Their order is ours.
RELEASED = re.compile(r"model\.model\.\d\.")


def down(inside: int, outside: int, norm: Norm | None, *, bias: bool, activate: bool = True) -> nn.Sequential:
    """Halve the size: LeakyReLU, 4x4 stride-2 convolution, norm. The outermost level has neither activation nor norm."""
    layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if activate else []
    layers.append(nn.Conv2d(inside, outside, 4, stride=2, padding=1, bias=bias))
    return nn.Sequential(*layers, *([norm(outside)] if norm else []))


def up(inside: int, outside: int, norm: Norm, *, bias: bool, dropout: float, upsample: str) -> nn.Sequential:
    """Double the size: ReLU, 4x4 stride-2 transposed convolution or another way (see `doubling`), norm, dropout."""
    double = doubling(inside, outside, upsample, kernel=4, bias=bias)
    return nn.Sequential(nn.ReLU(), *double, norm(outside), *([nn.Dropout(dropout)] if dropout else []))


class UNet(nn.Module):
    """`downs` levels of halving, a skip at every level, and back.

    Takes (B, in_channels, H, W) with H and W multiples of `2 ** downs`, gives (B, out_channels, H, W) in [-1, 1].
    A skip carries the *activated* tensor: in the original, in-place LeakyReLUs make it so.

    Args:
        upsample: how the size doubles: transposed, or resize or shuffle with 3x3 convolutions (see `doubling`).
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        downs: int = 8,
        norm: str = "batch",
        affine: bool | None = None,
        dropout: float = 0.0,
        upsample: str = "transposed",
    ) -> None:
        super().__init__()
        if downs < 5:
            raise ValueError(f"downs must be at least 5, got {downs}")
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        widths = [ngf * min(2**level, 8) for level in range(downs)]  # the cap is 8 * ngf
        self.down = nn.ModuleList([down(in_channels, widths[0], None, bias=bias, activate=False)])
        for level in range(1, downs):
            innermost = level == downs - 1
            self.down.append(
                down(widths[level - 1], widths[level], None if innermost else make_norm, bias=bias)
            )
        self.up = nn.ModuleList()
        for level in range(downs - 1, 0, -1):
            inside = widths[level] * (1 if level == downs - 1 else 2)
            rate = dropout if 4 <= level < downs - 1 else 0.0  # the middle levels, as the original
            way: dict[str, Any] = {"bias": bias, "dropout": rate, "upsample": upsample}
            self.up.append(up(inside, widths[level - 1], make_norm, **way))
        self.act = nn.LeakyReLU(0.2)
        last = doubling(2 * widths[0], out_channels, upsample, kernel=4)
        self.head = nn.Sequential(nn.ReLU(), *last, nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for halve in self.down:
            x = halve(x)
            skips.append(self.act(x))
        skips.pop()  # the innermost level has no skip
        for double in self.up:
            x = torch.cat([skips.pop(), double(x)], dim=1)
        return self.head(x)
