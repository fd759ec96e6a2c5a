"""Rules for norms, pools, resizing, padding, reductions and softmax."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context, Normed, operator_name
from ganshrink.graph.rules.pointwise import blurred, pointwise
from ganshrink.graph.rules.products import fixed_like, frozen
from ganshrink.graph.values import Axis, Value, simplified


def _meet_all(ctx: Context, axis: Axis, parameters: Sequence[Value | None]) -> Axis:
    for parameter in parameters:
        if parameter is not None:
            ctx.channel(parameter.axes[0])
            axis = ctx.meet(axis, parameter.axes[0])
    return axis


def _handle(ctx: Context, x: Value, weight: Value | None) -> None:
    scale = None if weight is None else weight.parameter
    if x.producer is not None and scale is not None:
        ctx.norms.append((x.producer, scale))
    node = ctx.raw[0]
    call = node if node in ctx.makers else ctx.carries.get(node)
    if call is not None:
        ctx.normed.setdefault(call, []).append(Normed(scale, ctx.where(), directly=node is call))
    if scale is not None:
        ctx.hear(scale)


def _normalised(
    ctx: Context, x: Value, axis: Axis, weight: Value | None, bias: Value | None, *, channel: int = 1
) -> Value:
    """A scale that dies with the channel is a factor: whatever finite the norm makes of a dead channel, it ends at 0.

    Without one, zero stays zero and anything else is no longer known.
    """
    axes, dead = list(x.axes), blurred(x)
    axes[channel] = axis
    held = dead[channel]
    if weight is not None and held is not None:
        dead[channel] = simplified(
            np.where(np.isinf(held), np.inf, weight.dead[0] if weight.dead[0] is not None else 0)
        )
    if bias is not None and bias.dead[0] is not None:
        dead[channel] = bias.dead[0]
    return x.but(axes=axes, dead=dead, origin=None, why=x.why or (bias.why if bias is not None else ""))


def batch_norm(
    ctx: Context, node: fx.Node, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, *_: Any
) -> Value:
    """Batch and instance norms: statistics per channel (axis 1)."""
    axis = _meet_all(ctx, x.axes[1], (weight, bias, mean, variance))
    if variance is not None and variance.parameter is not None:
        ctx.unzeroed.add(variance.parameter)
    known = next((p.parameter for p in (weight, bias, mean, variance) if p is not None and p.parameter), None)
    ctx.resize(known if ctx.caller() is None else None, "num_features", axis)
    _handle(ctx, x, weight)
    ctx.flow((ctx.raw[0],), kills=(weight, bias, mean))
    return _normalised(ctx, x, axis, weight, bias)


def group_norm(
    ctx: Context, node: fx.Node, x: Value, groups: int, weight: Any = None, bias: Any = None, *_: Any
) -> Value:
    """Statistics run over all channels of a norm group. Either these live and die together, which is exact, or every
    group loses the same number of them, and its statistics are those of the others."""
    axis = _meet_all(ctx, x.axes[1], (weight, bias))
    if isinstance(axis, str):
        return _normalised(ctx, x, axis, weight, bias)
    ctx.resize(None, "num_channels", axis)
    rows = axis.reshape(groups, -1)
    ctx.several_groups |= 1 < groups < len(axis)
    if not ctx.exact and (groups == 1 or (ctx.grouped and groups < len(axis))):
        ctx.tie(rows[1:].ravel(), np.tile(rows[0], groups - 1))
        return _over_live(ctx, x, 1, axis, weight, bias)
    if rows.shape[1] > 1:
        ctx.tie(rows[:, 1:].ravel(), np.repeat(rows[:, 0], rows.shape[1] - 1))
        ctx.together.append((rows[:, 0], f"{ctx.where()} runs over all its channels"))
    if not ctx.resize(None, "num_groups", rows[:, 0]):
        ctx.written_out(axis)
    _handle(ctx, x, weight)
    ctx.flow((ctx.raw[0],), kills=(weight, bias))
    return _normalised(ctx, x, axis, weight, bias)


def layer_norm(
    ctx: Context, node: fx.Node, x: Value, shape: Sequence[int], weight: Any = None, bias: Any = None, *_: Any
) -> Value:
    """Over the last axis: statistics of live channels. Over several axes, or where these may not change: frozen."""
    if len(shape) == 1 and not ctx.exact and not isinstance(x.axes[-1], str):
        given = [p if isinstance(p, Value) else None for p in (weight, bias)]
        axis = _meet_all(ctx, x.axes[-1], given)
        if not ctx.resize(None, "normalized_shape", axis):
            ctx.written_out(axis)
            ctx.written(axis)
        return _over_live(ctx, x, x.ndim - 1, axis, *given)
    where = f"{operator_name(node.target).removeprefix('aten.')} runs over channels: {ctx.where()}"
    first = x.ndim - len(shape)
    for axis in x.axes[first:]:
        ctx.freeze(axis, where)
    for parameter in (weight, bias):
        if isinstance(parameter, Value):
            over_channels = any(not isinstance(a, str) for a in x.axes[first:])
            for axis in parameter.axes:
                ctx.freeze(axis, where) if over_channels else ctx.fix(axis)
    axes = [*x.axes[:first], *(where if not isinstance(a, str) else a for a in x.axes[first:])]
    dead = blurred(x)
    if isinstance(bias, Value):
        dead = [
            None if isinstance(a, str) else np.full(s, np.nan) for a, s in zip(axes, x.shape, strict=True)
        ]
    return x.but(axes=axes, dead=dead, origin=None, why=x.why or ctx.where())


def _over_live(
    ctx: Context, x: Value, channel: int, axis: Axis, weight: Value | None, bias: Value | None
) -> Value:
    """A norm of live channels: what the masked network puts in the others' places is zero."""
    ctx.run_over([axis if d == channel else "" for d in range(x.ndim)], [channel])
    _handle(ctx, x, weight)
    ctx.flow((ctx.raw[0],), kills=(weight, bias))
    axes, dead = list(x.axes), blurred(x)
    axes[channel], dead[channel] = axis, None
    return x.but(axes=axes, dead=dead, origin=None)


