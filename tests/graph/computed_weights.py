"""Layers whose weight is computed from parameters alone at every call, as published code writes it by hand."""

import math

import torch
import torch.nn.functional as F
from over_channels import conv
from torch import Tensor, nn


class Standardised(nn.Conv2d):
    """Weight standardisation."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class UnitNorm(nn.Conv2d):
    """Divided by the length of the whole weight: every cut changes what the others are divided by."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / self.weight.norm(), self.bias, self.stride, self.padding)


class UnitRows(nn.Conv2d):
    """Each filter of length one."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.normalize(self.weight.flatten(1), dim=1).view_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Equalised(nn.Module):
    """StyleGAN: a written scale that a cut does not change."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(outside, inside, 3, 3)),
            nn.Parameter(torch.zeros(outside)),
        )
        self.scale = 1 / math.sqrt(9 * inside)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=1)


class SpectralNorm(nn.Module):
    """The released code of SAGAN and SNGAN: `weight` is written at every call, `u` and `v` by `.data`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.module, weight = layer, layer.weight.data
        del layer._parameters["weight"]
        for name, size in (("u", weight.shape[0]), ("v", weight[0].numel())):
            value = F.normalize(torch.randn(size), dim=0)
            layer.register_parameter(f"weight_{name}", nn.Parameter(value, requires_grad=False))
        layer.register_parameter("weight_bar", nn.Parameter(weight))

    def forward(self, x: Tensor) -> Tensor:
        u, v, bar = self.module.weight_u, self.module.weight_v, self.module.weight_bar
        rows = bar.view(bar.shape[0], -1)
        v.data = F.normalize(torch.mv(rows.data.t(), u.data), dim=0, eps=1e-12)
        u.data = F.normalize(torch.mv(rows.data, v.data), dim=0, eps=1e-12)
        self.module.weight = bar / u.dot(rows.mv(v)).expand_as(bar)
        return self.module(x)


class Sequence(nn.Module):
    """ECBSR: a 1x1 convolution, then a 3x3 one, as one kernel and one bias."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.k0, self.b0 = (
            nn.Parameter(torch.randn(outside, inside, 1, 1) / 4),
            nn.Parameter(torch.randn(outside)),
        )
        self.k1, self.b1 = (
            nn.Parameter(torch.randn(outside, outside, 3, 3) / 12),
            nn.Parameter(torch.randn(outside)),
        )
        self.out_planes = outside

    def merged(self) -> tuple[Tensor, Tensor]:
        bias = self.b0.new_ones(1, self.out_planes, 3, 3) * self.b0.view(1, -1, 1, 1)
        return F.conv2d(self.k1, self.k0.permute(1, 0, 2, 3)), F.conv2d(bias, self.k1).view(-1) + self.b1


class Edges(nn.Module):
    """ECBSR: a 1x1 convolution, then a scaled Sobel filter, whose dense kernel is filled channel by channel."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.k0, self.b0 = (
            nn.Parameter(torch.randn(outside, inside, 1, 1) / 4),
            nn.Parameter(torch.randn(outside)),
        )
        self.scale, self.bias = (
            nn.Parameter(torch.randn(outside, 1, 1, 1)),
            nn.Parameter(torch.randn(outside)),
        )
        self.mask, self.out_planes = nn.Parameter(torch.zeros(outside, 1, 3, 3), requires_grad=False), outside
        self.mask.data[:, 0, 0, 0], self.mask.data[:, 0, 0, 2] = 1, -1

    def merged(self) -> tuple[Tensor, Tensor]:
        filters = self.scale * self.mask
        dense = self.k0.new_zeros(self.out_planes, self.out_planes, 3, 3)
        for i in range(self.out_planes):
            dense[i, i] = filters[i, 0]
        bias = self.b0.new_ones(1, self.out_planes, 3, 3) * self.b0.view(1, -1, 1, 1)
        return F.conv2d(dense, self.k0.permute(1, 0, 2, 3)), F.conv2d(bias, dense).view(-1) + self.bias


class EdgeBlock(nn.Module):
    """ECBSR: several branches, run as one convolution in evaluation."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv3x3 = conv(inside, outside)
        self.branches = nn.ModuleList([Sequence(inside, outside), Edges(inside, outside)])

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.conv3x3.weight, self.conv3x3.bias
        for branch in self.branches:
            more, shift = branch.merged()
            kernel, bias = kernel + more, bias + shift
        return F.conv2d(x, kernel, bias, padding=1)


def around(layer: nn.Module) -> nn.Module:
    """16 channels to 12, two layers further."""
    return nn.Sequential(conv(3, 16), nn.ReLU(), layer, nn.ReLU(), conv(16, 12), nn.ReLU(), conv(12, 3))


NETWORKS = {
    "weight standardisation": lambda: around(Standardised(16, 16, 3, padding=1)),
    "the whole weight of unit length": lambda: around(UnitNorm(16, 16, 3, padding=1)),
    "filters of unit length": lambda: around(UnitRows(16, 16, 3, padding=1)),
    "equalised learning rate": lambda: around(Equalised(16, 16)),
    "spectral norm by hand": lambda: around(SpectralNorm(conv(16, 16))),
    "spectral norm of a transposed convolution": lambda: around(
        SpectralNorm(nn.ConvTranspose2d(16, 16, 3, padding=1))
    ),
    "ECBSR": lambda: around(EdgeBlock(16, 16)),
}
