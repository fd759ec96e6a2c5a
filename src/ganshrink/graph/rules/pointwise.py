"""Rules for operators that act element by element, with broadcasting.

What a dead channel holds afterwards is found by calling the operator itself on what it held before.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import fx

from ganshrink.graph.context import Context, operator_name
from ganshrink.graph.values import UNKNOWN, Axis, Dead, Value, dead_vector, simplified

# Stand-ins for a number that is not known: a result that is the same for all of them is known after all.
# Zero is not among them: an unknown divisor is taken to be none, or the whole network would not be finite either.
SAMPLES = np.array([0.37, -1.9, 1e3, 0.7, -0.1, 2.6, -1e3])

# An operator, its arguments with tensors replaced by their number, and their kinds: all hashable.
Call = tuple[Any, tuple[Any, ...], tuple[str, ...]]

SUMS = {"aten.add", "aten.add_", "aten.sub", "aten.sub_"}


class Operand(int):
    """The place of a tensor in a call, by its number."""


def pointwise(ctx: Context, node: fx.Node, *args: Any) -> Value:
    operands = [a for a in args if isinstance(a, Value)]
    nodes = [raw for raw, a in zip(ctx.raw, args, strict=True) if isinstance(a, Value)]
    shape = tuple(node.meta["val"].shape)
    axes = [_axis(ctx, operands, d, len(shape), size) for d, size in enumerate(shape)]
    call = _call(ctx, node, args)
    dead = [_dead(call, operands, d, len(shape), size, axes[d]) for d, size in enumerate(shape)]
    _flow(ctx, node, call, operands, nodes)
    spoiled = any(d is not None and (d != 0).any() for d in dead)
    earlier = [
        o
        for o, kind in zip(operands, call[2], strict=True)
        if kind != "bool" and any(d is not None for d in o.dead)
    ]
    origins = {o.origin or o.parameter for o in operands}
    return Value(
        shape,
        axes,
        dead,
        why=(next((o.why for o in earlier if o.why), "") or ctx.where()) if spoiled else "",
        origin=origins.pop() if len(origins) == 1 and operands[0].shape == shape else None,
        from_input=any(o.from_input for o in operands),
    )


def _axis(ctx: Context, operands: Sequence[Value], d: int, ndim: int, size: int) -> Axis:
    axis: Axis | None = None
    for operand in operands:
        at = d - ndim + operand.ndim
        if at < 0:
            continue
        if operand.shape[at] != size:
            ctx.fix(operand.axes[at])
        else:
            axis = operand.axes[at] if axis is None else ctx.meet(axis, operand.axes[at])
    return "" if axis is None else axis


def _dead(call: Call, operands: Sequence[Value], d: int, ndim: int, size: int, axis: Axis) -> Dead:
    if isinstance(axis, str):
        return None
    vectors: list[np.ndarray] = []
    for operand in operands:
        at = d - ndim + operand.ndim
        if at < 0 or operand.shape[at] != size:
            vectors.append(np.array([UNKNOWN]))
        elif operand.dead[at] is None:
            vectors.append(np.zeros(1))
        else:
            vectors.append(dead_vector(operand.dead[at], size))
    if all(len(v) == 1 for v in vectors):
        held = outcome(*call, tuple(None if np.isnan(v[0]) else float(v[0]) for v in vectors))
        return None if held == 0 else np.full(size, held)
    return simplified(evaluate(*call, [np.broadcast_to(v, (size,)) for v in vectors]))


def _call(ctx: Context, node: fx.Node, args: Sequence[Any]) -> Call:
    template: list[Any] = []
    kinds: list[str] = []
    for raw, argument in zip(ctx.raw, args, strict=True):
        if isinstance(argument, Value):
            template.append(Operand(len(kinds)))
            dtype = raw.meta["val"].dtype
            kinds.append("bool" if dtype == torch.bool else "float" if _continuous(dtype) else "int")
        else:
            template.append(tuple(argument) if isinstance(argument, list) else argument)
    return node.target, tuple(template), tuple(kinds)


def _continuous(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


@lru_cache(maxsize=4096)
def outcome(target: Any, template: tuple, kinds: tuple[str, ...], held: tuple[float | None, ...]) -> float:
    """What the operator makes of single numbers (None: not known)."""
    values = [np.array([UNKNOWN if h is None else h]) for h in held]
    return float(evaluate(target, template, kinds, values)[0])


def evaluate(
    target: Any, template: tuple, kinds: tuple[str, ...], values: Sequence[np.ndarray]
) -> np.ndarray:
    """The operator on vectors of held numbers; NaN in: not known; NaN out: not known, inf: not finite."""
    guessed = any(np.isnan(v).any() for v in values)
    tensors = []
    for number, (value, kind) in enumerate(zip(values, kinds, strict=True)):
        rows = np.tile(value, (len(SAMPLES) if guessed else 1, 1))
        if guessed:
            rows = np.where(np.isnan(rows), np.roll(SAMPLES, 2 * number)[:, None], rows)
        tensor = torch.from_numpy(rows)
        tensors.append(tensor > 0 if kind == "bool" else tensor.long() if kind == "int" else tensor)
    schema = target._schema.arguments
    positional = [
        tensors[a] if isinstance(a, Operand) else a
        for a, s in zip(template, schema, strict=True)
        if not s.kwarg_only
    ]
    named = {
        s.name: tensors[a] if isinstance(a, Operand) else a
        for a, s in zip(template, schema, strict=True)
        if s.kwarg_only and s.name not in ("device", "layout", "dtype", "pin_memory")
    }
    try:
        with torch.no_grad():
            result = target(*positional, **named)
            if result.is_complex():  # known to be zero, or not known
                result = torch.where(result == 0, 0.0, UNKNOWN)
            made = result.to(torch.float64).numpy()
    except (RuntimeError, TypeError, NotImplementedError):
        return np.full(values[0].shape, UNKNOWN)
    same = (made == made[:1]).all(axis=0)
    poisoned = np.any([np.isinf(v) for v in values], axis=0) | (
        ~np.isfinite(made[0]) if not guessed else False
    )
    return np.where(poisoned, np.inf, np.where(same, made[0], UNKNOWN))


def _flow(
    ctx: Context, node: fx.Node, call: Call, operands: Sequence[Value], nodes: Sequence[fx.Node]
) -> None:
    def zero(dead: Sequence[bool]) -> bool:
        return outcome(*call, tuple(0.0 if d else None for d in dead)) == 0

    singles = [(n,) for i, n in enumerate(nodes) if zero([j == i for j in range(len(nodes))])]
    together = [tuple(nodes)] if not singles and zero([True] * len(nodes)) else []
    ctx.flow(*singles, *together)
    if operator_name(node.target) in SUMS:
        shape = tuple(node.meta["val"].shape)
        inplace = operator_name(node.target).endswith("_")
        ctx.flows[node].sum_of = tuple(
            n
            for i, n in enumerate(nodes)
            if not (inplace and i == 0)
            and (len(nodes) == 1 or any(o.shape == shape for j, o in enumerate(operands) if j != i))
        )


def prelu(ctx: Context, node: fx.Node, x: Value, weight: Value) -> Value:
    """One slope, or one per channel (axis 1)."""
    axes = list(x.axes)
    if weight.shape == (1,) or x.ndim < 2:
        ctx.fix(weight.axes[0]) if weight.axes else None
    else:
        axes[1] = ctx.meet(x.axes[1], weight.axes[0])
        ctx.channel(weight.axes[0])
        ctx.resize(weight.parameter, "num_parameters", axes[1])
    ctx.flow((ctx.raw[0],))
    return x.but(axes=axes, dead=[_blurred(d) for d in x.dead], origin=None)


def _blurred(dead: Dead) -> Dead:
    return None if dead is None else np.where(dead == 0, 0, np.where(np.isinf(dead), np.inf, UNKNOWN))


def blurred(value: Value) -> list[Dead]:
    """Zero stays zero; any other held number is no longer known."""
    return [_blurred(d) for d in value.dead]


def same(ctx: Context, node: fx.Node, x: Value, *_: Any) -> Value:
    """Dropout in evaluation, casts, copies: the same channels, the same zeros."""
    ctx.flow((ctx.raw[0],))
    return x.but(shape=x.shape)


def like(ctx: Context, node: fx.Node, x: Value, *args: Any) -> Value:
    """`zeros_like` and its kin: the shape is x's, the content is not."""
    name = operator_name(node.target)
    held = {"aten.zeros_like": 0.0, "aten.ones_like": 1.0}.get(name, UNKNOWN)
    dead = [
        None if isinstance(a, str) or held == 0 else np.full(s, held)
        for a, s in zip(x.axes, x.shape, strict=True)
    ]
    return Value(x.shape, list(x.axes), dead, why=ctx.where(), from_input=False)


