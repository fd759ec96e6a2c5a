"""Cutting channels on trial. What a graph cannot tell (a size written out or read off a tensor, an assertion on a width)
shows when something is cut: groups whose cut changes the result are frozen, with the reason."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import training_failure
from ganshrink.pruning.extract import cut, trial
from ganshrink.pruning.plan import Plan

UNEVEN = ("uneven", "uneven otherwise")


def probed(plain: nn.Module, channels: Channels) -> Channels:
    """The channels with every group frozen that fails a trial cut. `plain` is the model, its parametrizations folded.

    Most networks pass the joint trials; only where one fails, or a size is written out, is every group tried.
    """
    free = [i for i, g in enumerate(channels.groups) if g.frozen is None]
    if not free:
        return channels
    literal = _literal_groups(channels)
    if not literal and _passes_joint_trials(plain, channels, free):
        return channels
    channels = _without_failing_removals(plain, channels)
    uneven = [(cuts, free) for cuts in UNEVEN if channels.following]
    trials = [("half", free), ("one left", free), ("one", literal), ("last", literal), *uneven]
    found: dict[int, str] = {0: ""}
    while found:  # what is frozen may leave another alone, whose cut fails then
        found = {}
        for cuts, among in trials:
            still_free = [i for i in among if channels.groups[i].frozen is None]
            reasons = _culprits(plain, channels, still_free, cuts)
            channels, found = channels.refrozen(reasons), found | reasons
    return channels


def uneven_cut(plain: nn.Module, channels: Channels) -> str | None:
    """What fails when every group loses some of its channels, neighbours not as many: an attribute that follows the wrong
    one of two groups shows."""
    free = [i for i, g in enumerate(channels.groups) if g.frozen is None]
    problems = (_trial(plain, channels, free, cuts) for cuts in UNEVEN)
    return next((problem for problem in problems if problem is not None), None)


def _passes_joint_trials(plain: nn.Module, channels: Channels, free: Sequence[int]) -> bool:
    """Half of everything; one atom left with every other branch emptied; all branches emptied."""
    branches = [i for i in free if channels.groups[i].removable]
    plans = [
        *(_cuts(channels, free, cuts) for cuts in UNEVEN if channels.following),
        _cuts(channels, free, "half"),
        _emptied(channels, branches[::2], _cuts(channels, free, "one left")),
    ]
    if branches:
        plans.append(_emptied(channels, branches, Plan.full(channels)))
    return all(_try(plain, channels, plan) is None for plan in plans)


def _literal_groups(channels: Channels) -> list[int]:
    group_of = channels.group_of
    return sorted({int(g) for atoms, _ in channels.literal for g in np.unique(group_of[atoms])})


def _culprits(plain: nn.Module, channels: Channels, groups: Sequence[int], cuts: str) -> dict[int, str]:
    """The smallest sets that fail on their own, found by halving; what only fails together is frozen together."""
    if not groups:
        return {}
    problem = _trial(plain, channels, groups, cuts)
    if problem is None:
        return {}
    if len(groups) == 1:
        return {groups[0]: _reason(channels, groups[0], problem)}
    middle = len(groups) // 2
    found = _culprits(plain, channels, groups[:middle], cuts) | _culprits(
        plain, channels, groups[middle:], cuts
    )
    rest = [g for g in groups if g not in found]
    if not rest or (found and _trial(plain, channels, rest, cuts) is None):
        return found
    if not found or _trial(plain, channels, rest, cuts) is not None:
        return found | {g: _reason(channels, g, problem) for g in rest}
    return found


def _trial(plain: nn.Module, channels: Channels, groups: Sequence[int], cuts: str) -> str | None:
    return _try(plain, channels, _cuts(channels, groups, cuts))


def _cuts(channels: Channels, groups: Sequence[int], cuts: str) -> Plan:
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    rng = np.random.default_rng(0)
    for number in groups:
        group = channels.groups[number]
        keep[group.atoms[torch.from_numpy(_cut(len(group), group.least, cuts, rng, number))]] = False
    return Plan(keep)


def _emptied(channels: Channels, groups: Sequence[int], plan: Plan) -> Plan:
    keep = plan.keep.clone()
    for number in groups:
        keep[channels.groups[number].atoms] = False
    return Plan(keep)


def _cut(size: int, least: int, cuts: str, rng: np.random.Generator, number: int) -> np.ndarray:
    """The atoms that a trial cuts of a group: half, all but the fewest ("one left"), the first ("one") or the "last", or
    how many its number says."""
    if size <= least:
        return np.zeros(0, np.int64)
    if cuts in UNEVEN:
        kept = number if cuts == "uneven" else number * number + 1
        return rng.permutation(size)[least + kept % (size - least) :]
    if cuts == "half":
        return rng.permutation(size)[: min(max(1, size // 2), size - least)]
    if cuts == "one left":
        start = min(size // 2, size - least)
        return np.delete(np.arange(size), slice(start, start + least))
    return np.array([0 if cuts == "one" else size - 1], np.int64)


def _try(plain: nn.Module, channels: Channels, plan: Plan) -> str | None:
    try:
        small = cut(plain, channels, plan)
        problem = trial(plain, channels, plan, small)
        if problem is None and channels.idle:
            problem = training_failure(small, plain, channels.example)
        return problem
    except ValueError as error:  # branches that may not all be empty
        return str(error)


def _reason(channels: Channels, number: int, problem: str) -> str:
    atoms = channels.groups[number].atoms.numpy()
    written = [text for literal, text in channels.literal if np.isin(atoms, literal).any()]
    place = getattr(problem, "place", "")
    if not written:
        return f"when cut, {problem}"
    at_fault = next((text for text in written if place and place in text), written[0])
    return f"{at_fault}: when cut, {problem}"


def _without_failing_removals(plain: nn.Module, channels: Channels) -> Channels:
    """Branches are emptied on trial, all of them and every other one: if that fails, what feeds nothing then stays; if it
    fails still, none may be emptied."""
    branches = [i for i, g in enumerate(channels.groups) if g.removable]
    alone = replace(channels, removals=channels.removals.without_following(), masks={})
    for kind in (channels, alone) if branches else ():
        some = (branches, branches[::2])
        if all(_try(plain, kind, _emptied(kind, them, Plan.full(kind))) is None for them in some):
            return kind
    return channels.refrozen({}, fixed_branches=True) if branches else channels
