"""From a model and example inputs to its `Channels`: export once, read the graph, probe what the graph cannot tell."""

import io
import logging
import re
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ganshrink.graph.assembly import Assembly
from ganshrink.graph.context import TORCH, Context
from ganshrink.graph.opaque import twin, with_stand_ins
from ganshrink.graph.probe_weights import use_probe_weights
from ganshrink.graph.probes import probed, uneven_cut
from ganshrink.graph.reader import WAY_OUT, Reader
from ganshrink.graph.rules.table import Rule
from ganshrink.graph.widths import Place, follow
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import finite
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.threads import single_threaded
from ganshrink.pruning.untouched import untouched
from ganshrink.system.copies import in_evaluation

MOST_STAND_INS = 8  # submodules in which an export fails, one after the other
NOISY = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
STANDARD = sysconfig.get_path("stdlib")


@single_threaded()
def trace(
    model: nn.Module,
    *example: Any,
    freeze: Sequence[str] = (),
    rules: Mapping[str, Rule] | None = None,
    exact: bool = False,
) -> Channels:
    """Give every channel of every tensor an atom.

    Args:
        model: any module that `torch.export` takes; it is copied, never changed.
        example: its inputs, batch first; they fix the size at which costs are counted (per image).
        freeze: paths of submodules whose channels all stay, and which need not be exportable.
        rules: by operator name ("aten.roll", "mylib.op"): `rule(context, node, *arguments) -> Value`, see `rules.py`.
            Without one, all channels that an operator touches stay. Ready-made are `pointwise.same` (channels and
            zeros pass as they are) and `products.frozen` (all stay).
        exact: freeze the channels that norms over channels run over (layer norms, group norms): their statistics would
            change with a cut, so that soft masks and zeros tell something else than the cut. Without this they are cut,
            and `Group.statistics` says so.

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
        return _traced(model, example, freeze, dict(rules or {}), exact)


def _traced(
    model: nn.Module,
    example: tuple[Any, ...],
    freeze: Sequence[str],
    rules: dict[str, Rule],
    exact: bool,
) -> Channels:
    plain = in_evaluation(folded_copy(model))
    plain.requires_grad_(False)
    found = exported(plain, example, freeze)

    exact = exact or found.stand_ins  # the masked network could not be exported

    def read(carry: str = "largest", grouped: bool = False, exact: bool = exact) -> _Reading:
        ctx = Context(plain, carry, exact, found.images, grouped)
        reader = Reader(ctx, rules, found.frozen, found.images)
        reader.read(found.program)
        assembly = Assembly(ctx, reader, found.images, found.hidden, example, found.of_tensors)
        return _Reading(assembly.build(), ctx, ctx.candidates.compact(assembly.compact))

    back = use_probe_weights(plain)
    channels = _freest(plain, read)
    if channels.refused and not finite(plain, example):
        back()
        channels = _freest(plain, read)
    return channels


class _Reading(NamedTuple):
    channels: Channels
    ctx: Context
    possible: dict[Place, list[Index]]  # attributes that may state widths


def _freest(plain: nn.Module, read: Callable[..., _Reading]) -> Channels:
    """Where the graph leaves open how channels are tied, every reading is tried: which factor of a split axis follows the
    width; whether a group norm of several groups loses whole groups, or as many channels of each."""
    reading, more = read(), {}
    if reading.ctx.several_groups and not reading.ctx.exact:
        grouped = read(grouped=True)
        if grouped.channels.prunable > reading.channels.prunable:
            reading, more = grouped, {"grouped": True}
    channels = _probed(plain, reading)
    alone = any(len(group) == 1 and group.frozen for group in channels.groups)
    for carry in ("first", "last") if reading.ctx.ambiguous and (channels.refused or alone) else ():
        other = _probed(plain, read(carry=carry, **more))
        if other.prunable > channels.prunable:
            channels = other
    if channels.refused and channels.statistics:  # perhaps the norms' cuts are what fails
        other = _probed(plain, read(exact=True))
        if other.prunable > channels.prunable:
            channels = other
    return channels


def _probed(plain: nn.Module, reading: _Reading) -> Channels:
    """The channels after trial cuts, with attributes that follow widths where that sets more of them free."""
    channels = reading.channels
    attempt = partial(uneven_cut, plain)
    if not reading.possible or attempt(channels) is None:
        return probed(plain, channels)
    following = follow(channels, plain, list(reading.ctx.candidates.written), reading.possible, attempt)
    found = probed(plain, following)
    if not found.refused:
        return found
    other = probed(plain, channels)
    return other if other.prunable >= found.prunable else found


@dataclass
class Export:
    """A graph, and what it does not show."""

    program: torch.export.ExportedProgram
    images: int  # that it is for
    hidden: int  # multiply-accumulates of submodules that were not looked into
    of_tensors: set[str]  # paths of the modules that return one tensor
    frozen: dict[str, str]  # paths of submodules whose channels all stay: why
    stand_ins: bool  # some submodules are not in the graph


def exported(plain: nn.Module, example: tuple[Any, ...], freeze: Sequence[str]) -> Export:
    """Traced with two images where the model takes two, so that a batch axis is not mistaken for another.

    Frozen submodules are looked into where they can be exported, for their costs; else stand-ins take their place. They
    also take the place of a submodule, called once or more, in which the export fails.
    """
    frozen = {path: f"the submodule {path} is frozen on request" for path in freeze}
    attempts = [(inputs, images, list[str]()) for inputs, images in _attempts(example)]
    if freeze:
        attempts += [(inputs, images, list(freeze)) for inputs, images, _ in attempts]
    failure: Exception | None = None
    tried: list[Any] = []
    while attempts:
        inputs, count, stand_ins = attempts.pop(0)
        try:
            net, hidden = with_stand_ins(plain, stand_ins, inputs) if stand_ins else (twin(plain), 0)
        except Exception as error:  # whatever user code raises when it is run
            failure = failure or error
            continue
        of_tensors = _returning_tensors(net)
        try:
            with warnings.catch_warnings(), _silent():
                # what a forward keeps in attributes stays on the twin
                warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
                program = torch.export.export(net, inputs, strict=False)
            return Export(program, count, hidden, of_tensors, frozen, bool(stand_ins))
        except Exception as error:  # whatever user code raises while it is exported
            failure = error
        tried.append((inputs, count, stand_ins, failure, net))
        if not attempts and len(tried) <= MOST_STAND_INS:
            attempts = _around(tried, frozen)
    assert failure is not None
    raise ValueError(
        f"the model cannot be exported: {_first_line(failure)}, at {_user_frame(failure)}; {WAY_OUT}"
    ) from failure


def _around(tried: Sequence[Any], frozen: dict[str, str]) -> list[tuple[tuple[Any, ...], int, list[str]]]:
    """The attempt to go on with: stand-ins also for the submodules in which one of the last failed; notes why."""
    for inputs, images, stand_ins, failure, net in reversed(tried):
        paths = {id(module): path for path, module in net.named_modules() if path}
        constants = re.findall(r"(?<=[ ,])([\w.]+)\.lifted_tensor_\d+", str(failure))  # torch's word for them
        new = constants
        if not new:
            frames = [frame for frame, _ in traceback.walk_tb(failure.__traceback__)]
            called = (paths.get(id(frame.f_locals.get("self"))) for frame in reversed(frames))
            new = [path for path in called if path is not None][:1]
        new = [path for path in new if path in paths.values() and path not in stand_ins]
        if new:
            place = f"{_first_line(failure)}, at {_user_frame(failure)}"
            if constants:
                place = "it keeps a tensor that its forward makes, as by writing .data"
            frozen |= {p: f"the submodule {p} cannot be exported: {place}" for p in new}
            return [(inputs, images, [*stand_ins, *new])]
    return []


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


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
    """An attempt that fails is no news: torch would log it as an error, or print the graph so far."""
    loggers = [logging.getLogger(name) for name in NOISY]
    before, sink = [logger.disabled for logger in loggers], io.StringIO()
    for logger in loggers:
        logger.disabled = True
    try:
        with redirect_stderr(sink):
            yield
        sys.stderr.write(sink.getvalue())
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _user_frame(error: BaseException) -> str:
    own = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((TORCH, STANDARD, "<")) and frame.filename != __file__
    ]
    return own[-1] if own else "an unknown line"
