"""DECIG's Stage II: where a layer's sorted magnitudes fall off, whether that can be seen, and the plan that keeps the rest.

The paper picks its hinges by eye and asks for a way to find them; everything here is ours.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.sensitivity import least_unseen

NOTHING = 1e-5  # of the largest magnitude: so small a channel is nothing, and all of those are alike
LEAST_SEPARATION = 1.0  # decades between those that stay and those that go
LEAST_SHARE = 0.05  # of a layer stays
SNAP = 0.1  # of a layer, that the hinge may be away from Otsu's split
CLEAR = 2.2  # standard deviations that a valley is below its peaks
PEAK = 5  # the fewest channels of a peak of which an empty valley is that far below
DEAD = 0.05  # of the largest magnitude before the training: a layer of nothing larger is dead as a whole

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Hinge:
    """Where one layer is cut.

    Attributes:
        kept: how many channels stay, the largest ones.
        how: by its curve; as one that is dead as a whole; by hand; or none was found, and all channels stay.
        moved_from: what would stay by the curve alone, where images show that it is too little.
        change: relative L1 change of the images without what goes, all other layers being whole, where it was looked at.
    """

    kept: int
    how: Literal["curve", "dead", "hand", "none"]
    moved_from: int | None = None
    change: float | None = None

    @property
    def found(self) -> bool:
        return self.how in ("curve", "dead")


def find_hinges(
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    *,
    by_hand: Mapping[str, int],
    start: Mapping[str, float],
    least: int = 1,
    round_to: int = 1,
) -> dict[str, Hinge]:
    """By name, the hinge of every group that may be cut: as `find_hinge` finds it, or by hand.

    Raises:
        ValueError: for a hinge by hand of no such group, or of more channels than it has.
    """
    free = {group.name: group for group in channels.groups if group.frozen is None}
    for name, kept in by_hand.items():
        if name not in free:
            raise ValueError(f"a hinge is set by hand for {name}, which is no group that may be cut")
        fewest, most = int(not free[name].removable), len(free[name])
        if not fewest <= kept <= most:
            allowed = f"from {fewest} to {most}"
            raise ValueError(f"the hinge set by hand for {name} is {kept}; it must be {allowed}")
    options: Any = {"least": least, "round_to": round_to}
    found = {name: find_hinge(magnitudes[name], start=start.get(name), **options) for name in free}
    return found | {name: Hinge(kept, "hand") for name, kept in by_hand.items()}


def find_hinge(magnitudes: Tensor, *, least: int = 1, round_to: int = 1, start: float | None = None) -> Hinge:
    """The hinge of one layer's magnitudes (n,), in any order; none where all are of one kind.

    On y = log10(w / w_1) it is Otsu's split, moved to the largest gap within a tenth of the channels. It counts if the two
    sides are a decade apart with a valley between them: fewer channels for each decade around the gap than around the
    medians of both sides. A distribution with one mode has none, whatever its shape. (Two Gaussians fit better than one,
    by BIC, for every long tail.) False alarms among 1000 draws each of 8 to 256 channels: none for curves that fall
    smoothly, at most 1.5 % for uniform, half-normal, exponential, gamma and log-normal ones, 10 % where 16 channels spread
    evenly over four decades; of these none with more than 64 channels.

    Args:
        least: channels that stay in any case, never fewer than 5 %; rounded up to a multiple of `round_to`, or all.
        start: the largest magnitude before the training; none: a dead layer is not looked for.

    Raises:
        ValueError: if a magnitude is negative or not a number.
    """
    curve = -np.sort(-_log_curve(magnitudes))
    if start and float(magnitudes.max()) <= DEAD * start:
        return Hinge(_allowed(1, len(curve), least, round_to), "dead")
    few, split = _few(curve), _split(curve)
    if few or _valley(curve, split):
        return Hinge(_allowed(few or split, len(curve), least, round_to), "curve")
    return Hinge(len(curve), "none")


def moved_up(
    hinges: Mapping[str, Hinge],
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    change: Callable[[Tensor], float],
    eps: float,
    round_to: int = 1,
) -> dict[str, Hinge]:
    """The hinges, those that were found moved up until the images change by no more than `eps` without what is behind.

    A norm undoes how small a layer's weights have become, and a bias speaks for a channel whose weights are nothing: what
    the curve calls dead may still paint the picture. `change` tells how much the images change without some atoms."""
    moved = dict(hinges)
    for group in channels.groups:
        if group.name in hinges and hinges[group.name].found:
            hinge, falling = hinges[group.name], group.atoms[by_size(magnitudes[group.name])]
            without = lambda kept, falling=falling: change(falling[kept:])  # noqa: E731
            kept, seen = least_unseen(without, hinge.kept, len(group), eps=eps, step=round_to)
            before = hinge.kept if kept > hinge.kept else None
            moved[group.name] = replace(hinge, kept=kept, moved_from=before, change=seen)
    return moved


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
    for group in (group for group in channels.groups if group.frozen is None):
        hinge, values = hinges[group.name], magnitudes[group.name]
        logs, falling = torch.from_numpy(_log_curve(values)), by_size(values)
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
    return torch.from_numpy(_log_curve(magnitudes)).argsort(descending=True, stable=True)


def _log_curve(magnitudes: Tensor) -> Curve:
    """(n,) log10(w / w_1), at least log10(NOTHING), in the order given."""
    values = magnitudes.detach().double().cpu().numpy()
    wrong = values[~np.isfinite(values) | (values < 0)]
    if len(wrong):
        raise ValueError(
            f"a channel's magnitude is {wrong[0]:g}, not a number from 0: the training has failed"
        )
    largest = float(values.max())
    return np.log10(np.maximum(values / largest, NOTHING)) if largest > 0 else np.zeros(len(values))


def _split(curve: Curve) -> int:
    """How many are before the split that leaves the least variance within its two sides (Otsu 1979), or the largest gap
    near it: the split is drawn into the wider side."""
    n, falls = len(curve), -np.diff(curve)
    if n < 2:
        return n
    before, sums = np.arange(1, n), np.cumsum(curve)
    distance = sums[:-1] / before - (sums[-1] - sums[:-1]) / (n - before)
    otsu, reach = int((before * (n - before) * distance**2).argmax()) + 1, math.ceil(SNAP * n)
    first, last = max(1, otsu - reach), min(n - 1, otsu + reach)
    return first + int(falls[first - 1 : last].argmax())


def _few(curve: Curve) -> int:
    """The split that sets two to four of the largest or smallest apart by more than all others spread over, and more than a
    decade, or two at the bottom, where logarithms have long tails; else 0. Otsu's split does not see a few of hundreds;
    one alone may be an outlier."""
    n, falls = len(curve), -np.diff(curve)
    if n < 2 * PEAK:
        return 0
    top = 2 + int(falls[1 : PEAK - 1].argmax())
    if falls[top - 1] > max(LEAST_SEPARATION, curve[top] - curve[-1]):
        return top
    rest = n - PEAK + 1 + int(falls[n - PEAK : n - 2].argmax())
    return rest if falls[rest - 1] > max(2 * LEAST_SEPARATION, curve[0] - curve[rest - 1]) else 0


def _valley(curve: Curve, split: int) -> bool:
    """Whether the two sides of the split are peaks at least a decade apart with a valley between them. Windows of a quarter
    of the distance to either side of the medians, and of a sixth around the gap, do not overlap."""
    if split == len(curve) or curve[:split].mean() - curve[split:].mean() < LEAST_SEPARATION:
        return False
    upper, lower = float(np.median(curve[:split])), float(np.median(curve[split:]))
    wide, narrow = (upper - lower) / 4, (upper - lower) / 6
    gap = (curve[split - 1] + curve[split]) / 2
    gap = min(max(gap, lower + wide + narrow), upper - wide - narrow)

    def near(middle: float, reach: float) -> int:
        return int((abs(curve - middle) <= reach).sum())

    valley, share = near(gap, narrow), narrow / wide
    expected = share * min(near(upper, wide), near(lower, wide))  # in a valley as high as the lower peak
    return valley <= expected / 2 and expected - valley > CLEAR * math.sqrt(valley + share * expected)


def _allowed(kept: int, n: int, least: int, round_to: int) -> int:
    """At least `least` and 5 %, rounded up, at most all."""
    floor = max(kept, least, math.ceil(LEAST_SHARE * n))
    return min(n, -(-floor // round_to) * round_to)
