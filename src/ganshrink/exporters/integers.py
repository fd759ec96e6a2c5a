"""Rounding to integers and back as torch operators of our own, which ONNX files hold as QuantizeLinear and
DequantizeLinear: what runtimes look for when they compute in integers. They are the same numbers in torch."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("ganshrink::quantize", mutates_args=())
def quantize(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The levels `x / scale + zero` (uint8), the nearest ones, halves to the even one; what is beyond 0..255 ends there.

    Args:
        scale: one number, float32.
        zero: the level of 0, uint8.
    """
    return (torch.round(x / scale) + zero).clamp(0, 255).to(torch.uint8)


@quantize.register_fake
def _(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=torch.uint8)


@torch.library.custom_op("ganshrink::dequantize", mutates_args=())
def dequantize(levels: Tensor, scale: Tensor, zero: Tensor, axis: int | None = None) -> Tensor:
    """What integers mean, `(levels - zero) * scale`, in float32.

    Args:
        scale, zero: one number, or one for each index of `axis`; zero of the levels' type.
    """
    if axis is not None:
        sides = [-1 if place == axis else 1 for place in range(levels.dim())]
        scale, zero = scale.reshape(sides), zero.reshape(sides)
    return (levels.float() - zero.float()) * scale


@dequantize.register_fake
def _(levels: Tensor, scale: Tensor, zero: Tensor, axis: int | None = None) -> Tensor:
    return torch.empty_like(levels, dtype=torch.float32)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch.onnx: what these operators are in ONNX."""
    op = importlib.import_module("onnxscript").opset18

    def rounded(x: Any, scale: Any, zero: Any) -> Any:
        return op.QuantizeLinear(x, scale, zero)

    def meant(levels: Any, scale: Any, zero: Any, axis: int | None = None) -> Any:
        return op.DequantizeLinear(levels, scale, zero, **({} if axis is None else {"axis": axis}))

    return {torch.ops.ganshrink.quantize.default: rounded, torch.ops.ganshrink.dequantize.default: meant}
