"""The generator of ESRGAN (Wang et al. 2018, section 3.1) and Real-ESRGAN (Wang et al. 2021): residual in residual dense
blocks. Modules bear BasicSR's names, so that its files load as they are."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.nets.layers import check_scale

SCALING = 0.2  # of every residual


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees the outputs of all before it; scaled and added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(width + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(width + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(width + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x + SCALING * self.conv5(torch.cat(seen, 1))


class RRDB(nn.Module):
    """Three dense blocks, scaled and added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        return x + SCALING * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """`blocks` RRDBs at the size of the input, or at a half or quarter of it for scales 2 and 1; then two enlargements.

    Takes (B, in_channels, H, W), RGB in [0, 1], gives (B, out_channels, scale * H, scale * W) alike, without a bound. For
    scales 2 and 1 H and W are multiples of 2 and 4.

    Raises:
        ValueError: if `scale` is not 1, 2 or 4.
    """

    value_range: ClassVar[tuple[float, float]] = (0, 1)

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        blocks: int = 23,
        growth: int = 32,
        scale: int = 4,
    ) -> None:
        super().__init__()
        check_scale(scale, (1, 2, 4))
        self.unshuffle = 4 // scale
        self.conv_first = nn.Conv2d(in_channels * self.unshuffle**2, ngf, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(ngf, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(ngf, ngf, 3, padding=1)
        self.conv_up1 = nn.Conv2d(ngf, ngf, 3, padding=1)
        self.conv_up2 = nn.Conv2d(ngf, ngf, 3, padding=1)
        self.conv_hr = nn.Conv2d(ngf, ngf, 3, padding=1)
        self.conv_last = nn.Conv2d(ngf, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for conv in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))