def over_space(ctx: Context, node: fx.Node, x: Value, *args: Any) -> Any:
    """Pools, resizing, spatial padding: they work on the last axes, alike for every channel."""
    example = node.meta["val"]
    several = isinstance(example, (list, tuple))
    shape = tuple((example[0] if several else example).shape)
    if len(shape) != x.ndim:
        return frozen(ctx, node, x, *args)
    spatial = _spatial_rank(operator_name(node.target), x.ndim)
    for axis in x.axes[x.ndim - spatial :]:
        ctx.fix(axis)
    axes = [
        *x.axes[: x.ndim - spatial],
        *("" if isinstance(a, str) else a for a in x.axes[x.ndim - spatial :]),
    ]
    axes = [
        a if isinstance(a, str) or x.shape[d] == shape[d] else f"{ctx.where()} runs over it"
        for d, a in enumerate(axes)
    ]
    out = x.but(shape=shape, axes=axes, dead=_only(axes, blurred(x)), origin=None)
    ctx.flow((ctx.raw[0],))
    return [out, *fixed_like(example[1:], f"it comes out of {ctx.where()}")] if several else out


def _only(axes: Sequence[Axis], dead: Sequence[Any]) -> list[Any]:
    return [None if isinstance(a, str) else d for a, d in zip(axes, dead, strict=True)]


def _spatial_rank(name: str, ndim: int) -> int:
    for rank in (1, 2, 3):
        if f"{rank}d" in name:
            return rank
    return ndim - 2


