"""GAN Slimming's quantizers (Wang et al. 2020, section 3.2): rounded values, gradients as if nothing had been rounded."""

from typing import Any, Literal

import torch
from torch import Tensor

from ganshrink.quant.grid import Grid, activation_grid, weight_grid

Levels = Literal["paper", "code"]


class _StraightThrough(torch.autograd.Function):
    """Has the value of the second argument and hands its gradient to the first (Bengio et al. 2013).

    `x + (rounded - x).detach()` would do the same but for its value, which is off the grid by a rounding error.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def quantize_activation(a: Tensor, *, bits: int = 8, limit: float = 4.0) -> Tensor:
    """Activations on [0, p] in steps of p / 2^m (Eq. 7); the gradient is 1 inside [0, p] and 0 outside (Eq. 9).

    Args:
        a: any shape and floating type; the result is float32.
        bits: the paper's m.
        limit: the paper's p.
    """
    return quantize_to(a, activation_grid(bits, limit))


def quantize_weight(w: Tensor, *, bits: int = 8, levels: Levels = "paper") -> Tensor:
    """A weight on 2^n steps over its own symmetric range, one for the whole tensor (Eq. 8); the gradient is 1 (Eq. 10).

    Args:
        w: any shape and floating type; the result is float32. A weight of zeros stays one.
        bits: the paper's n.
        levels: `paper`: the scale is max|W| / 2^(n-1); `code`: max|W| / (2^(n-1) - 1), as in the released code.
    """
    return pass_weight(w, weight_grid(w, bits, levels))


def quantize_to(x: Tensor, grid: Grid) -> Tensor:
    """x on a grid, float32; the gradient is 1 between the grid's ends, both included, and 0 outside."""
    inside = x.float().clamp(*grid.bounds())
    return _passed(inside, grid)


def pass_weight(w: Tensor, grid: Grid) -> Tensor:
    """w on a grid, float32; the gradient is 1 everywhere (Eq. 10)."""
    return _passed(w.float(), grid)


def _passed(x: Tensor, grid: Grid) -> Tensor:
    return _StraightThrough.apply(x, grid.round(x.detach()))
