"""From a model and example inputs to its `Channels`: export once, read the graph, probe what the graph cannot tell."""

import sysconfig
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ganshrink.graph.assembly import Assembly
from ganshrink.graph.context import TORCH, Context
from ganshrink.graph.opaque import twin, with_stand_ins
from ganshrink.graph.probe_weights import use_probe_weights
from ganshrink.graph.probes import probed, uneven_cut
from ganshrink.graph.reader import TWO_WAYS, Reader
from ganshrink.graph.rules.table import Rule
from ganshrink.graph.widths import Place, follow
from ganshrink.pruning.atoms import Index
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
    exact: bool = False,
) -> Channels:
    """Give every channel of every tensor an atom.

    Args:
        model: any module that `torch.export` takes; it is copied, never changed.
        example: its inputs, batch first; they fix the size at which costs are counted (per image).
        freeze: paths of submodules whose channels all stay, and whose operators need no rules.
        rules: by operator name ("aten.roll", "mylib.op"): `rule(context, node, *arguments) -> Value`, see `rules.py`.
            Ready-made are `pointwise.same` (channels and zeros pass as they are) and `products.frozen` (all stay).
        exact: freeze the channels that norms over channels run over (layer norms, group norms): their statistics would
            change with a cut, so that soft masks and zeros tell something else than the cut. Without this they are cut,
            and `Group.statistics` says so.

    Raises:
        ValueError: if the model cannot be exported or an operator has no rule: which, where, and the ways out.
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
    model: nn.Module, example: tuple[Any, ...], freeze: Sequence[str], rules: dict[str, Rule], exact: bool
) -> Channels:
    plain = in_evaluation(folded_copy(model))
    plain.requires_grad_(False)
    program, images, hidden, of_tensors = _exported(plain, example, freeze)

    def read(carry: str = "largest", grouped: bool = False, exact: bool = exact or hidden > 0) -> _Reading:
        ctx = Context(plain, carry, exact, grouped)
        reader = Reader(ctx, rules, freeze)
        reader.read(program)
        assembly = Assembly(ctx, reader, images, hidden, example, of_tensors)
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


def _exported(
    plain: nn.Module, example: tuple[Any, ...], freeze: Sequence[str]
) -> tuple[torch.export.ExportedProgram, int, int, set[str]]:
    """The graph, for how many images, the multiply-accumulates that it does not show, and the paths of the modules that
    return one tensor.

    Traced with two images where the model takes two, so that a batch axis is not mistaken for another. Frozen submodules
    are looked into where they can be exported, for their costs; else stand-ins take their place.
    """
    doubled, images = _doubled(example)
    first = next(t for t in example if isinstance(t, torch.Tensor))
    attempts = [(doubled, images)] if doubled is not None else []
    attempts.append((example, first.shape[0] if first.ndim > 1 else 1))
    failure: Exception | None = None
    for stand_ins in (False, True) if freeze else (False,):
        for inputs, count in attempts:
            try:
                net, hidden = with_stand_ins(plain, freeze, inputs) if stand_ins else (twin(plain), 0)
                of_tensors = _returning_tensors(net)
                with warnings.catch_warnings():  # what a forward keeps in attributes stays on the twin
                    warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
                    return torch.export.export(net, inputs, strict=False), count, hidden, of_tensors
            except Exception as error:  # whatever user code raises while it is exported
                failure = error
    text = (str(failure) or type(failure).__name__).strip().splitlines()[0]
    assert failure is not None
    raise ValueError(
        f"the model cannot be exported: {text}, at {_user_frame(failure)}; {TWO_WAYS}"
    ) from failure


def _returning_tensors(net: nn.Module) -> set[str]:
    """Filled while the network runs: the paths of its modules whose calls return one tensor."""
    found: set[str] = set()

    def watch(path: str) -> Callable[..., None]:
        return lambda module, inputs, output: found.add(path) if isinstance(output, torch.Tensor) else None

    for path, module in net.named_modules():
        module.register_forward_hook(watch(path))
    return found


def _doubled(example: tuple[Any, ...]) -> tuple[tuple[Any, ...] | None, int]:
    batches = {t.shape[0] for t in example if isinstance(t, torch.Tensor) and t.ndim > 1}
    if len(batches) != 1 or 0 in batches:
        return None, 1
    [batch] = batches
    if batch > 1:
        return None, batch
    return tuple(torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim > 1 else t for t in example), 2


def _user_frame(error: BaseException) -> str:
    own = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((TORCH, STANDARD, "<")) and frame.filename != __file__
    ]
    return own[-1] if own else "an unknown line"
