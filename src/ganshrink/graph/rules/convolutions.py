"""Rules for convolutions: dense, grouped, depthwise, transposed."""

import math
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context
from ganshrink.graph.rules.products import spoil
from ganshrink.graph.values import UNKNOWN, Axis, Dead, Value


def conv(
    ctx: Context,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    at = x.ndim - weight.ndim + 1
    wide = weight.shape[1]
    _kernel_is_fixed(ctx, weight, depthwise=groups > 1 and wide == 1)
    if groups == 1:
        channels, out_axis = ctx.meet(x.axes[at], weight.axes[1]), weight.axes[0]
        ctx.consume(channels, _felt(x.dead[at], weight, 1), x.why)
    elif wide == 1:
        out_axis = _depthwise(ctx, x.axes[at], weight, weight.shape[0] // groups)
    else:
        _across_groups(ctx, x.axes[at], groups)
        _meet_part(ctx, x.axes[at], weight.axes[1], wide)
        ctx.consume(x.axes[at], _felt(x.dead[at], weight, 1), x.why)
        out_axis = _across_groups(ctx, weight.axes[0], groups)
    return _convolved(ctx, node, x, weight, bias, out_axis, at, 0 if groups == 1 or wide > 1 else None)


def conv_transpose(
    ctx: Context,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    at = x.ndim - weight.ndim + 1
    _kernel_is_fixed(ctx, weight, depthwise=groups == weight.shape[0] and groups > 1)
    producer: int | None = 1
    if groups == weight.shape[0] and groups > 1:
        own = _depthwise(ctx, x.axes[at], weight, 1)
        out_axis, producer = own if isinstance(own, str) else np.repeat(own, weight.shape[1]), None
    else:
        axis = ctx.meet(x.axes[at], weight.axes[0])
        ctx.consume(axis, _felt(x.dead[at], weight, 0), x.why)
        out_axis = weight.axes[1]
        if groups > 1:
            _across_groups(ctx, axis, groups)
            out_axis = out_axis if isinstance(out_axis, str) else np.tile(out_axis, groups)
    return _convolved(ctx, node, x, weight, bias, out_axis, at, producer, transposed=True)


def _felt(dead: Dead, weight: Value, axis: int) -> Dead:
    """What a sum over channels would feel of dead ones. A kernel that is an activation (modulated by a style, say) has no
    columns that are left as they are: where it is zero, nothing is felt."""
    held = weight.dead[axis]
    if dead is None or not weight.from_input:
        return dead
    if held is None:
        return None if not np.isinf(dead).any() else dead
    of_weight = np.resize(held, len(dead))  # of several groups, each has all of the kernel's
    return np.where((dead == 0) | ((of_weight == 0) & ~np.isinf(dead)), 0.0, dead)


def convolution(ctx: Context, node: fx.Node, x: Value, weight: Value, bias: Any, *rest: Any) -> Value:
    """`aten.convolution`, what a decomposed graph holds."""
    stride, padding, dilation, transposed, output_padding, groups = rest[:6]
    if transposed:
        return conv_transpose(ctx, node, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(ctx, node, x, weight, bias, stride, padding, dilation, groups)


def _kernel_is_fixed(ctx: Context, weight: Value, *, depthwise: bool) -> None:
    first = 1 if depthwise else 2
    for axis in weight.axes[first:]:
        ctx.fix(axis)
    for axis in weight.axes[:first]:
        ctx.channel(axis)


def _depthwise(ctx: Context, channels: Axis, weight: Value, multiplier: int) -> Axis:
    """Each input channel makes `multiplier` outputs of its own (in rows of the weight); `groups` follows the width."""
    ctx.fix(weight.axes[1])
    if not ctx.resize(weight.parameter or weight.origin, "groups", channels):
        ctx.written_out(channels)
        ctx.written(channels)
    spread = channels if isinstance(channels, str) else np.repeat(channels, multiplier)
    return ctx.meet(weight.axes[0], spread)


def _across_groups(ctx: Context, axis: Axis, groups: int) -> Axis:
    """Every group must stay as wide as the others: tie position j of each."""
    if not isinstance(axis, str):
        rows = axis.reshape(groups, -1)
        ctx.tie(rows[1:].ravel(), np.tile(rows[0], groups - 1))
    return axis


def _meet_part(ctx: Context, axis: Axis, part: Axis, size: int) -> None:
    first: Axis = axis if isinstance(axis, str) else axis[:size]
    ctx.meet(part, first)


def _convolved(
    ctx: Context,
    node: fx.Node,
    x: Value,
    weight: Value,
    bias: Value | None,
    out_axis: Axis,
    at: int,
    producer: int | None,
    *,
    transposed: bool = False,
) -> Value:
    if bias is not None:
        out_axis = ctx.meet(out_axis, bias.axes[0])
    shape = tuple(node.meta["val"].shape)
    kernel = math.prod(weight.shape[2:])
    axes = [*x.axes[:at], weight.axes[0], weight.axes[1]]
    sizes = [*x.shape[:at], weight.shape[0], weight.shape[1]]
    fixed = math.prod(s for s, a in zip(sizes, axes, strict=True) if isinstance(a, str))
    inside, outside = kernel * math.prod(x.shape[at + 1 :]), kernel * math.prod(shape[at + 1 :])
    exact = inside if transposed else outside
    ctx.cost([*axes, ""], [*sizes, exact], paper=fixed * outside)
    for axis in x.axes[at + 1 :]:
        ctx.fix(axis)
    ctx.flow((ctx.raw[0],), kills=(bias,))
    made = Value(shape, [*x.axes[:at], out_axis, *["" for _ in shape[at + 1 :]]], why=x.why)
    made.from_input = x.from_input or weight.from_input
    made_by = weight.dead[1 if transposed else 0]
    filtered = producer is None and x.dead[at] is None  # a dead channel by itself, whatever its kernel
    if made_by is not None and not filtered and not isinstance(out_axis, str):
        made.dead[at] = np.resize(np.where(made_by == 0, 0, UNKNOWN), len(out_axis))
        made.why = made.why or weight.why
    if bias is not None or any(d is not None for d in x.dead[:at]):
        spoil(ctx, made, range(at))
    made.producer = ctx.produce(weight, producer) if producer is not None else None
    return made
