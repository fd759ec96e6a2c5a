"""The layers of a network whose time depends on how many channels they take and make."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganshrink.pruning.folding import folded_copy
from ganshrink.system.copies import in_evaluation

aten = torch.ops.aten


@dataclass(frozen=True)
class Shape:
    """A convolution or linear layer at one image size, but for its widths.

    Attributes:
        kind: `conv`, `conv_transpose` or `linear`.
        size: of its input along the axes it slides over; of a linear layer the number of rows.
        made: of its output, the same.
        depthwise: each input channel makes channels of its own; the groups follow the width.
        groups: of other grouped convolutions; they stay.
    """

    kind: str
    size: tuple[int, ...]
    made: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    depthwise: bool = False

    def __str__(self) -> str:
        if self.kind == "linear":
            return f"linear layer on {self.size[0]} rows"
        kind = {"conv": "convolution", "conv_transpose": "transposed convolution"}[self.kind]
        kernel, size = ("x".join(map(str, numbers)) for numbers in (self.kernel, self.size))
        return f"{'depthwise ' * self.depthwise}{kernel} {kind} of stride {self.stride[0]} at {size}"


@dataclass(frozen=True)
class Layer:
    """One call of a layer.

    Attributes:
        weight: the name of its parameter in the network.
        inside, outside: how many channels it takes and makes.
    """

    weight: str
    shape: Shape
    inside: int
    outside: int

    def widths(self, rows: int, columns: int) -> tuple[int, int]:
        """Channels that it takes and makes when its weight has so many rows and columns (its first two axes)."""
        shape = self.shape
        if shape.depthwise:
            wide = self.outside // self.inside
            return (rows // wide, rows) if shape.kind == "conv" else (rows, rows * wide)
        if shape.kind == "conv_transpose":
            return rows, columns * shape.groups
        return columns * shape.groups, rows


def layers_of(network: nn.Module, example: Sequence[Tensor]) -> list[Layer]:
    """Every call of a convolution or linear layer with a weight of the network's own, in forward order.

    Args:
        network: of any kind; weights are named as without parametrizations.
        example: inputs of the size at which times count.
    """
    folded = in_evaluation(folded_copy(network))
    recorder = _Recorder({p.data_ptr(): name for name, p in folded.named_parameters()})
    with torch.no_grad(), recorder:
        folded(*example)
    return recorder.layers


class _Recorder(TorchDispatchMode):
    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.layers: list[Layer] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        if op is aten.convolution.default:
            self._convolution(out, *args)
        elif op is aten.addmm.default:
            self._linear(args[1], args[2], out)
        elif op is aten.mm.default:
            self._linear(args[0], args[1], out)
        return out

    def _convolution(
        self, out: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any,
        transposed: bool, output_padding: Any, groups: int,
    ) -> None:  # fmt: skip
        name = self.names.get(weight.data_ptr())
        if name is None:
            return
        inside, outside = x.shape[1], out.shape[1]
        shape = Shape(
            kind="conv_transpose" if transposed else "conv",
            size=tuple(x.shape[2:]),
            made=tuple(out.shape[2:]),
            kernel=tuple(weight.shape[2:]),
            stride=tuple(stride),
            padding=tuple(padding),
            output_padding=tuple(output_padding),
            dilation=tuple(dilation),
            groups=1 if groups == inside else groups,
            depthwise=1 < groups == inside,
        )
        self.layers.append(Layer(name, shape, inside, outside))

    def _linear(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        name = self.names.get(weight.data_ptr())
        if name is not None and weight.ndim == 2:
            rows = (math.prod(x.shape[:-1]),)
            self.layers.append(Layer(name, Shape("linear", rows, rows), x.shape[-1], out.shape[-1]))
