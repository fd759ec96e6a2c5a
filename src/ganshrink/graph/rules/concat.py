"""Rules for operators that join tensors or regroup blocks of channels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context, full_dead
from ganshrink.graph.rules.products import frozen
from ganshrink.graph.rules.shapes import tie_pieces
from ganshrink.graph.values import UNKNOWN, Axis, Dead, Value, agreed, dead_vector, joined, simplified


def cat(ctx: Context, node: fx.Node, tensors: Sequence[Value], dim: int = 0) -> Value:
    shape = tuple(node.meta["val"].shape)
    values = [v for v in tensors if v.ndim == len(shape)]  # torch skips legacy empty tensors
    at = dim % len(shape)
    axes: list[Axis] = []
    dead: list[Dead] = []
    for d in range(len(shape)):
        if d != at:
            axis, held = values[0].axes[d], values[0].dead[d]
            for other in values[1:]:
                axis = ctx.meet(axis, other.axes[d])
                held = _alike(held, other.dead[d], shape[d])
            axes.append(axis)
            dead.append(None if isinstance(axis, str) else held)
        elif all(isinstance(v.axes[at], str) for v in values):
            axes.append(next((v.axes[at] for v in values if v.axes[at]), ""))
            dead.append(None)
        else:
            axes.append(np.concatenate([_atoms(ctx, v, at) for v in values]))
            dead.append(joined([v.dead[at] for v in values], [v.shape[at] for v in values]))
    nodes = tuple(n for n in node.all_input_nodes)
    ctx.flow(nodes)
    why = next((v.why for v in values if v.why), "")
    return Value(shape, axes, dead, why=why, from_input=any(v.from_input for v in values))


def _atoms(ctx: Context, value: Value, at: int) -> np.ndarray:
    """A part that never changes size still needs atoms beside one that does."""
    axis = value.axes[at]
    if not isinstance(axis, str):
        return axis
    fresh = ctx.fresh(value.shape[at])
    ctx.freeze(fresh, axis or f"it is joined with a tensor of fixed size in {ctx.where()}")
    return fresh


def _alike(left: Dead, right: Dead, size: int) -> Dead:
    if left is None and right is None:
        return None
    return agreed(np.stack([dead_vector(left, size), dead_vector(right, size)]))


def stack(ctx: Context, node: fx.Node, tensors: Sequence[Value], dim: int = 0) -> Value:
    at = dim % (tensors[0].ndim + 1)
    first = tensors[0]
    axes, dead = list(first.axes), list(first.dead)
    for other in tensors[1:]:
        axes = [ctx.meet(a, b) for a, b in zip(axes, other.axes, strict=True)]
        dead = [_alike(a, b, s) for a, b, s in zip(dead, other.dead, first.shape, strict=True)]
    ctx.flow(tuple(node.all_input_nodes))
    return Value(
        tuple(node.meta["val"].shape),
        [*axes[:at], "", *axes[at:]],
        [*dead[:at], None, *dead[at:]],
        why=next((v.why for v in tensors if v.why), ""),
        from_input=any(v.from_input for v in tensors),
    )


def repeat(ctx: Context, node: fx.Node, x: Value, times: Sequence[int]) -> Value:
    """Whole copies side by side: channels come back after as many as there were."""
    shape = tuple(node.meta["val"].shape)
    lead = len(shape) - x.ndim
    axes: list[Axis] = ["" for _ in range(lead)]
    dead: list[Dead] = [None] * lead
    for d, count in enumerate(times[lead:]):
        axis, held = x.axes[d], x.dead[d]
        if x.shape[d] == 1 and count > 1:
            ctx.fix(axis)
            axes.append(grown := ctx.written_axis(count, kept=x.from_input, batch=d == 0 and lead == 0))
            dead.append(None if isinstance(grown, str) else np.full(count, UNKNOWN))
            continue
        axes.append(axis if isinstance(axis, str) else np.tile(axis, count))
        dead.append(None if held is None else np.tile(held, count))
    ctx.flow((ctx.raw[0],))
    return x.but(shape=shape, axes=axes, dead=dead, origin=None)


def tile(ctx: Context, node: fx.Node, x: Value, times: Sequence[int]) -> Value:
    """`repeat`, for fewer axes than there are: the first ones stay."""
    return repeat(ctx, node, x, [*[1] * (x.ndim - len(times)), *times])


def repeat_interleave(ctx: Context, node: fx.Node, x: Value, times: Any, dim: Any = None, *_: Any) -> Value:
    if not isinstance(times, int) or dim is None:
        return frozen(ctx, node, x, times)
    axes, dead, at = list(x.axes), list(x.dead), dim % x.ndim
    axis, held = axes[at], dead[at]
    axes[at] = axis if isinstance(axis, str) else np.repeat(axis, times)
    dead[at] = None if held is None else np.repeat(held, times)
    ctx.flow((ctx.raw[0],))
    return x.but(shape=tuple(node.meta["val"].shape), axes=axes, dead=dead, origin=None)


def flip(ctx: Context, node: fx.Node, x: Value, dims: Sequence[int]) -> Value:
    axes, dead = list(x.axes), list(x.dead)
    for d in dims:
        axis, held = axes[d], dead[d]
        axes[d] = axis if isinstance(axis, str) else axis[::-1]
        dead[d] = None if held is None else held[::-1]
    ctx.flow((ctx.raw[0],))
    return x.but(axes=axes, dead=dead, origin=None)


def roll(ctx: Context, node: fx.Node, x: Value, shifts: Any, dims: Sequence[int] = ()) -> Value:
    if not dims or any(not isinstance(x.axes[d], str) for d in dims):
        return frozen(ctx, node, x)
    ctx.flow((ctx.raw[0],))
    return x.but(shape=x.shape)


# ---- blocks of channels


def pixel_shuffle(ctx: Context, node: fx.Node, x: Value, factor: int) -> Value:
    """r * r neighbouring channels become one."""
    return _gathered(ctx, node, x, factor * factor, x.ndim - 3)


def fold(ctx: Context, node: fx.Node, x: Value, size: Any, kernel: Sequence[int], *_: Any) -> Value:
    """`col2im`: k * k neighbouring channels become one."""
    return _gathered(ctx, node, x, math.prod(kernel), x.ndim - 2)


def _gathered(ctx: Context, node: fx.Node, x: Value, many: int, at: int) -> Value:
    shape = tuple(node.meta["val"].shape)
    axis, held = x.axes[at], x.dead[at]
    dead: Dead = None
    if not isinstance(axis, str):
        rows = axis.reshape(-1, many)
        ctx.tie(rows[:, 1:].ravel(), np.repeat(rows[:, 0], many - 1))
        dead = None if held is None else simplified(agreed(held.reshape(-1, many).T))
        axis = rows[:, 0]
    ctx.flow((ctx.raw[0],))
    rest = len(shape) - at - 1
    return x.but(
        shape=shape,
        axes=[*x.axes[:at], axis, *[""] * rest],
        dead=[*x.dead[:at], dead, *[None] * rest],
        origin=None,
    )


def pixel_unshuffle(ctx: Context, node: fx.Node, x: Value, factor: int) -> Value:
    return _scattered(ctx, node, x, factor * factor, x.ndim - 3)


def unfold(ctx: Context, node: fx.Node, x: Value, kernel: Sequence[int], *_: Any) -> Value:
    """`im2col`: every channel becomes k * k neighbouring ones."""
    return _scattered(ctx, node, x, math.prod(kernel), x.ndim - 3)


def _scattered(ctx: Context, node: fx.Node, x: Value, many: int, at: int) -> Value:
    shape = tuple(node.meta["val"].shape)
    axis, held = x.axes[at], x.dead[at]
    spread = axis if isinstance(axis, str) else np.repeat(axis, many)
    dead = None if held is None else np.repeat(held, many)
    ctx.flow((ctx.raw[0],))
    rest = len(shape) - at - 1
    return x.but(
        shape=shape,
        axes=[*x.axes[:at], spread, *[""] * rest],
        dead=[*x.dead[:at], dead, *[None] * rest],
        origin=None,
    )


def channel_shuffle(ctx: Context, node: fx.Node, x: Value, groups: int) -> Value:
    axes, dead = list(x.axes), list(x.dead)
    axis = axes[1]
    if not isinstance(axis, str):
        tie_pieces(ctx, axis, groups)
        axes[1] = axis.reshape(groups, -1).T.ravel()
        dead[1] = None if dead[1] is None else full_dead(x, 1).reshape(groups, -1).T.ravel()
    ctx.flow((ctx.raw[0],))
    return x.but(axes=axes, dead=dead, origin=None)
