"""Rules for operators that move, split, join or regroup axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context, operator_name
from ganshrink.graph.values import UNKNOWN, Axis, Dead, Value, simplified


def permute(ctx: Context, node: fx.Node, x: Value, order: Sequence[int]) -> Value:
    ctx.flow((ctx.raw[0],))
    return x.but(
        shape=tuple(x.shape[d] for d in order),
        axes=[x.axes[d] for d in order],
        dead=[x.dead[d] for d in order],
        origin=x.origin or x.parameter,
    )


def transpose(ctx: Context, node: fx.Node, x: Value, first: int = 0, second: int = 1) -> Value:
    order = list(range(x.ndim))
    if x.ndim:
        order[first], order[second] = order[second], order[first]
    return permute(ctx, node, x, order)


def transpose_matrix(ctx: Context, node: fx.Node, x: Value) -> Value:
    """`t()`, `.T`, `.mT`."""
    if operator_name(node.target) in ("aten.mT", "aten.adjoint"):
        return transpose(ctx, node, x, -2, -1)
    return permute(ctx, node, x, list(range(x.ndim))[::-1])


def movedim(ctx: Context, node: fx.Node, x: Value, source: Any, destination: Any) -> Value:
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    placed = {t % x.ndim: s % x.ndim for s, t in zip(sources, targets, strict=True)}
    others = iter(d for d in range(x.ndim) if d not in placed.values())
    return permute(ctx, node, x, [placed[d] if d in placed else next(others) for d in range(x.ndim)])


def unsqueeze(ctx: Context, node: fx.Node, x: Value, dim: int) -> Value:
    at = dim % (x.ndim + 1)
    ctx.flow((ctx.raw[0],))
    return x.but(
        shape=tuple(node.meta["val"].shape),
        axes=[*x.axes[:at], "", *x.axes[at:]],
        dead=[*x.dead[:at], None, *x.dead[at:]],
        origin=None,
    )


def squeeze(ctx: Context, node: fx.Node, x: Value, dims: Any = None) -> Value:
    """Without axes it takes any of size one: also a channel axis that was cut to one, hence the probe."""
    if dims is None:
        over = set(range(x.ndim))
        for axis in x.axes:
            ctx.written_out(axis)
    else:
        over = {d % x.ndim for d in ([dims] if isinstance(dims, int) else dims)}
    kept = [d for d in range(x.ndim) if d not in over or x.shape[d] != 1]
    for d in set(range(x.ndim)) - set(kept):
        ctx.fix(x.axes[d])
    ctx.flow((ctx.raw[0],))
    return x.but(
        shape=tuple(x.shape[d] for d in kept),
        axes=[x.axes[d] for d in kept],
        dead=[x.dead[d] for d in kept],
        origin=None,
    )


def select(ctx: Context, node: fx.Node, x: Value, dim: int, index: int) -> Value:
    at = dim % x.ndim
    ctx.freeze(x.axes[at], f"one channel is picked by its number in {ctx.where()}")
    kept = [d for d in range(x.ndim) if d != at]
    ctx.flow((ctx.raw[0],))
    return x.but(
        shape=tuple(x.shape[d] for d in kept),
        axes=[x.axes[d] for d in kept],
        dead=[x.dead[d] for d in kept],
        origin=None,
    )


def expand(ctx: Context, node: fx.Node, x: Value, *_: Any) -> Value:
    """`expand` and `broadcast_to`: new sizes are numbers in the graph, and stay."""
    return _expanded(ctx, x, tuple(node.meta["val"].shape), ["" for _ in node.meta["val"].shape])


def expand_as(ctx: Context, node: fx.Node, x: Value, other: Value) -> Value:
    return _expanded(ctx, x, other.shape, other.axes)


def _expanded(ctx: Context, x: Value, shape: tuple[int, ...], new: Sequence[Axis]) -> Value:
    axes: list[Axis] = []
    dead: list[Dead] = []
    for d, size in enumerate(shape):
        at = d - len(shape) + x.ndim
        if at >= 0 and x.shape[at] == size:
            ctx.written_out(x.axes[at])
            ctx.written(x.axes[at])
            axes.append(x.axes[at])
            dead.append(x.dead[at])
            continue
        if at >= 0:
            ctx.fix(x.axes[at])
        axis = new[d]
        if isinstance(axis, str):
            axis = ctx.written_axis(size, kept=x.from_input)
        axes.append(axis)
        dead.append(None if isinstance(axis, str) else np.full(size, UNKNOWN))
    why = x.why or ctx.where()
    return x.but(shape=shape, axes=axes, dead=dead, why=why, origin=None)


# ---- parts


def part(ctx: Context, node: fx.Node, x: Value, at: int, start: int, stop: int, step: int = 1) -> Value:
    axes, dead, shape = list(x.axes), list(x.dead), list(x.shape)
    axis, held = axes[at], dead[at]
    if not isinstance(axis, str):
        axes[at] = axis[start:stop:step]
        dead[at] = None if held is None else simplified(held[start:stop:step])
    shape[at] = len(range(start, stop, step))
    return x.but(shape=tuple(shape), axes=axes, dead=dead, origin=None)


def slice_(
    ctx: Context, node: fx.Node, x: Value, dim: int = 0, start: Any = None, stop: Any = None, step: int = 1
) -> Value:
    at, size = dim % x.ndim, x.shape[dim]
    first, last, _ = slice(start, stop).indices(size)
    ctx.flow((ctx.raw[0],))
    if first == 0 and last == size and step == 1:
        return x.but(shape=x.shape)
    if isinstance(x.axes[at], str):
        return part(ctx, node, x, at, first, last, step)
    ctx.written_out(x.axes[at])
    ctx.written(x.axes[at][:last], x.axes[at][first:last], x.axes[at][:first], x.axes[at][last:])
    pieces = _sibling_slices(node, at, size)
    if step == 1 and pieces:
        tie_pieces(ctx, x.axes[at], pieces)
    return part(ctx, node, x, at, first, last, step)


def narrow(ctx: Context, node: fx.Node, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(ctx, node, x, dim, start, start + length)


def _sibling_slices(node: fx.Node, at: int, size: int) -> int:
    """Into how many equal parts all slices of this tensor cut this axis; 0 if they do not."""
    found = set()
    source = node.args[0]
    assert isinstance(source, fx.Node)
    for user in source.users:
        if user.target is not node.target:
            continue
        given = [*user.args, *[None] * 5][:5]
        dim = given[1] or 0
        if dim % len(source.meta["val"].shape) == at:  # type: ignore[operator]
            first, last, _ = slice(given[2], given[3]).indices(size)  # type: ignore[misc]
            found.add((first, last))
    ordered = sorted(found)
    widths = {last - first for first, last in ordered}
    whole = ordered[0][0] == 0 and ordered[-1][1] == size and sum(b - a for a, b in ordered) == size
    return len(ordered) if whole and len(widths) == 1 and len(ordered) > 1 else 0


def tie_pieces(ctx: Context, axis: Axis, pieces: int) -> None:
    if not isinstance(axis, str):
        rows = axis.reshape(pieces, -1)
        ctx.tie(rows[1:].ravel(), np.tile(rows[0], pieces - 1))


def chunk(ctx: Context, node: fx.Node, x: Value, pieces: int, dim: int = 0) -> list[Value]:
    at, size = dim % x.ndim, x.shape[dim]
    if size % pieces:
        ctx.freeze(x.axes[at], f"chunk makes unequal parts: {ctx.where()}")
    return _split(ctx, node, x, at, [t.shape[at] for t in node.meta["val"]])


def split(ctx: Context, node: fx.Node, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    """By one size or by a list of them, either of which may or may not have been read off the tensor."""
    at = dim % x.ndim
    ctx.written_out(x.axes[at])
    parts = _split(ctx, node, x, at, [t.shape[at] for t in node.meta["val"]])
    ctx.written(*(value.axes[at] for value in parts))
    return parts


def _split(ctx: Context, node: fx.Node, x: Value, at: int, sizes: Sequence[int]) -> list[Value]:
    if len(set(sizes)) == 1:
        tie_pieces(ctx, x.axes[at], len(sizes))
    starts = np.cumsum([0, *sizes])
    ctx.flow((ctx.raw[0],))
    return [part(ctx, node, x, at, int(a), int(b)) for a, b in zip(starts, starts[1:], strict=False)]


def unbind(ctx: Context, node: fx.Node, x: Value, dim: int = 0) -> list[Value]:
    at = dim % x.ndim
    ctx.freeze(x.axes[at], f"channels are picked one by one in {ctx.where()}")
    return [select(ctx, node, x, dim, i) for i in range(x.shape[at])]


def glu(ctx: Context, node: fx.Node, x: Value, dim: int = -1) -> Value:
    at, half = dim % x.ndim, x.shape[dim] // 2
    tie_pieces(ctx, x.axes[at], 2)
    return part(ctx, node, x, at, 0, half).but(dead=[_half(d, at == i, half) for i, d in enumerate(x.dead)])


def _half(dead: Dead, here: bool, half: int) -> Dead:
    if dead is None:
        return None
    kept = dead[:half] if here else dead
    return simplified(np.where(kept == 0, 0, UNKNOWN))
