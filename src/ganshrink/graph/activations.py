"""The tensors that an exported graph makes, for `pruning.memory`: which operator makes, reads, shares or reuses what."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from ganshrink.graph.context import bound_arguments, operator_name
from ganshrink.graph.reader import TRANSPARENT, Reader
from ganshrink.graph.rules import pointwise
from ganshrink.graph.rules.table import SILENT, find_rule
from ganshrink.graph.values import Axis, Value
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.memory import Memory, Step, Tensors

FLOAT = 4  # bytes: files are in float32, whatever the network is traced in


def _operators(names: str) -> set[str]:
    return {f"aten.{name}" for name in names.split()}


# Their results are their inputs, called otherwise; a transpose, a slice or an expansion is a copy in ONNX.
SHARING = _operators(
    "reshape view _unsafe_view flatten unflatten view_as reshape_as squeeze unsqueeze contiguous clone detach alias "
    "lift_fresh_copy dropout feature_dropout alpha_dropout feature_alpha_dropout to _to_copy type_as float"
)

# Of what they take only the size matters, which a file has as a number.
CONSTANT = _operators(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty sym_size"
)


class Activations:
    """Collects steps and tensors in the order in which the graph was read."""

    def __init__(self, reader: Reader, compact: Callable[[Index], Index], group_of: Index, groups: int):
        self.reader, self.compact, self.group_of, self.groups = reader, compact, group_of, groups
        self.sizes = np.maximum(np.bincount(group_of, minlength=groups), 1)
        self.known: dict[int, int | None] = {}  # by id of a raw axis: its row; None: it never changes
        self.shares: list[Any] = []
        self.always: list[int] = []
        self.tensors: list[tuple[float, list[int]]] = []

    def memory(self) -> Memory:
        """Everything that was read."""
        users = self.reader.program.graph_signature.user_inputs
        holders = [n for n in self.reader.graph.nodes if n.op == "placeholder" and n.name in users]
        inputs = {n: row for n in holders if (row := self._tensor(n)) is not None}
        steps = tuple(step for node in self.reader.values if (step := self._step(node)) is not None)
        width = max((len(axes) for _, axes in self.tensors), default=0)
        rows = [[*axes, *[-1] * (width - len(axes))] for _, axes in self.tensors]
        tensors = Tensors(
            shares=np.array(self.shares, np.float64).reshape(len(self.shares), self.groups),
            always=np.array(self.always, np.int64),
            axes=np.array(rows, np.int64).reshape(len(rows), width),
            unit=np.array([unit for unit, _ in self.tensors]),
        )
        return Memory(steps, inputs, tuple(self.reader.outputs), tensors)

    def _step(self, node: fx.Node) -> Step | None:
        handed = self.reader.handed
        if node in handed:
            return Step(node, None, (handed[node],), shares=handed[node])
        name = operator_name(node.target)
        if node.op != "call_function" or name in SILENT | CONSTANT or name in TRANSPARENT:
            return None
        sources = tuple(dict.fromkeys(node.all_input_nodes))
        if node.target is operator.getitem:
            if (inner := handed.get((sources[0], node.args[1]))) is not None:
                return Step(node, None, (inner,), shares=inner)
            return Step(node, self._tensor(node), sources, piece=True)
        first = next((a for a in bound_arguments(node) if isinstance(a, fx.Node)), None)
        mutable = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        shares = first if mutable or (name in SHARING and _type(node) == _type(first)) else None
        alike = tuple(n for n in sources if _like(n, node)) if _elementwise(node) else ()
        return Step(node, self._tensor(node), sources, shares, alike, work=self._columns(node))

    def _tensor(self, node: fx.Node) -> int | None:
        """The row of what this node makes; None for scalars and for several results, which are tensors of their own."""
        value = self.reader.values[node]
        if not isinstance(value, Value) or not value.shape:
            return None
        images = self.reader.images if node in self.reader.batched else 1
        return self._add(_bytes(node) / images, value.axes, value.shape)

    def _columns(self, node: fx.Node) -> int | None:
        """The row of what ONNX Runtime holds beside a transposed convolution's input and output: its product before pixels
        are added up, of one group."""
        name, given = operator_name(node.target), bound_arguments(node)
        if not (name.startswith("aten.conv_transpose") or (name == "aten.convolution" and given[6])):
            return None
        x, weight = self.reader.values[given[0]], self.reader.values[given[1]]
        pixels = math.prod(x.shape[2 - weight.ndim :])
        return self._add(FLOAT * pixels, weight.axes[1:], weight.shape[1:])

    def _add(self, unit: float, axes: Sequence[Axis], shape: Sequence[int]) -> int:
        rows = [row for axis in axes if (row := self._row(axis)) is not None]
        fixed = [s for s, a in zip(shape, axes, strict=True) if self._row(a) is None]
        self.tensors.append((unit * math.prod(fixed), rows))
        return len(self.tensors) - 1

    def _row(self, axis: Axis) -> int | None:
        if isinstance(axis, str):
            return None
        if id(axis) not in self.known:
            atoms = self.compact(axis)
            counts = np.bincount(self.group_of[atoms[atoms >= 0]], minlength=self.groups)
            self.known[id(axis)] = len(self.shares) if counts.any() else None
            if counts.any():
                self.shares.append(counts / self.sizes)
                self.always.append(int((atoms < 0).sum()))
        return self.known[id(axis)]


def _elementwise(node: fx.Node) -> bool:
    """Also a batch norm in evaluation, which runtimes fold into the convolution before it."""
    if operator_name(node.target) == "aten.batch_norm":
        return not bound_arguments(node)[5]
    tagged = torch.Tag.pointwise in getattr(node.target, "tags", ())
    return tagged or find_rule(node.target, {}) in (pointwise.pointwise, pointwise.prelu)


def _type(node: fx.Node | None) -> Any:
    return getattr(node.meta.get("val"), "dtype", None) if node is not None else None


def _bytes(node: fx.Node) -> int:
    kind = _type(node)
    if kind is None or kind.is_floating_point:
        return FLOAT
    return 2 * FLOAT if kind.is_complex else kind.itemsize


def _like(node: fx.Node, other: fx.Node) -> bool:
    """Whether two tensors are of one shape and type."""
    mine, others = node.meta.get("val"), other.meta.get("val")
    return getattr(mine, "shape", None) == getattr(others, "shape", ()) and _type(node) == _type(other)
