"""From a model and example inputs to its `Channels`: export once, read the graph, probe what the graph cannot tell."""

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ganshrink.channels.assembly import Assembly
from ganshrink.channels.context import TORCH, Context
from ganshrink.channels.folding import folded_copy
from ganshrink.channels.graph import Channels
from ganshrink.channels.probing import probed
from ganshrink.channels.reading import TWO_WAYS, Reader
from ganshrink.channels.rules import Rule


def trace(
    model: nn.Module,
    *example: Any,
    freeze: Sequence[str] = (),
    rules: Mapping[str, Rule] | None = None,
) -> Channels:
    """Give every channel of every tensor an atom.

    Args:
        model: any module that `torch.export` takes; it is copied, never changed.
        example: its inputs, batch first; they fix the size at which costs are counted (per image).
        freeze: paths of submodules whose channels all stay, and whose operators need no rules.
        rules: by operator name ("aten.roll", "mylib.op"): `rule(context, node, *arguments) -> Value`, see `rules.py`.

    Raises:
        ValueError: if the model cannot be exported or an operator has no rule: which, where, and the ways out.
    """
    if not any(isinstance(t, torch.Tensor) for t in example):
        raise ValueError("trace needs at least one example tensor: trace(model, torch.randn(1, 3, 256, 256))")
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}
    for path in freeze:
        if path not in paths:
            raise ValueError(f"freeze names {path!r}, but the model has no such submodule")
    plain = folded_copy(model).eval().requires_grad_(False)
    program, images = _exported(plain, example)
    found = _read(plain, program, images, example, freeze, dict(rules or {}), "largest")
    channels, ambiguous = probed(plain, found[0]), found[1]
    for carry in ("first", "last") if ambiguous and channels.refused else ():
        other = probed(plain, _read(plain, program, images, example, freeze, dict(rules or {}), carry)[0])
        if other.prunable > channels.prunable:
            channels = other
    return channels


def _read(
    model: nn.Module,
    program: torch.export.ExportedProgram,
    images: int,
    example: tuple[Any, ...],
    freeze: Sequence[str],
    rules: dict[str, Rule],
    carry: str,
) -> tuple[Channels, bool]:
    ctx = Context(model, carry)
    reader = Reader(ctx, rules, freeze)
    reader.read(program)
    return Assembly(ctx, reader, images, example).build(), ctx.ambiguous


def _exported(model: nn.Module, example: tuple[Any, ...]) -> tuple[torch.export.ExportedProgram, int]:
    """The graph, traced with two images where the model takes two, so that a batch axis is not mistaken for another."""
    doubled, images = _doubled(example)
    if doubled is not None:
        try:
            return torch.export.export(model, doubled, strict=False), images
        except Exception:  # the model takes one image only, or not even that: the next attempt tells
            pass
    first = next(t for t in example if isinstance(t, torch.Tensor))
    try:
        return torch.export.export(model, example, strict=False), first.shape[0] if first.ndim > 1 else 1
    except Exception as error:  # whatever user code raises while exported
        text = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ValueError(f"the model cannot be exported: {text}, at {_user_frame(error)}; {TWO_WAYS}") from error


def _doubled(example: tuple[Any, ...]) -> tuple[tuple[Any, ...] | None, int]:
    batches = {t.shape[0] for t in example if isinstance(t, torch.Tensor) and t.ndim > 1}
    if len(batches) != 1 or 0 in batches:
        return None, 1
    [batch] = batches
    if batch > 1:
        return None, batch
    return tuple(
        torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim > 1 else t for t in example
    ), 2


def _user_frame(error: BaseException) -> str:
    own = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(TORCH) and frame.filename != __file__
    ]
    return own[-1] if own else "an unknown line"
