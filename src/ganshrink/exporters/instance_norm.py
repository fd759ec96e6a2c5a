"""Instance norms in files: on maps that are centred first, and for ONNX as one operator while a network is traced.

Runtimes sum a map in float32, and miss the mean of one that is nearly constant by more than it varies. The norm divides by
what it varies and so enlarges that, from norm to norm: up to a hundred levels of 255 on a picture of one colour. A map whose
mean is about zero has none to miss. (torch itself sums in float64.)
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Norm = Callable[[Tensor, Tensor | None, Tensor | None, float], Tensor]


class OwnNorms(TorchFunctionMode):
    """Norms over the image itself become `norm(x, weight, bias, eps)`, x: (B, C, ...), weight and bias: (C,) or None; those
    by running statistics stay what they are."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.instance_norm:
            return self._normed(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _normed(
        self,
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
        return self.norm(x, weight, bias, eps)


def centred(x: Tensor) -> Tensor:
    """x: (B, C, ...), each map less its mean."""
    return x - x.mean(tuple(range(2, x.dim())), keepdim=True)


def centred_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """For formats that take torch's own operator."""
    return functional.instance_norm(centred(x), weight=weight, bias=bias, eps=eps)


@torch.library.custom_op("ganshrink::instance_norm", mutates_args=())
def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """x: (B, C, ...); weight and bias: (C,)."""
    return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)


@instance_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


def whole(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """As one operator: torch reckons with the free sizes of the five that it makes of each, twice, which is most of an
    export."""
    ones = torch.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
    return instance_norm(x, ones, torch.zeros_like(ones) if bias is None else bias, eps)  # type: ignore[no-any-return]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch.onnx: what our operator is in ONNX."""
    op = importlib.import_module("onnxscript").opset18

    def translated(x: Any, weight: Any, bias: Any, eps: float) -> Any:
        mean = op.ReduceMean(x, op.Constant(value_ints=list(range(2, len(x.shape)))))
        return op.InstanceNormalization(op.Sub(x, mean), weight, bias, epsilon=eps)

    return {torch.ops.ganshrink.instance_norm.default: translated}
