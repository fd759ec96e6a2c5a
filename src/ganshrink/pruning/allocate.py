"""From scores to a plan that keeps a budget."""

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.budget import Budget, spending
from ganshrink.pruning.channels import Channels, Group
from ganshrink.pruning.plan import Plan

Floor = int | Mapping[str, int] | Callable[[Group], int]


@dataclass(frozen=True)
class Ladder:
    """One group's atoms by falling score, and the widths it may have."""

    atoms: Index  # without those that are gone
    scores: np.ndarray  # falling
    least: int
    step: int
    full: int  # the group's width, always allowed
    fewest: int = 1  # of a group that may reach zero: no width below this but zero

    def width(self, threshold: float) -> int:
        """How many stay if those above the threshold do."""
        above = int(np.searchsorted(-self.scores, -threshold, side="left"))
        width = max(self.least, above if above == self.full else above // self.step * self.step)
        return 0 if width < self.fewest else width

    def next(self, width: int) -> int | None:
        """The width after this one; None if there is no wider one."""
        wider = min(self.full, max(self.fewest, (width // self.step + 1) * self.step))
        return wider if width < wider <= len(self.atoms) else None


def bisect_threshold(
    channels: Channels,
    scores: torch.Tensor,
    budget: Budget | str,
    *,
    floor: Floor = 1,
    round_to: int | None = None,
) -> Plan:
    """Keep the atoms whose score is above the lowest threshold that fits the budget (CAT, Algorithm 1, on sorted scores).

    Then atoms (or blocks of `round_to`) come back one by one, by falling score, as long as they fit. Ties go to the lower
    atom number, so the result is exact and the same every time; it never exceeds the budget.

    Args:
        scores: (num_atoms,) floats; those of frozen groups are not read. An atom of score -inf is gone already: it is not
            kept, unless its group would fall below its least width.
        budget: limits that must all hold, or their text such as "macs=2.6G".
        floor: the least width of a group that cannot be removed: for all, by group name (others 1), or a function of
            the group. Removable groups may reach zero.
        round_to: kept widths are multiples of this, if given; a group's full width is always allowed.

    Raises:
        ValueError: for an infeasible budget (with the smallest reachable cost), or scores that do not fit.
    """
    round_to = 1 if round_to is None else round_to
    if round_to < 1:
        raise ValueError(f"round_to must be at least 1, got {round_to}")
    limits = (Budget.parse(budget) if isinstance(budget, str) else budget).resolve(channels)
    ladders = _ladders(channels, scores, floor, round_to)

    def fits(widths: Index) -> bool:
        return all(spending(channels, widths, limit) <= limit.amount for limit in limits.limits)

    widths = _at(ladders, channels.full_widths(), -math.inf)
    if not fits(widths):
        if not fits(smallest := _at(ladders, widths, math.inf)):
            raise ValueError(cannot_be_met(channels, limits, smallest))
        widths = _lowest_fitting(ladders, widths, fits)
    widths = _add_back(ladders, widths, fits)
    keep = np.ones(channels.num_atoms, bool)
    for number, ladder in ladders.items():
        keep[channels.groups[number].atoms.numpy()] = False
        keep[ladder.atoms[: widths[number]]] = True
    return Plan(torch.from_numpy(keep))


def rounded_down(channels: Channels, widths: Index, floor: int, step: int) -> Index:
    """Widths per group as `bisect_threshold` rounds them; a full width stays, as does one that is below the floor."""
    full = channels.full_widths()
    least = np.array([0 if g.removable else max(g.least, min(floor, len(g))) for g in channels.groups])
    return np.where(widths == full, full, np.maximum(widths // step * step, np.minimum(least, widths)))


def share_of_each(channels: Channels, share: float, *, round_to: int = 1) -> Plan:
    """The same share of every free layer, from above 0 to 1, rounded up to a multiple: a narrower network of its kind."""
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in channels.free:
        exact = round(share * len(group), 6)  # 0.07 of 100 channels is 7.000000000000001
        keep[group.atoms[max(group.least, max(1, math.ceil(exact / round_to)) * round_to) :]] = False
    return Plan(keep)


def _ladders(channels: Channels, scores: torch.Tensor, floor: Floor, step: int) -> dict[int, Ladder]:
    if scores.shape != (channels.num_atoms,):
        raise ValueError(f"scores must be ({channels.num_atoms},), one per atom, got {tuple(scores.shape)}")
    values = scores.detach().double().cpu().numpy()
    ladders = {}
    for number, group in enumerate(channels.groups):
        if group.frozen is not None:
            continue
        atoms = group.atoms.numpy()
        if np.isnan(values[atoms]).any():
            raise ValueError(f"the scores of {group.name} are not numbers")
        order = np.argsort(-values[atoms], kind="stable")
        least = 0 if group.removable else max(group.least, _floor(floor, group))
        least = min(len(atoms), -(-least // step) * step)
        left = order[: max(least, int((values[atoms] > -math.inf).sum()))]
        ladders[number] = Ladder(atoms[left], values[atoms][left], least, step, len(atoms), group.least)
    return ladders


def _floor(floor: Floor, group: Group) -> int:
    if isinstance(floor, int):
        return floor
    return floor.get(group.name, 1) if isinstance(floor, Mapping) else floor(group)


def _at(ladders: Mapping[int, Ladder], full: Index, threshold: float) -> Index:
    widths = full.copy()
    for number, ladder in ladders.items():
        widths[number] = ladder.least if threshold == math.inf else ladder.width(threshold)
    return widths


def _lowest_fitting(ladders: Mapping[int, Ladder], full: Index, fits: Callable[[Index], bool]) -> Index:
    values = np.unique(np.concatenate([ladder.scores for ladder in ladders.values()]))
    thresholds = [*values.tolist(), math.inf]
    low, high = 0, len(thresholds) - 1  # the last one fits
    while low < high:
        middle = (low + high) // 2
        if fits(_at(ladders, full, thresholds[middle])):
            high = middle
        else:
            low = middle + 1
    return _at(ladders, full, thresholds[low])


def _add_back(ladders: Mapping[int, Ladder], widths: Index, fits: Callable[[Index], bool]) -> Index:
    """What did not fit once never will again: costs only grow."""
    waiting: list[tuple[float, int, int]] = []

    def wait(number: int) -> None:
        ladder, at = ladders[number], int(widths[number])
        if ladder.next(at) is not None:
            heapq.heappush(waiting, (-ladder.scores[at], int(ladder.atoms[at]), number))

    for number in ladders:
        wait(number)
    while waiting:
        number = heapq.heappop(waiting)[2]
        wider, width = widths.copy(), ladders[number].next(int(widths[number]))
        assert width is not None  # else it would not wait
        wider[number] = width
        if fits(wider):
            widths = wider
            wait(number)
    return widths


def cannot_be_met(channels: Channels, limits: Budget, smallest: Index) -> str:
    """What to tell of a budget that even the smallest network, of these widths per group, exceeds."""
    reached = []
    for limit in limits.limits:
        least = spending(channels, smallest, limit)
        share = 100 * least / max(spending(channels, channels.full_widths(), limit), 1e-9)
        exact = "" if limit.kind == "latency" else f" ({least})"
        reached.append(f"{limit.kind}={limit.write(least)}{exact}, {share:.3g}% of the whole network")
    return f"the budget {limits} cannot be met; the smallest reachable cost is {', '.join(reached)}"
