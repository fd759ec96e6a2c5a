"""DECIG's Stage II: where a layer's sorted magnitudes fall off, what images say to that, and the plan that keeps the rest.

The paper picks its hinges by eye and asks for a way to find them; everything here is ours: curves propose, images decide.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.knees import bend, knee, log_magnitudes
from ganshrink.pruning.sensitivity import least_unseen

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.05  # of a layer stays


@dataclass(frozen=True)
class Hinge:
    """Where one layer is cut.

    Attributes:
        kept: how many channels stay, the largest ones.
        how: by its curve; by images alone, its curve having none; by hand; or none was found, and all channels stay.
        moved_from: what would stay by the curve alone, where images show that it is too little.
        change: relative L1 change of the images without what goes, all other layers being whole, where it was looked at.
    """

    kept: int
    how: Literal["curve", "images", "hand", "none"]
    moved_from: int | None = None
    change: float | None = None

    @property
    def found(self) -> bool:
        return self.how in ("curve", "images")


def find_hinges(
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    *,
    by_hand: Mapping[str, int],
    least: int = 1,
    round_to: int = 1,
) -> dict[str, Hinge]:
    """By name, the hinge of every group that may be cut: as `find_hinge` finds it, or by hand.

    Raises:
        ValueError: for a hinge by hand of no such group, or of more channels than it has.
    """
    free = {group.name: group for group in channels.free}
    for name, kept in by_hand.items():
        if name not in free:
            raise ValueError(f"a hinge is set by hand for {name}, which is no group that may be cut")
        fewest, most = int(not free[name].removable), len(free[name])
        if not fewest <= kept <= most:
            allowed = f"from {fewest} to {most}"
            raise ValueError(f"the hinge set by hand for {name} is {kept}; it must be {allowed}")
    found = {name: find_hinge(magnitudes[name], least=least, round_to=round_to) for name in free}
    return found | {name: Hinge(kept, "hand") for name, kept in by_hand.items()}


def find_hinge(magnitudes: Tensor, *, least: int = 1, round_to: int = 1) -> Hinge:
    """The hinge of one layer's magnitudes (n,), in any order: the knee of their curve; none where all are of one kind.

    Args:
        least: channels that stay in any case, never fewer than 5 %; rounded up to a multiple of `round_to`, or all.

    Raises:
        ValueError: if a magnitude is negative or not a number.
    """
    n, kept = len(magnitudes), knee(magnitudes)
    return Hinge(_allowed(kept, n, least, round_to), "curve") if kept else Hinge(n, "none")


def decided(
    hinges: Mapping[str, Hinge],
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    change: Callable[[Tensor], float],
    eps: float,
    *,
    least: int = 1,
    round_to: int = 1,
) -> dict[str, Hinge]:
    """The hinges that images allow, those by hand as they are: images change by no more than `eps` without what is behind.

    A norm undoes how small a layer's weights have become, and a bias speaks for a channel whose weights are nothing: what
    the curve calls dead may still paint the picture, and the hinge moves up. What the curve does not tell apart may do
    nothing: a layer has a hinge also where less than half of it makes the same images, at the least width that does, and
    where its curve bends into a short floor without which they are the same. `change` tells how much the images change
    without some atoms."""
    found = dict(hinges)
    for group in (group for group in channels.free if group.name in hinges):
        hinge, falling = hinges[group.name], group.atoms[by_size(magnitudes[group.name])]
        without = lambda kept, falling=falling: change(falling[kept:])  # noqa: E731
        if hinge.how == "curve":
            kept, seen = least_unseen(without, hinge.kept, len(group), eps=eps, step=round_to)
            before = hinge.kept if kept > hinge.kept else None
            found[group.name] = replace(hinge, kept=kept, moved_from=before, change=seen)
        elif hinge.how == "none":
            half = _allowed(len(group) // 2, len(group), least, round_to)
            if 2 * half <= len(group) and (at_half := without(half)) <= eps:
                lowest = _allowed(1, len(group), least, round_to)
                kept, seen = least_unseen(without, lowest, half, eps=eps, step=round_to)
                found[group.name] = Hinge(kept, "images", change=at_half if kept == half else seen)
                continue
            bent = _allowed(bend(magnitudes[group.name]), len(group), least, round_to)
            if half < bent < len(group) and (at_bend := without(bent)) <= eps:
                found[group.name] = Hinge(bent, "images", change=at_bend)
    return found


def decided_together(
    hinges: Mapping[str, Hinge],
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    change: Callable[[Tensor], float],
    eps: float,
    *,
    together: float | None,
    **widths: Any,
) -> tuple[dict[str, Hinge], float]:
    """As `decided`; and `eps`, halved until images change by no more than `together` without what is behind all hinges, at
    most eight times."""
    limit = math.inf if together is None else together
    for halved in (eps / 2**times for times in range(9)):
        found = decided(hinges, channels, magnitudes, change, halved, **widths)
        if limit == math.inf:
            break
        cut = (group for group in channels.free if group.name in found)
        gone = [group.atoms[by_size(magnitudes[group.name])][found[group.name].kept :] for group in cut]
        if (changed := change(torch.cat(gone))) <= limit:
            break
    else:
        logger.warning(
            "without all that is behind hinges images change by %.2g %%, method.cut.together allows %.2g %%: fewer "
            "hinges by hand, or a longer Stage I",
            *(100 * changed, 100 * limit),
        )
    return found, halved


def cut_within(
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    hinges: Mapping[str, Hinge],
    budget: Budget | str,
    *,
    least: int = 1,
    round_to: int = 1,
) -> Plan:
    """The plan that cuts every layer at its hinge; if that costs more than the budget, all hinges move up together.

    They move by one factor, counted from the median of what a layer's hinge keeps, so that neither how dead its dead are
    nor how much its living differ decides between layers. Layers without a hinge keep all until then. A plan below the
    budget is not filled up again: what is behind a hinge is gone. Hinges by hand stand (branches go last of all); branches
    that can be removed as a whole may reach zero to meet the budget.

    Raises:
        ValueError: for a budget that cannot be met, with the smallest reachable cost.
    """
    scores = torch.zeros(channels.num_atoms, dtype=torch.float64)
    floors = {}
    for group in channels.free:
        hinge, values = hinges[group.name], magnitudes[group.name]
        logs, falling = torch.from_numpy(log_magnitudes(values)), by_size(values)
        if hinge.how == "hand":
            floors[group.name], score = hinge.kept, torch.full_like(logs, torch.inf)
        else:
            floors[group.name] = _allowed(1, len(group), least, round_to)
            score = logs - logs[falling[: hinge.kept]].median()
        score[falling[hinge.kept :]] = -torch.inf
        scores[group.atoms] = score
    return bisect_threshold(channels, scores, budget, floor=floors, round_to=round_to)


def by_size(magnitudes: Tensor) -> Tensor:
    """(n,) int64, the channels' places by falling magnitude, as all cuts are made; what is nothing in the order given."""
    return torch.from_numpy(log_magnitudes(magnitudes)).argsort(descending=True, stable=True)


def _allowed(kept: int, n: int, least: int, round_to: int) -> int:
    """At least `least` and 5 %, rounded up, at most all."""
    floor = max(kept, least, math.ceil(LEAST_SHARE * n))
    return min(n, -(-floor // round_to) * round_to)
