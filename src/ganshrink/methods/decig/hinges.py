"""DECIG's Stage II: where a layer's sorted magnitudes fall off, and the plan that keeps what is before that.

The paper picks its hinges by eye and asks for a way to find them; everything here is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganshrink.pruning import Budget, Channels, Group, Plan
from ganshrink.pruning.allocate import bisect_threshold

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
        separation: decades between the means of the logarithms before and after the best split.
        found: whether there is one: the curve has two modes, or the layer is dead; if not, all channels stay.
        dead: whether nothing of the layer is left; a single mode, so that the curve alone does not tell.
    """

    kept: int
    separation: float
    found: bool
    dead: bool = False


def find_hinge(magnitudes: Tensor, *, least: int = 1, round_to: int = 1, start: float | None = None) -> Hinge:
    """The hinge of one layer's magnitudes (n,), in any order.

    On y = log10(w / w_1) it is Otsu's split, moved to the largest gap within a tenth of the channels. It counts if the two
    sides are a decade apart and there is a valley between them: fewer channels for each decade around the gap than around
    the medians of both sides. A distribution with one mode has no such valley, whatever its shape; that is why it is
    looked for, and not whether two Gaussians fit better than one, which by BIC they do for every long tail (always, of
    1024 channels that fall off exponentially or like 1 / j).

    Two to four channels are a mode of their own if they stand apart by more than all the others spread over, and more
    than a decade at the top, two at the bottom, where logarithms have long tails. Fewer than ten channels have no hinge.

    False alarms among 1000 draws each of 8 to 256 channels: none for curves that fall smoothly, at most 1.5 % for uniform,
    half-normal, exponential, gamma and log-normal ones (half a decade), 10 % where 16 channels spread evenly over four
    decades; of these none with more than 64 channels.

    Args:
        least: channels that stay in any case; never fewer than 5 %.
        round_to: what stays is rounded up to a multiple of this, or is all.
        start: the largest magnitude before the training; none: a dead layer is not looked for.

    Raises:
        ValueError: if there are no magnitudes, or one is negative or not a number.
    """
    curve = -np.sort(-_log_curve(magnitudes))
    if start and float(magnitudes.max()) <= DEAD * start:
        return Hinge(_allowed(1, len(curve), least, round_to), 0.0, found=True, dead=True)
    if len(curve) < 2:
        return Hinge(len(curve), 0.0, found=False)
    few = _few(curve)
    split = few or _snapped(curve, _otsu(curve))
    separation = float(curve[:split].mean() - curve[split:].mean())
    if not few and (separation < LEAST_SEPARATION or not _valley(curve, split)):
        return Hinge(len(curve), separation, found=False)
    return Hinge(_allowed(split, len(curve), least, round_to), separation, found=True)


def hinges_within(
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    budget: Budget | str,
    *,
    least: int = 1,
    round_to: int = 1,
    overrides: Mapping[str, int] | None = None,
    hinges: Mapping[str, int] | None = None,
) -> Plan:
    """The plan that cuts every layer at its hinge; if that costs more than the budget, all hinges move up together.

    They move by one factor, counted from the median of what a layer's hinge keeps, so that neither how dead its dead are
    nor how much its living differ decides between layers. Layers without a hinge keep all until then. A plan below the
    budget is not filled up again: what is behind a hinge is gone.

    Args:
        magnitudes: per group name (len(group),), of all groups that may be cut.
        budget: limits that must all hold.
        least, round_to: as in `find_hinge`; branches that can be removed as a whole may still reach zero to meet the budget.
        overrides: per group name how many channels stay, by hand, whatever the budget (branches go last of all); rounded
            up to a multiple of `round_to`.
        hinges: per group name how many channels the hinge keeps, where that is known; else `find_hinge` is asked.

    Raises:
        ValueError: for a budget that cannot be met (with the smallest reachable cost), an override that names no group
            which may be cut or more channels than it has, or magnitudes that are missing or not numbers.
    """
    free = [group for group in channels.groups if group.frozen is None]
    by_hand = _checked(overrides or {}, free)
    scores = torch.zeros(channels.num_atoms, dtype=torch.float64)
    floors = {}
    for group in free:
        values = _of(magnitudes, group)
        logs, falling = torch.from_numpy(_log_curve(values)), by_size(values)
        kept = by_hand.get(group.name)
        if kept is None:
            floors[group.name] = _allowed(1, len(group), least, round_to)
            kept = (hinges or {}).get(group.name)
            if kept is None:
                kept = find_hinge(values, least=least, round_to=round_to).kept
            score = logs - logs[falling[:kept]].median()
        else:
            floors[group.name] = kept
            score = torch.full_like(logs, torch.inf)
        score[falling[kept:]] = -torch.inf
        scores[group.atoms] = score
    return bisect_threshold(channels, scores, budget, floor=floors, round_to=round_to)


