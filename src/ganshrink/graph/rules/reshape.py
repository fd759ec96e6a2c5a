"""The rule for reshape, view, flatten and unflatten: which channels stand where after regrouping.

Sizes in the graph are plain numbers; whether the user's code read them off a tensor or wrote them out shows only when a
channel is cut, so every channel axis that is regrouped is probed.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context, operator_name
from ganshrink.graph.values import Axis, Dead, Value, agreed, simplified

LARGEST = 1 << 24  # longest flattened axis that is still followed position by position


def reshape(ctx: Context, node: fx.Node, x: Value, *args: Any) -> Value:
    shape = tuple(node.meta["val"].shape)
    asked = args[0] if args and isinstance(args[0], (list, tuple)) else []
    open_axis = list(asked).index(-1) if -1 in asked and len(asked) == len(shape) else None
    axes: list[Axis] = [""] * len(shape)
    dead: list[Dead] = [None] * len(shape)
    for inside, outside in segments(x.shape, shape):
        placed = _segment(ctx, x, inside, shape, outside)
        if isinstance(placed, int):
            placed = _regrouped(ctx, x, placed, inside, shape, outside, open_axis)
        for d, (axis, held) in placed.items():
            axes[d], dead[d] = axis, held
    ctx.flow((ctx.raw[0],))
    if operator_name(node.target) != "aten.flatten":
        for d in x.annotated():
            ctx.written_out(x.axes[d])
        ctx.written(*axes)
    return x.but(shape=shape, axes=axes, dead=dead, origin=None)


def segments(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes with equal products, in order; axes of size one stand alone or at a run's end."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        inside, outside = [], []
        left = right = 1
        if i < len(before):
            left, inside, i = before[i], [i], i + 1
        if j < len(after) and not (left == 1 and after[j] != 1):
            right, outside, j = after[j], [j], j + 1
        while left != right:
            if (left < right and i < len(before)) or j >= len(after):
                left, inside, i = left * before[i], [*inside, i], i + 1
            else:
                right, outside, j = right * after[j], [*outside, j], j + 1
        runs.append((inside, outside))
    return runs


Placed = dict[int, tuple[Axis, Dead]]  # per axis of the result


def _segment(
    ctx: Context, x: Value, inside: list[int], shape: Sequence[int], outside: list[int]
) -> Placed | int:
    """Where the channels of one run go: an answer, or the axis that carries them and is really regrouped."""
    marked = [d for d in inside if not isinstance(x.axes[d], str)]
    reason = next((str(x.axes[d]) for d in inside if isinstance(x.axes[d], str) and x.axes[d]), "")
    if len(inside) > 1:
        for d in [d for d in marked if x.shape[d] == 1]:
            ctx.fix(x.axes[d])
            marked.remove(d)
    if not marked:
        return dict.fromkeys(outside, (reason, None))
    if len(marked) > 1 or math.prod(x.shape[d] for d in inside) > LARGEST:
        text = f"two channel axes are merged in {ctx.where()}"
        for d in marked:
            ctx.freeze(x.axes[d], text)
        return dict.fromkeys(outside, (text, None))
    [at] = marked
    wide = [d for d in outside if shape[d] > 1]
    if len([d for d in inside if x.shape[d] > 1]) > 1 or len(wide) > 1:
        return at
    if x.shape[at] == 1 and len(outside) != 1:
        ctx.fix(x.axes[at])
        return {}
    return {(wide or outside)[0]: (x.axes[at], x.dead[at])}


def _regrouped(
    ctx: Context,
    x: Value,
    at: int,
    inside: list[int],
    shape: Sequence[int],
    outside: list[int],
    given: int | None,
) -> Placed:
    """Lay the run out flat, then give it to the one axis of the result that is wide, or to the one that carries it."""
    axis, held = x.axes[at], x.dead[at]
    before = math.prod(x.shape[d] for d in inside if d < at)
    after = math.prod(x.shape[d] for d in inside if d > at)
    flat = np.tile(np.repeat(axis, after), before)
    flat_dead = None if held is None else np.tile(np.repeat(held, after), before)
    wide = [d for d in outside if shape[d] > 1]
    if len(wide) == 1:
        return {wide[0]: (flat, flat_dead)}
    sizes = [shape[d] for d in outside]
    exact = [d for d in wide if _spread_alike(_rows(flat, sizes, outside.index(d)))]
    carrier = exact[0] if exact else _carrier(ctx, shape, wide, given)
    return {carrier: _kept(ctx, flat, flat_dead, sizes, outside.index(carrier))}


def _spread_alike(rows: np.ndarray) -> bool:
    """Every position along the other factors is the same channel, as after an unfolding."""
    return bool((rows == rows[:1]).all())


def _carrier(ctx: Context, shape: Sequence[int], wide: list[int], open_axis: int | None) -> int:
    """Which factor of a split axis follows the width: the one given as -1, else one guess after another, probed."""
    if open_axis in wide:
        assert open_axis is not None
        return open_axis
    ctx.ambiguous = True
    if ctx.carry == "first":
        return wide[0]
    if ctx.carry == "last":
        return wide[-1]
    return max(wide, key=lambda d: (shape[d], d))


def _kept(ctx: Context, flat: np.ndarray, dead: Dead, sizes: list[int], keep: int) -> tuple[np.ndarray, Dead]:
    """Tie all positions that share one index of the kept factor."""
    rows = _rows(flat, sizes, keep)
    ctx.tie(rows[1:].ravel(), np.tile(rows[0], len(rows) - 1))
    if dead is None:
        return rows[0], None
    return rows[0], simplified(agreed(_rows(dead, sizes, keep)))


def _rows(flat: np.ndarray, sizes: list[int], keep: int) -> np.ndarray:
    return np.moveaxis(flat.reshape(sizes), keep, -1).reshape(-1, sizes[keep])
