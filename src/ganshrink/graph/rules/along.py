"""Rules for operators that work along some axes and treat all others alike: picking, sorting, summing up, transforming.

The axes they work along keep their size; channels on any other pass.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context, operator_name
from ganshrink.graph.rules.products import frozen
from ganshrink.graph.values import UNKNOWN, Axis, Dead, Value


def along(ctx: Context, node: fx.Node, x: Value, *args: Any) -> Any:
    """Along the axis `dim`: sums, sorts, and places picked by a tensor of numbers, perhaps to write something there."""
    named = _named(ctx, node, (x, *args))
    if not isinstance(named.get("dim"), int):
        return frozen(ctx, node, x, *args)
    at, name = named["dim"] % max(x.ndim, 1), operator_name(node.target).removeprefix("aten.").rstrip("_")
    ctx.fix(x.axes[at])
    axes, beside = list(x.axes), [v for v in args if isinstance(v, Value)]
    for value in beside:
        for d in range(value.ndim if value.ndim == x.ndim else 0):
            if d == at or value.shape[d] != x.shape[d]:
                ctx.fix(value.axes[d])
                if value.shape[d] > 1 or name != "take_along_dim":  # which broadcasts
                    ctx.fix(axes[d])
            else:
                axes[d] = ctx.meet(axes[d], value.axes[d])
        if value.ndim != x.ndim:
            ctx.freeze_all(value, f"they are numbers of places in {ctx.where()}")
    written = [named[key] for key in ("src", "source", "value") if key in named]
    clean = all(isinstance(w, Value) and w.ndim == x.ndim and not any(_held(w)) or w == 0 for w in written)
    dead: list[Dead] = [_zero_or_unknown(held, clean=clean, size=x.shape[d]) for d, held in enumerate(x.dead)]
    if not written:
        ctx.flow((ctx.raw[0],))

    def made(example: Any, held: list[Dead]) -> Value:
        shape = tuple(example.shape)
        kept = [d for d in range(x.ndim) if d != at or len(shape) == x.ndim]
        here = [
            axes[d] if d != at and size == x.shape[d] else f"{ctx.where()} runs over it"
            for d, size in zip(kept, shape, strict=True)
        ]
        marked = [None if isinstance(a, str) else held[d] for a, d in zip(here, kept, strict=True)]
        return x.but(shape=shape, axes=here, dead=marked, why=x.why or ctx.where(), origin=None)

    unknown: list[Dead] = [np.full(size, UNKNOWN) for size in x.shape]
    example = node.meta["val"]
    if isinstance(example, (list, tuple)):  # values, and where they were
        return [made(example[0], dead), *(made(e, unknown) for e in example[1:])]
    return made(example, unknown if name in ("argsort", "logcumsumexp") else dead)


def index(ctx: Context, node: fx.Node, x: Value, indices: Sequence[Any], *_: Any) -> Value:
    """`x[:, :, rows, columns]`: the axes that are picked from give way to those of the numbers."""
    shape = tuple(node.meta["val"].shape)
    picked = [d for d, i in enumerate(indices) if isinstance(i, Value)]
    for d in picked:
        ctx.fix(x.axes[d])
        ctx.freeze_all(indices[d], f"they are numbers of places in {ctx.where()}")
    kept = [d for d in range(x.ndim) if d not in picked]
    many = len(shape) - len(kept)
    side_by_side = picked == list(range(picked[0], picked[-1] + 1))
    at = picked[0] if side_by_side else 0
    place = f"it comes out of {ctx.where()}"
    axes: list[Axis] = [x.axes[d] for d in kept]
    dead: list[Dead] = [_zero_or_unknown(x.dead[d], clean=True, size=x.shape[d]) for d in kept]
    axes[at:at], dead[at:at] = [place] * many, [None] * many
    ctx.flow((ctx.raw[0],))
    return x.but(shape=shape, axes=axes, dead=dead, origin=None)


def index_put(ctx: Context, node: fx.Node, x: Value, indices: Sequence[Any], values: Value, *_: Any) -> Any:
    """One number into the places that are picked."""
    if any(size != 1 for size in values.shape):
        return frozen(ctx, node, x, indices, values)
    for d, picked in enumerate(indices):
        if isinstance(picked, Value):
            ctx.fix(x.axes[d])
            ctx.freeze_all(picked, f"they are numbers of places in {ctx.where()}")
    clean = values.number == 0
    dead = [
        _zero_or_unknown(held, clean=clean, size=size) for held, size in zip(x.dead, x.shape, strict=True)
    ]
    return x.but(dead=_on(x.axes, dead), why=x.why or ctx.where(), origin=None)


def fourier(ctx: Context, node: fx.Node, x: Value, *args: Any) -> Any:
    """Linear along its axes: `rfftn` and its kin, and shifts of them."""
    named = _named(ctx, node, (x, *args))
    over = named.get("dim")
    if over is None:
        sizes = named.get("s")
        two = "fft2" in operator_name(node.target)
        over = [-2, -1] if two else list(range(-len(sizes), 0)) if sizes else list(range(x.ndim))
    over = {d % x.ndim for d in ([over] if isinstance(over, int) else over)}
    for d in over:
        ctx.fix(x.axes[d])
    axes: list[Axis] = [f"{ctx.where()} runs over it" if d in over else a for d, a in enumerate(x.axes)]
    dead = [_zero_or_unknown(held, clean=True, size=size) for held, size in zip(x.dead, x.shape, strict=True)]
    ctx.flow((ctx.raw[0],))
    return x.but(shape=tuple(node.meta["val"].shape), axes=axes, dead=_on(axes, dead), origin=None)


def windows(ctx: Context, node: fx.Node, x: Value, dim: int, size: int, step: int) -> Value:
    """`Tensor.unfold`: windows along one axis, laid out along a new last one."""
    at = dim % x.ndim
    ctx.fix(x.axes[at])
    axes: list[Axis] = [*x.axes, ""]
    axes[at] = f"{ctx.where()} runs over it"
    dead = [*x.dead, None]
    ctx.flow((ctx.raw[0],))
    return x.but(shape=tuple(node.meta["val"].shape), axes=axes, dead=_on(axes, dead), origin=None)


def triangle(ctx: Context, node: fx.Node, x: Value, *_: Any) -> Value:
    """`tril`, `triu`: over the last two axes."""
    for axis in x.axes[-2:]:
        ctx.fix(axis)
    ctx.flow((ctx.raw[0],))
    axes: list[Axis] = [*x.axes[:-2], *("" for _ in x.axes[-2:])]
    dead = [_zero_or_unknown(held, clean=True, size=size) for held, size in zip(x.dead, x.shape, strict=True)]
    return x.but(axes=axes, dead=_on(axes, dead), origin=None)


def as_pairs(ctx: Context, node: fx.Node, x: Value) -> Value:
    """`view_as_real`: a new last axis of two."""
    ctx.flow((ctx.raw[0],))
    return x.but(shape=(*x.shape, 2), axes=[*x.axes, ""], dead=[*x.dead, None], origin=None)


def as_complex(ctx: Context, node: fx.Node, x: Value) -> Value:
    ctx.fix(x.axes[-1])
    ctx.flow((ctx.raw[0],))
    return x.but(shape=x.shape[:-1], axes=x.axes[:-1], dead=x.dead[:-1], origin=None)


def _named(ctx: Context, node: fx.Node, args: Sequence[Any]) -> dict[str, Any]:
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    return dict(zip(names, args, strict=False))


def _held(value: Value) -> list[bool]:
    return [held is not None for held in value.dead]


def _zero_or_unknown(held: Dead, *, clean: bool, size: int) -> Dead:
    """What was zero stays zero where only zeros are written; anything else is not known."""
    if held is None:
        return None if clean else np.full(size, UNKNOWN)
    return np.where((held == 0) & clean, 0, np.where(np.isinf(held), np.inf, UNKNOWN))


def _on(axes: Sequence[Axis], dead: Sequence[Dead]) -> list[Dead]:
    return [None if isinstance(axis, str) else held for axis, held in zip(axes, dead, strict=True)]
