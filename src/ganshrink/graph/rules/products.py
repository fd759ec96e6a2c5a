"""Rules for sums of products: linear layers, matrix products, einsum, attention, and convolutions."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import fx

from ganshrink.graph.context import Context, operator_name
from ganshrink.graph.values import UNKNOWN, Axis, Dead, Value


def contract(ctx: Context, node: fx.Node, left: Value, right: Value, spec: tuple[str, str, str]) -> Value:
    """A two-operand einsum: axes of one letter are tied, letters missing on the right are summed over."""
    axes: dict[str, Axis] = {}
    sizes: dict[str, int] = {}
    dead: dict[str, list[Dead]] = {}
    for value, letters in ((left, spec[0]), (right, spec[1])):
        for letter, axis, size, held in zip(letters, value.axes, value.shape, value.dead, strict=True):
            if letter in axes and sizes[letter] != size:  # a broadcast batch axis
                ctx.fix(axis if size == 1 else axes[letter])
                axes[letter], sizes[letter] = (axes[letter], sizes[letter]) if size == 1 else (axis, size)
                dead[letter] = [np.full(sizes[letter], UNKNOWN)]
                continue
            axes[letter] = ctx.meet(axes[letter], axis) if letter in axes else axis
            sizes[letter] = size
            dead.setdefault(letter, []).append(held)
    weights = [v for v in (left, right) if not v.from_input]
    for letter in axes:
        if letter not in spec[2]:
            _summed(ctx, axes[letter], [(left, spec[0]), (right, spec[1])], letter)
    ctx.cost(list(axes.values()), list(sizes.values()), attention=not weights)
    if not weights:
        for letter, axis in axes.items():
            if letter not in spec[2]:
                ctx.written_out(axis)  # a scale such as 1 / sqrt(size) may follow
    shape = tuple(node.meta["val"].shape)
    out_dead = [_product(dead[letter], sizes[letter], axes[letter]) for letter in spec[2]]
    out = Value(shape, [axes[letter] for letter in spec[2]], out_dead, why=left.why or right.why)
    out.from_input = left.from_input or right.from_input
    return out


def _summed(ctx: Context, axis: Axis, operands: Sequence[tuple[Value, str]], letter: str) -> None:
    """What is cut from a sum must be zero in an activation: a zeroed column of a weight is no excuse."""
    held: list[Dead] = []
    whys = []
    for value, letters in operands:
        if letter in letters and (value.from_input or all(not v.from_input for v, _ in operands)):
            held.append(value.dead[letters.index(letter)])
            whys.append(value.why)
        if letter in letters and not value.from_input:
            ctx.channel(axis)
    if not held or any(h is None for h in held):
        poison = [h for h in held if h is not None and np.isinf(h).any()]
        if not poison:
            return
        held = [poison[0]]
    spoiled = np.all([h != 0 for h in held if h is not None], axis=0)
    ctx.consume(axis, spoiled.astype(float), next((w for w in whys if w), ""))


def _product(deads: list[Dead], size: int, axis: Axis) -> Dead:
    if isinstance(axis, str) or any(d is None for d in deads):
        return None
    zero = np.any([d == 0 for d in deads if d is not None], axis=0)
    infinite = np.any([np.isinf(d) for d in deads if d is not None], axis=0)
    return np.where(zero, 0, np.where(infinite, np.inf, UNKNOWN)) if not zero.all() else None


def linear(ctx: Context, node: fx.Node, x: Value, weight: Value, bias: Value | None = None, *_: Any) -> Value:
    batch = "abcdefgh"[: x.ndim - 1]
    out = contract(ctx, node, x, weight, (batch + "i", "oi", batch + "o"))
    ctx.channel(weight.axes[0])
    if bias is not None:
        out.axes[-1] = ctx.meet(out.axes[-1], bias.axes[0])
        spoil(ctx, out, range(x.ndim - 1))
    ctx.flow((ctx.raw[0],), kills=(bias,))
    out.producer = ctx.produce(weight, 0)
    return out


def embedding(ctx: Context, node: fx.Node, weight: Value, indices: Value, *_: Any) -> Value:
    """Rows are picked by number; columns are channels."""
    ctx.freeze(weight.axes[0], f"rows are picked by number in {ctx.where()}")
    ctx.freeze_all(indices, f"they are numbers of rows in {ctx.where()}")
    ctx.channel(weight.axes[1])
    shape = tuple(node.meta["val"].shape)
    reason = f"it comes out of {ctx.where()}"
    out = Value(shape, [*[reason] * indices.ndim, weight.axes[1]], [*[None] * indices.ndim, weight.dead[1]])
    out.producer = ctx.produce(weight, 1)
    return out


def spoil(ctx: Context, value: Value, over: range) -> None:
    """A bias was added: what was zero along these axes is no longer."""
    for d in over:
        if not isinstance(value.axes[d], str):
            value.dead[d] = np.full(value.shape[d], UNKNOWN)
            value.why = value.why or ctx.where()


def matmul(ctx: Context, node: fx.Node, left: Value, right: Value) -> Value:
    if left.ndim == 1 or right.ndim == 1:
        return _vector_product(ctx, node, left, right)
    batch = "abcdefgh"[: max(left.ndim, right.ndim) - 2]
    of_left, of_right = batch[len(batch) - left.ndim + 2 :], batch[len(batch) - right.ndim + 2 :]
    out = contract(ctx, node, left, right, (of_left + "ij", of_right + "jk", batch + "ik"))
    ctx.flow((ctx.raw[0],), (ctx.raw[1],))
    if not right.from_input:
        ctx.channel(right.axes[-1])
        out.producer = ctx.produce(right, right.ndim - 1)
    elif not left.from_input:
        ctx.channel(left.axes[-2])
        out.producer = ctx.produce(left, left.ndim - 2)
    return out


def _vector_product(ctx: Context, node: fx.Node, left: Value, right: Value) -> Value:
    one, two = ("j" if left.ndim == 1 else "abcdefg"[: left.ndim - 1] + "j"), "j"
    if right.ndim > 1:
        one, two = "j", "abcdefg"[: right.ndim - 2] + "jk"
    return contract(ctx, node, left, right, (one, two, (one + two).replace("j", "")))


def _meet_bias(ctx: Context, out: Value, bias: Value) -> list[Any]:
    """Tie a bias to the product that it is added to; the axes of it that are spread over the product's."""
    spread = []
    for d, axis in enumerate(bias.axes):
        at = out.ndim - bias.ndim + d
        if bias.shape[d] == out.shape[at]:
            out.axes[at] = ctx.meet(out.axes[at], axis)
        else:
            spread.append(axis)
    return spread