def by_size(magnitudes: Tensor) -> Tensor:
    """(n,) int64, the channels' places by falling magnitude, as all cuts are made; what is nothing in the order given."""
    return torch.from_numpy(_log_curve(magnitudes)).argsort(descending=True, stable=True)


def _log_curve(magnitudes: Tensor) -> Curve:
    """(n,) log10(w / w_1), at least log10(NOTHING), in the order given."""
    values = magnitudes.detach().double().cpu().numpy()
    if values.ndim != 1 or not len(values):
        raise ValueError(f"magnitudes must be (n,), one per channel, got {tuple(values.shape)}")
    if not np.isfinite(values).all() or (values < 0).any():
        wrong = values[~np.isfinite(values) | (values < 0)][0]
        raise ValueError(f"a channel's magnitude is {wrong:g}, not a number from 0: the training has failed")
    largest = float(values.max())
    return np.log10(np.maximum(values / largest, NOTHING)) if largest > 0 else np.zeros(len(values))


def _otsu(curve: Curve) -> int:
    """How many are before the split that leaves the least variance within its two sides (Otsu 1979)."""
    n = len(curve)
    before = np.arange(1, n)
    sums = np.cumsum(curve)
    distance = sums[:-1] / before - (sums[-1] - sums[:-1]) / (n - before)
    return int((before * (n - before) * distance**2).argmax()) + 1


def _snapped(curve: Curve, split: int) -> int:
    reach = math.ceil(SNAP * len(curve))
    first, last = max(1, split - reach), min(len(curve) - 1, split + reach)
    return first + int((-np.diff(curve))[first - 1 : last].argmax())


def _few(curve: Curve) -> int:
    """The split that sets the largest or smallest few apart, at least two and fewer than a peak needs; else 0.

    Otsu's split does not see a few of hundreds; one alone may be an outlier.
    """
    n, falls = len(curve), -np.diff(curve)
    if n < 2 * PEAK:
        return 0
    top = 2 + int(falls[1 : PEAK - 1].argmax())
    if falls[top - 1] > max(LEAST_SEPARATION, curve[top] - curve[-1]):
        return top
    rest = n - PEAK + 1 + int(falls[n - PEAK : n - 2].argmax())
    return rest if falls[rest - 1] > max(2 * LEAST_SEPARATION, curve[0] - curve[rest - 1]) else 0


def _valley(curve: Curve, split: int) -> bool:
    """Whether the two sides of the split are peaks with a valley between them.

    Windows of a quarter of the distance to either side of the medians, and of a sixth around the gap, do not overlap.
    """
    upper, lower = float(np.median(curve[:split])), float(np.median(curve[split:]))
    wide, narrow = (upper - lower) / 4, (upper - lower) / 6
    gap = (curve[split - 1] + curve[split]) / 2
    gap = min(max(gap, lower + wide + narrow), upper - wide - narrow)
    peak = min(_near(curve, upper, wide), _near(curve, lower, wide))
    valley, share = _near(curve, gap, narrow), narrow / wide
    expected = share * peak  # channels in the valley, if it were as high as the lower peak
    return valley <= expected / 2 and expected - valley > CLEAR * math.sqrt(valley + share * expected)


def _near(curve: Curve, middle: float, reach: float) -> int:
    return int((abs(curve - middle) <= reach).sum())


def _allowed(kept: int, n: int, least: int, round_to: int) -> int:
    """At least `least` and 5 %, rounded up, at most all."""
    floor = max(kept, least, math.ceil(LEAST_SHARE * n))
    return min(n, -(-floor // round_to) * round_to)


def _of(magnitudes: Mapping[str, Tensor], group: Group) -> Tensor:
    values = magnitudes.get(group.name)
    if values is None or values.shape != (len(group),):
        got = "none" if values is None else str(tuple(values.shape))
        raise ValueError(f"magnitudes of {group.name} must be ({len(group)},), got {got}")
    return values


def _checked(overrides: Mapping[str, int], free: list[Group]) -> Mapping[str, int]:
    groups = {group.name: group for group in free}
    for name, kept in overrides.items():
        if name not in groups:
            raise ValueError(f"a hinge is set by hand for {name}, which is no group that may be cut")
        fewest = 0 if groups[name].removable else 1
        if not fewest <= kept <= len(groups[name]):
            raise ValueError(
                f"the hinge set by hand for {name} is {kept}; it must be from {fewest} to {len(groups[name])}"
            )
    return overrides
