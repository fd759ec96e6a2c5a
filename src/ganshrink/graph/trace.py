"""From a model and example inputs to its `Channels`: export once, read the graph, probe what the graph cannot tell."""

import logging
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ganshrink.graph.assembly import SINGLE, Assembly
from ganshrink.graph.context import TORCH, Context
from ganshrink.graph.opaque import twin, with_stand_ins
from ganshrink.graph.probe_weights import use_probe_weights
from ganshrink.graph.probes import probed
from ganshrink.graph.reader import WAY_OUT, Reader
from ganshrink.graph.rules.table import Rule
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import finite
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.threads import single_threaded
from ganshrink.pruning.untouched import untouched
from ganshrink.system.copies import in_evaluation

STANDARD = sysconfig.get_path("stdlib")


@single_threaded()
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
        freeze: paths of submodules whose channels all stay, and which need not be exportable.
        rules: by operator name ("aten.roll", "mylib.op"): `rule(context, node, *arguments) -> Value`, see `rules.py`.
            Without one, all channels that an operator touches stay. Ready-made are `pointwise.same` (channels and
            zeros pass as they are) and `products.frozen` (all stay).

    Raises:
        ValueError: if the model cannot be exported: why, where, and the way out; or a given rule fails.
    """
    if not any(isinstance(t, torch.Tensor) for t in example):
        raise ValueError("trace needs at least one example tensor: trace(model, torch.randn(1, 3, 256, 256))")
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}
    for path in freeze:
        if path not in paths:
            raise ValueError(f"freeze names {path!r}, but the model has no such submodule")
    with untouched(model):
        return _traced(model, example, freeze, dict(rules or {}))


def _traced(
    model: nn.Module, example: tuple[Any, ...], freeze: Sequence[str], rules: dict[str, Rule]
) -> Channels:
    plain = in_evaluation(folded_copy(model))
    plain.requires_grad_(False)
    program, images, hidden, of_tensors = _exported(plain, example, freeze)

    def read(carry: str) -> tuple[Channels, bool]:
        ctx = Context(plain, carry)
        reader = Reader(ctx, rules, freeze, images)
        reader.read(program)
        return probed(
            plain, Assembly(ctx, reader, images, hidden, example, of_tensors).build()
        ), ctx.ambiguous

    back = use_probe_weights(plain)
    channels = _freest(read)
    if channels.refused and not finite(plain, example):
        back()
        channels = _freest(read)
    return channels


def _freest(read: Callable[[str], tuple[Channels, bool]]) -> Channels:
    """Where a split axis leaves open which factor follows the width, every reading is tried."""
    channels, ambiguous = read("largest")
    doubtful = channels.refused or any(group.frozen == SINGLE for group in channels.groups)
    for carry in ("first", "last") if ambiguous and doubtful else ():
        other = read(carry)[0]
        if other.prunable > channels.prunable:
            channels = other
    return channels


def _exported(
    plain: nn.Module, example: tuple[Any, ...], freeze: Sequence[str]
) -> tuple[torch.export.ExportedProgram, int, int, set[str]]:
    """The graph, for how many images, the multiply-accumulates that it does not show, and the paths of the modules that
    return one tensor.

    Traced with two images where the model takes two, so that a batch axis is not mistaken for another. Frozen submodules
    are looked into where they can be exported, for their costs; else stand-ins take their place.
    """
    attempts = _attempts(example)
    failure: Exception | None = None
    for stand_ins in (False, True) if freeze else (False,):
        for inputs, count in attempts:
            try:
                net, hidden = with_stand_ins(plain, freeze, inputs) if stand_ins else (twin(plain), 0)
                of_tensors = _returning_tensors(net)
                with warnings.catch_warnings(), _silent():
                    # what a forward keeps in attributes stays on the twin
                    warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
                    return torch.export.export(net, inputs, strict=False), count, hidden, of_tensors
            except Exception as error:  # whatever user code raises while it is exported
                failure = error
    text = (str(failure) or type(failure).__name__).strip().splitlines()[0]
    assert failure is not None
    raise ValueError(
        f"the model cannot be exported: {text}, at {_user_frame(failure)}; {WAY_OUT}"
    ) from failure


def _returning_tensors(net: nn.Module) -> set[str]:
    """Filled while the network runs: the paths of its modules whose calls return one tensor."""
    found: set[str] = set()

    def watch(path: str) -> Callable[..., None]:
        return lambda module, inputs, output: found.add(path) if isinstance(output, torch.Tensor) else None

    for path, module in net.named_modules():
        module.register_forward_hook(watch(path))
    return found


def _attempts(example: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], int]]:
    """Inputs to export with, and of how many images: of one image two copies first, vectors such as labels and time steps
    too; then all but vectors; then as they are."""
    sizes = {t.shape[0] for t in example if isinstance(t, torch.Tensor) and t.ndim > 1}
    if not sizes:
        sizes = {t.shape[0] for t in example if isinstance(t, torch.Tensor) and t.ndim}
    if sizes != {1}:
        first = next(t for t in example if isinstance(t, torch.Tensor))
        return [(example, next(iter(sizes)) if len(sizes) == 1 else first.shape[0] if first.ndim > 1 else 1)]
    doubled = [
        tuple(
            torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim >= least and len(t) == 1 else t
            for t in example
        )
        for least in (1, 2)
    ]
    vectors = any(isinstance(t, torch.Tensor) and t.shape == (1,) for t in example)
    return [(doubled[0], 2), *([(doubled[1], 2)] if vectors else []), (example, 1)]


@contextmanager
def _silent() -> Iterator[None]:
    """An attempt that fails is no news: torch would log it as an error."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _user_frame(error: BaseException) -> str:
    own = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((TORCH, STANDARD, "<")) and frame.filename != __file__
    ]
    return own[-1] if own else "an unknown line"
