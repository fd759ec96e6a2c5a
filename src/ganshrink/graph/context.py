"""What rules write to while a graph is read: ties, freezes, producers, norms, cost terms, and how zeros travel."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import fx

from ganshrink.graph.values import Axis, Dead, Value, dead_vector
from ganshrink.graph.widths import Candidates
from ganshrink.pruning.atoms import Index, Ties
from ganshrink.pruning.removal import Flow

TORCH = os.path.dirname(torch.__file__)  # noqa: PTH120


@dataclass(frozen=True)
class RawProducer:
    parameter: str
    axis: int
    atoms: Index


@dataclass(frozen=True)
class RawTerm:
    """`coefficient * product of kept sizes` multiply-accumulates, one call of one layer."""

    node: fx.Node | None
    exact: int
    paper: int
    axes: tuple[Index, ...]
    attention: bool

    def times(self, images: int) -> "RawTerm":
        """The same call where it is made once for all images: as if for each of so many."""
        return replace(self, exact=self.exact * images, paper=self.paper * images)


@dataclass(frozen=True)
class Normed:
    """A norm that reads a layer's channels, perhaps through operators that treat each channel alone."""

    scale: str | None
    place: str
    directly: bool


@dataclass
class Context:
    """The state of one reading of a graph. Rules call its verbs; everything they say is collected here."""

    model: torch.nn.Module
    carry: str = "largest"  # which factor of a split channel axis is taken to carry the channels
    exact: bool = False  # no statistics may change: what they run over is frozen
    images: int = 1  # in the traced batch
    grouped: bool = False  # group norms of several groups lose the same number of channels in each
    ties: Ties = field(default_factory=Ties)
    node: fx.Node | None = None
    raw: list[Any] = field(default_factory=list)  # the node's arguments in the order of its schema
    parameters: dict[str, Value] = field(default_factory=dict)
    producers: list[RawProducer] = field(default_factory=list)
    norms: list[tuple[int, str]] = field(default_factory=list)  # producer, name of the scale
    makers: dict[fx.Node, int] = field(default_factory=dict)  # call: the producer whose channels it makes
    carries: dict[fx.Node, fx.Node] = field(default_factory=dict)  # node: call whose channels it hands on
    normed: dict[fx.Node, list[Normed]] = field(default_factory=dict)  # call: norms that read its channels
    unheard: dict[str, str] = field(default_factory=dict)  # parameters used outside of their module: where
    terms: list[RawTerm] = field(default_factory=list)
    flows: dict[fx.Node, Flow] = field(default_factory=dict)
    attributes: list[tuple[str, str, Index]] = field(default_factory=list)
    literal: list[tuple[Index, str]] = field(default_factory=list)
    statistics: list[tuple[fx.Node, list[tuple[int, Index]], str]] = field(default_factory=list)
    together: list[tuple[Index, str]] = field(default_factory=list)  # why channels live and die together
    ambiguous: bool = False
    several_groups: bool = False  # there is a norm that `grouped` decides about
    candidates: Candidates = field(init=False)  # attributes that may state widths
    unzeroed: set[str] = field(default_factory=set)  # buffers such as running variances

    def __post_init__(self) -> None:
        self.candidates = Candidates(self.model)

    # ---- saying things about atoms

    def fresh(self, size: int) -> Index:
        return self.ties.fresh(size)

    def tie(self, left: Index, right: Index) -> None:
        self.ties.tie(left, right)

    def freeze(self, axis: Axis, reason: str) -> None:
        if not isinstance(axis, str):
            self.ties.frozen.append((np.ravel(axis), reason))

    def freeze_all(self, value: Value, reason: str) -> None:
        for axis in value.axes:
            self.freeze(axis, reason)

    def fix(self, axis: Axis) -> None:
        """This axis is no channel axis (a kernel size, a height); only if it is one after all does that show."""
        if not isinstance(axis, str):
            self.ties.fixed.append((axis, f"it meets an axis of fixed size in {self.where()}"))

    def channel(self, axis: Axis) -> None:
        if not isinstance(axis, str):
            self.ties.channels.append(axis)

    def written_out(self, axis: Axis) -> None:
        """The graph holds a number that may or may not have been read off this axis: to be probed."""
        if not isinstance(axis, str):
            self.literal.append((np.ravel(axis), f"a size is written out in {self.where()}"))

    def written(self, *axes: Axis) -> None:
        """The graph has the sizes of these axes as numbers: an attribute of a module may be where they come from."""
        for axis in axes:
            self.candidates.note(self.callers(), axis, written=True)

    def written_axis(self, size: int, *, kept: bool = False, batch: bool = False) -> Axis:
        """An axis whose size the graph has as a number: it may follow a width, which is probed; if `kept`, it stays. The
        first one may be the `batch`."""
        if batch and size == self.images:
            return ""
        if kept or size == 1:
            return f"its size is written out in {self.where()}"
        axis = self.fresh(size)
        self.written_out(axis)
        self.written(axis)
        return axis

    def meet(self, left: Axis, right: Axis) -> Axis:
        """Tie two axes of one size position by position."""
        if isinstance(left, str) and isinstance(right, str):
            return left or right
        if isinstance(left, str):
            left, right = right, left
        if isinstance(right, str):
            if right:
                self.freeze(left, right)
            else:
                self.fix(left)
            return right
        assert not isinstance(left, str)
        self.tie(left, right)
        return left

    def consume(self, axis: Axis, dead: Dead, why: str) -> None:
        """A sum runs over this axis: what is cut must have been zero."""
        if isinstance(axis, str) or dead is None:
            return
        self.freeze(axis[dead != 0], f"a dead channel is not zero after {why or self.where()}")

    def run_over(self, axes: Sequence[Axis], over: Sequence[int]) -> None:
        """This call computes statistics over some axes of its first argument: of live channels alone."""
        assert self.node is not None
        text = f"{operator_name(self.node.target).removeprefix('aten.')} runs over channels: {self.where()}"
        found = [(d, axis) for d in over if not isinstance(axis := axes[d], str)]
        if self.exact:
            for _, axis in found:
                self.freeze(axis, text)
        elif found:
            self.statistics.append((self.node, found, text))

    # ---- saying things about layers

    def produce(self, weight: Value, axis: int) -> int | None:
        name, atoms = weight.parameter or weight.origin, weight.axes[axis]
        if name is None or isinstance(atoms, str):
            return None
        axis = next((d for d, own in enumerate(self.parameters[name].axes) if own is atoms), axis)
        places = ((known.parameter, known.axis) for known in self.producers)
        number = next((n for n, place in enumerate(places) if place == (name, axis)), len(self.producers))
        if number == len(self.producers):
            self.producers.append(RawProducer(name, axis, atoms))
        assert self.node is not None
        self.makers[self.node] = number
        if len(self.node.users) == 1:
            self.carries[self.node] = self.node
        self.hear(name)
        return number

    def hear(self, parameter: str) -> None:
        """Note a parameter that is used here by another module than its own, whose hooks would not see it."""
        if parameter.rpartition(".")[0] not in self.callers():
            self.unheard[parameter] = self.where()

    def cost(
        self,
        axes: Sequence[Axis],
        sizes: Sequence[int],
        *,
        paper: int | None = None,
        attention: bool = False,
    ) -> None:
        """A call that multiplies and adds once per element of these axes; `paper` replaces the fixed part."""
        assert self.node is not None
        fixed = math.prod(size for size, axis in zip(sizes, axes, strict=True) if isinstance(axis, str))
        kept = tuple(axis for axis in axes if not isinstance(axis, str))
        self.terms.append(RawTerm(self.node, fixed, fixed if paper is None else paper, kept, attention))

    def resize(self, parameter: str | None, attribute: str, axis: Axis) -> bool:
        """The module that owns `parameter` (or else the calling one) states this axis's size as an attribute."""
        path = parameter.rpartition(".")[0] if parameter is not None else self.caller()
        if path is None or isinstance(axis, str):
            return False
        stated = getattr(self.model.get_submodule(path), attribute, None)
        if isinstance(stated, (tuple, list)) and len(stated) == 1:  # a layer norm's `normalized_shape`
            [stated] = stated
        if not isinstance(stated, int) or stated < 1 or len(axis) % stated:
            return False
        if not np.array_equal(axis, np.tile(axis[:stated], len(axis) // stated)):
            return False
        self.attributes.append((path, attribute, axis[:stated]))  # of images side by side, those of one
        return True

    def flow(self, *zero_if: tuple[fx.Node, ...], kills: tuple[Value | None, ...] = ()) -> None:
        """Say how zeros pass through this node. A bias that is no plain parameter cannot be killed: say nothing."""
        assert self.node is not None
        if any(value is not None and value.parameter is None for value in kills):
            return
        names = tuple(v.parameter for v in kills if v is not None and v.parameter is not None)
        self.flows[self.node] = Flow(list(zero_if), names)

    # ---- where we are

    def callers(self) -> list[str]:
        """The modules that are being called, from the outermost in."""
        return module_paths((self.node.meta.get("nn_module_stack") if self.node is not None else None) or {})

    def caller(self) -> str | None:
        return next(reversed(self.callers()), None)

    def where(self) -> str:
        assert self.node is not None
        return described(self.node)


def module_paths(stack: dict[str, Any]) -> list[str]:
    """The paths of the modules that were being called, from the outermost in."""
    return [path.split("@")[0] for path, _ in stack.values()]


def operator_name(target: Any) -> str:
    """`aten.conv2d` for any overload of it; other functions by their own name."""
    if isinstance(target, torch._ops.OpOverload):
        return f"{target.namespace}.{target._opname}"
    return getattr(target, "__name__", str(target))


def bound_arguments(node: fx.Node) -> list[Any]:
    """A node's arguments in the order of its operator's schema, defaults filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return [*node.args, *node.kwargs.values()]
    given = dict(node.kwargs)
    positional = list(node.args)
    out = []
    for number, argument in enumerate(node.target._schema.arguments):
        if number < len(positional) and not argument.kwarg_only:
            out.append(positional[number])
        else:
            out.append(given.get(argument.name, argument.default_value))
    return out


def user_line(node: fx.Node) -> str | None:
    """FILE:LINE of the user's innermost frame."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [(file, line) for file, line in frames if not file.startswith(TORCH)]
    return ":".join(own[-1]) if own else None


def described(node: fx.Node) -> str:
    name = operator_name(node.target).removeprefix("aten.")
    line = user_line(node)
    paths = module_paths(node.meta.get("nn_module_stack") or {})
    place = f" ({line})" if line else (f" ({paths[-1]})" if paths and paths[-1] else "")
    return name + place


def full_dead(value: Value, axis: int) -> np.ndarray:
    return dead_vector(value.dead[axis], value.shape[axis])
