"""Instance norms as one operator while a network is exported: torch reckons with the free sizes of the five that it makes
of each, twice, which is most of an export."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@torch.library.custom_op("ganshrink::instance_norm", mutates_args=())
def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """x: (B, C, ...); weight and bias: (C,)."""
    return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)


@instance_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


class WholeInstanceNorms(TorchFunctionMode):
    """Norms over the image itself become our operator; those by running statistics are as cheap as they are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.instance_norm:
            return _whole(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _whole(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `functional.instance_norm` takes."""
    if not use_input_stats:
        return functional.instance_norm(
            x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        )
    if math.prod(x.shape[2:]) == 1:  # torch asks this too: it is why a size has a least one
        raise ValueError(f"an instance norm needs more than one pixel, got {tuple(x.shape)}")
    ones = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
    return instance_norm(x, ones, torch.zeros_like(ones) if bias is None else bias, eps)  # type: ignore[no-any-return]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch.onnx: what our operator is in ONNX."""
    op = importlib.import_module("onnxscript").opset18

    def translated(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        return op.InstanceNormalization(x, weight, bias, epsilon=eps)

    return {torch.ops.ganshrink.instance_norm.default: translated}