def constant(ctx: Context, node: fx.Node, *args: Any) -> Value:
    """`zeros`, `ones`, `full` and their `new_` kin: a size may be written out or read off a width."""
    name = operator_name(node.target).removeprefix("aten.").removeprefix("new_")
    shape = tuple(node.meta["val"].shape)
    given = args[2 if isinstance(args[0], Value) else 1]
    held = {"zeros": 0.0, "ones": 1.0}.get(name, float(given) if isinstance(given, (int, float)) else UNKNOWN)
    axes = [ctx.written_axis(size) for size in shape]
    dead = [
        None if isinstance(a, str) or held == 0 else np.full(s, held)
        for a, s in zip(axes, shape, strict=True)
    ]
    return Value(shape, axes, dead, why=ctx.where(), from_input=False)


def copy(ctx: Context, node: fx.Node, into: Value, source: Value, *_: Any) -> Value:
    """`a.copy_(b)`, also what an assignment to a slice becomes."""
    axes = list(into.axes)
    dead: list[Dead] = list(into.dead)
    for d in range(into.ndim):
        at = d - into.ndim + source.ndim
        if at >= 0 and source.shape[at] == into.shape[d]:
            axes[d] = ctx.meet(into.axes[d], source.axes[at])
            dead[d] = source.dead[at]
        elif not isinstance(into.axes[d], str):
            dead[d] = _filled(source.number, into.shape[d])
    written = into.from_input or source.from_input
    return into.but(axes=axes, dead=dead, why=source.why or ctx.where(), from_input=written, origin=None)


def fill(ctx: Context, node: fx.Node, into: Value, value: Any = 0.0, *_: Any) -> Value:
    number = value.number if isinstance(value, Value) else value
    dead = [
        None if isinstance(a, str) else _filled(number, s) for a, s in zip(into.axes, into.shape, strict=True)
    ]
    return into.but(dead=dead, why=ctx.where(), origin=None)


def _filled(number: Any, size: int) -> Dead:
    held = float(number) if isinstance(number, (int, float)) else UNKNOWN
    return None if held == 0 else np.full(size, held)


def random(ctx: Context, node: fx.Node, into: Value, *_: Any) -> Value:
    """`normal_` and its kin: into a tensor, or, without the underscore, another like it."""
    return fill(ctx, node, into, None)
