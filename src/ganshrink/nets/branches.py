"""Convolutions that are trained as a sum of branches and delivered as one (Ding et al. 2021, RepVGG).

In training a 3x3 convolution, a 1x1 and, where width and size stay, the identity each have a batch norm, and are added. All
are linear in evaluation, so their sum is one convolution with a bias: that is what is cut, counted and exported.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
SHAPE = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)


class Branches(nn.Module):
    """The branches of a convolution, with fresh weights.

    Args:
        conv: a convolution with an odd kernel, padded by half of it.

    Raises:
        ValueError: for another one.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        halves = tuple(d * (size // 2) for d, size in zip(conv.dilation, conv.kernel_size, strict=True))
        if conv.padding not in ("same", halves) or not all(size % 2 for size in conv.kernel_size):
            raise ValueError(f"branches take odd kernels that are padded by half of them, not {conv}")
        inside, outside, stride = conv.in_channels, conv.out_channels, conv.stride
        self.conv = nn.Conv2d(**{name: getattr(conv, name) for name in SHAPE}, bias=False)
        self.conv_norm = nn.BatchNorm2d(outside)
        self.point = nn.Conv2d(inside, outside, 1, stride, groups=conv.groups, bias=False)  # type: ignore[arg-type]
        self.point_norm = nn.BatchNorm2d(outside)
        keeps = inside == outside and set(stride) == {1}
        self.identity_norm = nn.BatchNorm2d(inside) if keeps else None

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv_norm(self.conv(x)) + self.point_norm(self.point(x))
        return made if self.identity_norm is None else made + self.identity_norm(x)

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """The one convolution that computes the same in evaluation."""
        kernel, bias = _folded(self.conv.weight, self.conv_norm)
        row, column = (size // 2 for size in self.conv.kernel_size)
        others = [_folded(self.point.weight, self.point_norm)]
        if self.identity_norm is not None:
            identity = torch.zeros_like(self.point.weight)
            places = torch.arange(len(identity))
            identity[places, places % identity.shape[1]] = 1
            others.append(_folded(identity, self.identity_norm))
        for weight, shift in others:
            kernel[:, :, row, column] += weight[:, :, 0, 0]
            bias += shift
        like = self.conv.weight
        shape = {name: getattr(self.conv, name) for name in SHAPE}
        plain = nn.Conv2d(**shape, bias=True, device=like.device, dtype=like.dtype)
        assert plain.bias is not None
        plain.weight.copy_(kernel)
        plain.bias.copy_(bias)
        plain.train(self.training)
        return plain


def branched(network: M) -> M:
    """Replace, in place, the convolutions of every module that says `branched = True` by their branches. Returns it."""
    for parent in list(network.modules()):
        if getattr(parent, "branched", False):
            for name, child in parent.named_children():
                if isinstance(child, nn.Conv2d):
                    branches = Branches(child).to(child.weight)
                    branches.train(child.training)
                    setattr(parent, name, branches)
    return network


def merged(network: M) -> M:
    """Replace, in place, all branches by the convolutions that compute the same in evaluation. Returns it."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Branches):
                setattr(parent, name, child.merged())
    return network


def has_branches(network: nn.Module) -> bool:
    return any(isinstance(module, Branches) for module in network.modules())


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias, in float64, of a convolution and the batch norm after it in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    return weight.double() * scale.view(-1, 1, 1, 1), shift