def addmm(ctx: Context, node: fx.Node, bias: Value, left: Value, right: Value, *_: Any) -> Value:
    ctx.raw = ctx.raw[1:]
    out = matmul(ctx, node, left, right)
    _meet_bias(ctx, out, bias)
    if bias.ndim > 1 or bias.from_input:
        for axis in out.axes:
            ctx.freeze(axis, f"no rule for this form of {ctx.where()}")
    ctx.flows.pop(node, None)
    return out


def baddbmm(ctx: Context, node: fx.Node, bias: Value, left: Value, right: Value, *_: Any) -> Value:
    ctx.raw = ctx.raw[1:]
    out = matmul(ctx, node, left, right)
    for axis in _meet_bias(ctx, out, bias):
        ctx.fix(axis)
    spoil(ctx, out, range(out.ndim))
    ctx.flows.pop(node, None)
    return out


def einsum(ctx: Context, node: fx.Node, equation: str, tensors: Sequence[Value], *_: Any) -> Value:
    spec = equation.replace(" ", "")
    inputs, _arrow, output = spec.partition("->")
    parts = inputs.split(",")
    plain = "->" in spec and "." not in spec and all(len(set(p)) == len(p) for p in parts)
    if not plain or len(tensors) != 2:
        for value in tensors:
            ctx.freeze_all(value, f"no rule for the equation {equation!r} of {ctx.where()}")
        shape = tuple(node.meta["val"].shape)
        return Value(shape, [f"it comes out of {ctx.where()}"] * len(shape))
    out = contract(ctx, node, tensors[0], tensors[1], (parts[0], parts[1], output))
    for value, letters in zip(tensors, parts, strict=True):
        if not value.from_input:
            for letter in output:
                if letter in letters and letter not in parts[1 - parts.index(letters)]:
                    ctx.channel(value.axes[letters.index(letter)])
                    ctx.produce(value, letters.index(letter))
    return out


def attention(
    ctx: Context, node: fx.Node, q: Value, k: Value, v: Value, mask: Any = None, *rest: Any
) -> Value:
    """softmax(q k^T * scale) v. The default scale follows the width of q, so that width is kept."""
    scale = rest[2] if len(rest) > 2 else None
    batch = "abcdefgh"[: q.ndim - 2]
    if not q.ndim == k.ndim == v.ndim or (len(rest) > 3 and rest[3]):
        return frozen(ctx, node, q, k, v, mask)
    if scale is None:
        ctx.freeze(q.axes[-1], f"the scale follows the width in {ctx.where()}")
    weights = contract_like(ctx, q, k, (batch + "le", batch + "se", batch + "ls"))
    if isinstance(mask, Value):
        for d in range(mask.ndim):
            at = weights.ndim - mask.ndim + d
            if mask.shape[d] == weights.shape[at]:
                weights.axes[at] = ctx.meet(weights.axes[at], mask.axes[d])
    ctx.freeze(weights.axes[-1], f"softmax runs over channels in {ctx.where()}")
    weights.dead = [None if d is None else np.full(len(d), UNKNOWN) for d in weights.dead]
    return contract(ctx, node, weights, v, (batch + "ls", batch + "sv", batch + "lv"))


def contract_like(ctx: Context, left: Value, right: Value, spec: tuple[str, str, str]) -> Value:
    """`contract` for an inner step that has no node of its own."""
    sizes = dict(zip(spec[0] + spec[1], left.shape + right.shape, strict=True))
    step = SimpleNamespace(meta={"val": np.empty([sizes[letter] for letter in spec[2]], bool)})
    return contract(ctx, step, left, right, spec)  # type: ignore[arg-type]


def frozen(ctx: Context, node: fx.Node, *args: Any) -> Any:
    """Freeze every channel that touches this call: exact whatever it does, as nothing around it changes size."""
    for value in _flat(args):
        ctx.freeze_all(
            value, f"{operator_name(node.target).removeprefix('aten.')} needs all channels: {ctx.where()}"
        )
    made = fixed_like(node.meta.get("val"), f"it comes out of {ctx.where()}")
    for value in _flat(made):
        value.from_input = bool(_flat(args))
    return made


def fixed_like(example: Any, reason: str) -> Any:
    if isinstance(example, (list, tuple)):
        return [fixed_like(e, reason) for e in example]
    if hasattr(example, "shape"):
        return Value(tuple(example.shape), [reason] * len(example.shape))
    return example


def _flat(args: Any) -> list[Value]:
    if isinstance(args, Value):
        return [args]
    return [v for a in args for v in _flat(a)] if isinstance(args, (list, tuple)) else []