def pad(
    ctx: Context, node: fx.Node, x: Value, amounts: Sequence[int], mode: Any = "constant", value: Any = None
) -> Value:
    """Zero, reflect, replicate and circular padding; `constant_pad_nd` has its value where others have a mode."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    shape = tuple(node.meta["val"].shape)
    axes, dead = list(x.axes), list(x.dead)
    touched = [x.ndim - 1 - i // 2 for i, amount in enumerate(amounts) if amount]
    for d in set(touched):
        axis = axes[d]
        if isinstance(axis, str):
            continue
        before, after = amounts[2 * (x.ndim - 1 - d)], amounts[2 * (x.ndim - 1 - d) + 1]
        if mode != "constant" or before < 0 or after < 0:
            ctx.freeze(axis, f"{ctx.where()} pads channels")
            axes[d] = f"{ctx.where()} pads channels"
            continue
        more = ctx.fresh(before + after)
        ctx.freeze(more, f"{ctx.where()} pads channels")
        ctx.written_out(axis)
        axes[d] = np.concatenate([more[:before], axis, more[before:]])
        held = np.zeros(len(axis)) if dead[d] is None else dead[d]
        assert held is not None
        dead[d] = simplified(np.concatenate([np.zeros(before), held, np.zeros(after)]))
    if mode == "constant":
        dead = _bordered(ctx, x, axes, dead, shape, 0.0 if value is None else float(value), touched)
    if not value:
        ctx.flow((ctx.raw[0],))
    return x.but(shape=shape, axes=axes, dead=dead, why=x.why or ctx.where(), origin=None)


def _bordered(ctx: Context, x: Value, axes: Any, dead: Any, shape: Any, value: float, touched: Any) -> Any:
    """A border of `value` is part of every channel: a dead one keeps what it holds only if that is the same."""
    out = []
    for d, (axis, held) in enumerate(zip(axes, dead, strict=True)):
        crossed = any(t != d for t in touched)
        if isinstance(axis, str) or not crossed:
            out.append(held)
            continue
        vector = np.zeros(shape[d]) if held is None else held
        out.append(simplified(np.where(vector == value, vector, np.where(np.isinf(vector), np.inf, np.nan))))
    return out


# Reductions that say the same of some channels as of all.
OF_LIVE = {
    "mean",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "amax",
    "amin",
    "max",
    "min",
    "norm",
    "linalg_vector_norm",
}


def _numbers_used(node: fx.Node) -> bool:
    """Whether somebody reads which channel was the largest."""
    return isinstance(node.meta["val"], (list, tuple)) and any(
        user.args[1] != 0 and user.users for user in node.users
    )


def reduce(ctx: Context, node: fx.Node, x: Value, dims: Any = None, *rest: Any) -> Any:
    """Means, sums, maxima, variances over some axes. Over channels only plain sums are exact; others are of live ones."""
    if isinstance(dims, Value):
        return pointwise(ctx, node, x, dims)  # torch.max(a, b)
    name = operator_name(node.target).removeprefix("aten.")
    if name == "linalg_vector_norm" or (name == "norm" and rest):
        dims, rest = rest[0], rest[1:]
    if isinstance(dims, bool) or (name in ("max", "min", "std", "var", "any", "all") and dims is None):
        dims = None
    over = range(x.ndim) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    over = {d % x.ndim for d in over} if x.ndim else set()
    example = node.meta["val"]
    held = any(x.dead[d] is not None for d in over)
    if name == "sum" or (name in ("linalg_vector_norm", "norm") and (ctx.exact or not held)):
        for d in over:
            ctx.consume(x.axes[d], x.dead[d], x.why)
            ctx.written_out(x.axes[d])
    elif name in OF_LIVE and not (name in ("max", "min") and _numbers_used(node)):
        ctx.run_over(x.axes, sorted(over))
    else:
        for d in over:
            ctx.freeze(x.axes[d], f"{name} runs over channels: {ctx.where()}")
    several = isinstance(example, (list, tuple))
    shape = tuple((example[0] if several else example).shape)
    kept = [d for d in range(x.ndim) if d not in over]
    if len(shape) == x.ndim:
        axes: list[Axis] = ["" if d in over else x.axes[d] for d in range(x.ndim)]
        dead = [None if d in over else blurred(x)[d] for d in range(x.ndim)]
    else:
        axes, dead = [x.axes[d] for d in kept], [blurred(x)[d] for d in kept]
    if name in ("logsumexp", "all", "argmax", "argmin"):
        dead = [None if isinstance(a, str) else np.full(s, np.nan) for a, s in zip(axes, shape, strict=True)]
    else:
        ctx.flow((ctx.raw[0],))
    out = x.but(shape=shape, axes=axes, dead=dead, why=x.why or ctx.where(), origin=None)
    return [out for _ in example] if several else out


def softmax(ctx: Context, node: fx.Node, x: Value, dim: int, *_: Any) -> Value:
    """Freezes the axis it runs over."""
    axes, reason = list(x.axes), f"softmax runs over channels: {ctx.where()}"
    ctx.freeze(axes[dim], reason)
    axes[dim] = reason if not isinstance(axes[dim], str) else axes[dim]
    dead = [None if isinstance(a, str) else np.full(s, np.nan) for a, s in zip(axes, x.shape, strict=True)]
    return x.but(axes=axes, dead=dead, why=ctx.where(), origin=None)


def grid_sample(ctx: Context, node: fx.Node, x: Value, grid: Value, *_: Any) -> Value:
    """Channels of the image pass through; those of the grid are coordinates."""
    shape = tuple(node.meta["val"].shape)
    ctx.freeze_all(grid, f"they are coordinates in {ctx.where()}")
    ctx.flow((ctx.raw[0],))
    return x.but(
        shape=shape,
        axes=[*x.axes[:2], *["" for _ in shape[2:]]],
        dead=[*blurred(x)[:2], *[None] * (len(shape) - 2)],
    )
