"""Small networks whose kernels are activations: modulated by a style, computed from the input, or from other kernels."""

import math

import torch
import torch.nn.functional as F
from over_channels import conv
from torch import Tensor, nn


class Modulated(nn.Module):
    """StyleGAN2: a kernel per image, its columns scaled by a style and its rows brought to unit length."""

    def __init__(
        self, inside: int, outside: int, kernel: int, *, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.in_channel, self.out_channel, self.kernel = inside, outside, kernel
        self.up, self.demodulate, self.scale = up, demodulate, 1 / math.sqrt(inside * kernel**2)
        self.weight = nn.Parameter(torch.randn(1, outside, inside, kernel, kernel))
        self.modulation = nn.Linear(8, inside)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, inside, height, width = x.shape
        kernel = self.scale * self.weight * self.modulation(style).view(batch, 1, inside, 1, 1)
        if self.demodulate:
            length = torch.rsqrt(kernel.pow(2).sum([2, 3, 4]) + 1e-8)
            kernel = kernel * length.view(batch, self.out_channel, 1, 1, 1)
        x = x.view(1, batch * inside, height, width)
        if self.up:
            kernel = kernel.transpose(1, 2).reshape(
                batch * inside, self.out_channel, self.kernel, self.kernel
            )
            x = F.conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1, groups=batch)
        else:
            kernel = kernel.view(batch * self.out_channel, inside, self.kernel, self.kernel)
            x = F.conv2d(x, kernel, padding=self.kernel // 2, groups=batch)
        return x.view(batch, self.out_channel, *x.shape[2:])


class StyleGAN2(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.to_style = conv(3, width, stride=2), nn.Linear(width, 8)
        self.one, self.two = Modulated(width, width, 3), Modulated(width, width // 2, 3, up=True)
        self.noise, self.bias = nn.Parameter(torch.full((1,), 0.3)), nn.Parameter(torch.zeros(1, width, 1, 1))
        self.to_rgb = Modulated(width // 2, 3, 1, demodulate=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        style = self.to_style(x.mean((2, 3)))
        noise = torch.cos(torch.arange(x.shape[3], dtype=x.dtype))
        x = F.leaky_relu(self.one(x, style) + self.noise * noise + self.bias, 0.2)
        return self.to_rgb(F.leaky_relu(self.two(x, style), 0.2), style)


class Dynamic(nn.Module):
    """A depthwise filter that each image makes for itself."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.filters, self.last = conv(3, width), nn.Linear(width, 9 * width), conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        batch, channels, height, width = x.shape
        kernel = self.filters(x.mean((2, 3))).view(batch * channels, 1, 3, 3)
        flat = x.reshape(1, batch * channels, height, width)
        return self.last(F.conv2d(flat, kernel, padding=1, groups=batch * channels).view(x.shape))


class Merged(nn.Module):
    """ECBSR: two layers run as one, whose kernel is computed from theirs."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.wide, self.narrow = conv(width, 2 * width, 1, bias=False), conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        kernel = F.conv2d(self.narrow.weight, self.wide.weight.permute(1, 0, 2, 3))
        return self.last(F.relu(F.conv2d(self.first(x), kernel, self.narrow.bias, padding=1)))


NETWORKS = {"StyleGAN2": StyleGAN2, "a filter of each image's own": Dynamic, "ECBSR": Merged}
