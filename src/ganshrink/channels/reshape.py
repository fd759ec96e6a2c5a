"""The rule for reshape, view, flatten and unflatten: which channels stand where after regrouping.

Sizes in the graph are plain numbers; whether the user's code read them off a tensor or wrote them out shows only when a
channel is cut, so every channel axis that is regrouped is probed.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from ganshrink.channels.context import Context, operator_name
from ganshrink.channels.shapes import LARGEST
from ganshrink.channels.values import Axis, Dead, Value, agreed, simplified


def reshape(ctx: Context, node: fx.Node, x: Value, *args: Any) -> Value:
    shape = tuple(node.meta["val"].shape)
    asked = args[0] if args and isinstance(args[0], (list, tuple)) else []
    open_axis = list(asked).index(-1) if -1 in asked and len(asked) == len(shape) else None
    axes: list[Axis] = [""] * len(shape)
    dead: list[Dead] = [None] * len(shape)
    for inside, outside in segments(x.shape, shape):
        _segment(ctx, x, inside, shape, outside, axes, dead, open_axis)
    ctx.flow((ctx.raw[0],))
    if operator_name(node.target) != "aten.flatten":
        for d in x.annotated():
            ctx.written_out(x.axes[d])
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


def _segment(
    ctx: Context,
    x: Value,
    inside: list[int],
    shape: tuple[int, ...],
    outside: list[int],
    axes: list[Axis],
    dead: list[Dead],
    open_axis: int | None,
) -> None:
    marked = [d for d in inside if not isinstance(x.axes[d], str)]
    reason = next((str(x.axes[d]) for d in inside if isinstance(x.axes[d], str) and x.axes[d]), "")
    wide_in, wide_out = [d for d in inside if x.shape[d] > 1], [d for d in outside if shape[d] > 1]
    if len(marked) > 1:
        for d in marked:
            if x.shape[d] == 1:
                ctx.fix(x.axes[d])
        marked = [d for d in marked if x.shape[d] > 1]
    if not marked:
        for d in outside:
            axes[d] = reason
        return
    if len(marked) > 1 or math.prod(x.shape[d] for d in inside) > LARGEST:
        text = f"two channel axes are merged in {ctx.where()}"
        for d in marked:
            ctx.freeze(x.axes[d], text)
        for d in outside:
            axes[d] = text
        return
    [at] = marked
    axis, held = x.axes[at], x.dead[at]
    assert not isinstance(axis, str)
    if len(wide_in) <= 1 and len(wide_out) <= 1:
        target = wide_out[0] if wide_out else (outside[0] if outside else None)
        if x.shape[at] == 1 and (len(outside) != 1 or len(inside) != 1):
            ctx.fix(axis)
        elif target is not None:
            axes[target], dead[target] = axis, held
        return
    before = math.prod(x.shape[d] for d in inside if d < at)
    after = math.prod(x.shape[d] for d in inside if d > at)
    flat = np.tile(np.repeat(axis, after), before)
    flat_dead = None if held is None else np.tile(np.repeat(held, after), before)
    if len(wide_out) == 1:
        axes[wide_out[0]], dead[wide_out[0]] = flat, flat_dead
        return
    carrier = _carrier(ctx, shape, wide_out, open_axis)
    axes[carrier], dead[carrier] = _kept(ctx, flat, flat_dead, [shape[d] for d in outside], outside.index(carrier))


def _carrier(ctx: Context, shape: tuple[int, ...], wide: list[int], open_axis: int | None) -> int:
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
    rows = np.moveaxis(flat.reshape(sizes), keep, -1).reshape(-1, sizes[keep])
    ctx.tie(rows[1:].ravel(), np.tile(rows[0], len(rows) - 1))
    if dead is None:
        return rows[0], None
    held = np.moveaxis(dead.reshape(sizes), keep, -1).reshape(-1, sizes[keep])
    return rows[0], simplified(agreed(held))
