"""DECIG's Stage II: where a layer's sorted magnitudes fall off, what images say to that, and the plan that keeps the rest.

The paper picks its hinges by eye and asks for a way to find them; everything here is ours: curves propose, images decide.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.sensitivity import least_unseen

logger = logging.getLogger(__name__)

NOTHING = 1e-6  # of the largest magnitude: so small a channel is nothing, and all of those are alike
LEAST_SHARE = 0.05  # of a layer stays
APART = math.log10(5)  # decades at least between the means of those that stay and of those that go
STEEPER = 4  # times, at least, is a hinge's fall as steep as the curve near it
CHANCE = 1e-3  # at most, in a layer, that evenly spread channels leave so empty a fall
TAIL = 5  # decades of fall, times the channels behind it: even draws end in a tail as deep once in 10^5
NEAR = 16  # channels on a side of a fall that it is compared with, or as many as are in it
BETWEEN = 3  # channels at most in a gap, of which both sides are looked at
RESOLUTION = 0.01  # decades, below which a fall is none
FLATTER = 2  # times, at least, does a curve fall less steeply behind a bend that images are asked about

Curve = NDArray[np.float64]


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
    free = {group.name: group for group in channels.groups if group.frozen is None}
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
    """The hinge of one layer's magnitudes (n,), in any order, by their curve; none where all are of one kind.

    On y = log10(w / w_1), falling: a gap of at most three channels between two heaps, else where a fall ends in a floor. A
    fall is one if it is far emptier than the curve beside it (a gap: on both sides; a floor: behind it), which no curve that
    falls smoothly is, and the two sides are a factor of 5 apart, two channels at least on each.

    Args:
        least: channels that stay in any case, never fewer than 5 %; rounded up to a multiple of `round_to`, or all.

    Raises:
        ValueError: if a magnitude is negative or not a number.
    """
    curve = -np.sort(-_log_curve(magnitudes))
    if split := _split(curve):
        return Hinge(_allowed(split, len(curve), least, round_to), "curve")
    return Hinge(len(curve), "none")


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
    for group in (group for group in channels.groups if group.name in hinges):
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
        cut = (group for group in channels.groups if group.name in found)
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
    """How many are before the hinge of a falling curve; 0: it has none."""
    n = len(curve)
    kept, sums = np.arange(2, n - 1), curve.cumsum()
    before = sums[kept - 1] if n > 2 else sums[:0]
    kept = kept[before / kept - (sums[-1] - before) / (n - kept) >= APART]
    rare = -math.log(CHANCE / n)
    gaps = range(1, BETWEEN + 2)
    if falls := [fall for m in gaps for fall in _falls(curve, kept, m, rare, both=True)]:
        end, m, *_ = max(falls, key=lambda fall: fall.decades)
        # a channel inside goes to the side that it is nearer to
        return end - m + 1 + int((-np.diff(curve[end - m : end + 1])).argmax())
    wide = [2**power for power in range(n.bit_length()) if 2**power not in gaps]
    falls = [fall for m in (*gaps, *wide) for fall in _falls(curve, kept, m, rare, both=False)]
    return max(falls, key=lambda fall: fall.rarity).end if falls else 0


class _Fall(NamedTuple):
    """Over `m` steps of a curve, ending behind its first `end` channels; -log of its probability is at least `rarity`."""

    end: int
    m: int
    decades: float
    rarity: float


def bend(magnitudes: Tensor) -> int:
    """How many channels are before the bend of a layer's curve, where two lines fit it best; n: it has none.

    Behind it are fewer than half of the channels, a factor of 5 smaller than the others on average, and the curve falls half
    as steeply at most. A smooth curve may bend so, too: images have to say whether what is behind it does anything."""
    curve = -np.sort(-_log_curve(magnitudes))
    n, fits = len(curve), {}
    for kept in range(max(2, n // 2), n - 1):
        (steep, error), (flat, rest) = map(_line, np.split(curve, [kept]))
        if FLATTER * flat <= steep and curve[:kept].mean() - curve[kept:].mean() >= APART:
            fits[error + rest] = kept
    # best at its first place: the curve bends before that, if at all
    return found if fits and (found := fits[min(fits)]) > max(2, n // 2) + 1 else n


def _line(curve: Curve) -> tuple[float, float]:
    """By how much the line that fits a curve best falls from channel to channel, and the sum of squares that it leaves."""
    x, y = np.arange(len(curve)) - (len(curve) - 1) / 2, curve - curve.mean()
    slope = float(x @ y / (x @ x))
    return -slope, float(y @ y - slope**2 * (x @ x))


def _falls(curve: Curve, kept: NDArray[np.int64], m: int, rare: float, *, both: bool) -> list[_Fall]:
    """The falls over m steps that end behind `kept` channels and are steeper and rarer than a smooth curve's.

    Beside it are the next r >= m steps (`both`: and those before it). Were the channels inside both stretches spread evenly,
    each of N = m + r - 1 would be in the fall with probability q, its share of their decades; m - 1 are. By Chernoff so few
    have a probability of at most exp(-N KL((m - 1) / N || q)). A fall has at most half of the channels before its end: over
    these a power law falls at most 3.5 times as steeply as over the next, a parabola to its lowest point 3 times."""
    behind = np.minimum(len(curve) - 1 - kept, max(NEAR, m))
    kept, behind = (values[(2 * m <= kept + 1) & (m <= behind)] for values in (kept, behind))
    start = (
        kept - m
    )  # the place of the last channel before the fall, from 0; that of the first behind it is `kept`
    before = np.minimum(start, NEAR) if both else np.zeros_like(start)
    fall = curve[start] - curve[kept]
    near = curve[start - before] - curve[start] + curve[kept] - curve[kept + behind] + RESOLUTION
    steeper = fall / m / (near / (before + behind))
    steep = np.flatnonzero((steeper >= STEEPER) & (fall * (len(curve) - kept) >= TAIL))
    inside, q = (m + before + behind - 1)[steep], (fall / (fall + near))[steep]
    share = (m - 1) / inside
    divergence = (1 - share) * np.log((1 - share) / (1 - q)) + (share * np.log(share / q) if m > 1 else 0)
    rarity = inside * divergence
    return [
        _Fall(int(kept[at]), m, float(fall[at]), float(found))
        for at, found in zip(steep, rarity, strict=True)
        if found > rare
    ]


def _allowed(kept: int, n: int, least: int, round_to: int) -> int:
    """At least `least` and 5 %, rounded up, at most all."""
    floor = max(kept, least, math.ceil(LEAST_SHARE * n))
    return min(n, -(-floor // round_to) * round_to)
