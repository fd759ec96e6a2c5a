"""CAT's teacher for label maps (Jin et al. 2021, section 3.1): GauGAN's generator with inception-based blocks."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.nets.incres import KERNELS, six_branches
from ganshrink.nets.layers import norm_layer
from ganshrink.nets.spade import HIDDEN, MULTIPLES, Growing, Modulation, resized_like

BRANCHES = 2 * len(KERNELS)


class IncSPADE(nn.Module):
    """SPADE whose scales and shifts are made by six branches over the map, summed."""

    def __init__(self, width: int, labels: int, *, norm: str, hidden: int) -> None:
        super().__init__()
        self.param_free_norm = norm_layer(norm, affine=False)(width)
        affine = norm_layer(norm, affine=True)
        self.branches = six_branches(labels, hidden, 2 * width, affine, bias=True, padding="zeros")

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        gamma, beta = torch.chunk(self.branches(resized_like(labels, x)), 2, dim=1)
        return self.param_free_norm(x) * (1 + gamma) + beta


class IncBlock(nn.Module):
    """One SPADE, ReLU, six branches summed, and a shortcut: a norm and 1x1 where the width changes."""

    def __init__(self, inside: int, outside: int, modulated: Modulation, *, norm: str) -> None:
        super().__init__()
        hidden = min(inside, outside) // BRANCHES
        if hidden < 1:
            raise ValueError(
                f"ngf = {outside}: it leaves no channel for each of six branches; at least {BRANCHES}"
            )
        affine, plain = norm_layer(norm, affine=True), norm_layer(norm, affine=False)
        self.spade = modulated(inside)
        self.branches = six_branches(
            inside, hidden, outside, affine, second=plain, bias=True, padding="zeros"
        )
        widened = nn.Sequential(affine(inside), nn.Conv2d(inside, outside, 1, bias=False))
        self.shortcut = nn.Identity() if inside == outside else widened

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.branches(F.relu(self.spade(x, labels))) + self.shortcut(x)


class IncGauGAN(Growing):
    """The generator that holds every smaller one that CAT may choose. Shapes are those of `Growing`.

    The norm after `fc` is not GauGAN's: its scales say which channels of the trunk stay. The activation in the branches is
    ReLU, as in the released code's distillation; its teacher was trained with a leaky one of slope 0.01.

    Args:
        norm: batch norm, which is one over all processes in training.
        hidden: of all branches over the map together.
        doublings: six for Cityscapes, or five.
    """

    def __init__(
        self,
        *,
        in_channels: int = 36,
        out_channels: int = 3,
        ngf: int = 64,
        norm: str = "batch",
        hidden: int = HIDDEN,
        doublings: int = 6,
    ) -> None:
        if hidden < BRANCHES:
            raise ValueError(f"hidden must be at least {BRANCHES}, one for each branch, got {hidden}")
        modulated = partial(IncSPADE, labels=in_channels, norm=norm, hidden=hidden // BRANCHES)
        wide = MULTIPLES[0] * ngf
        begin = nn.Sequential(nn.Conv2d(in_channels, wide, 3, padding=1), norm_layer(norm, affine=True)(wide))
        block = partial(IncBlock, modulated=modulated, norm=norm)
        super().__init__(begin, block, ngf=ngf, out_channels=out_channels, doublings=doublings)
