"""Where a layer's channels, the largest first, are of two kinds: a gap between two heaps, or a fall onto a floor.

On y = log10(w / w_1) of their magnitudes w, which falls. A fall parts them if it is far emptier than the curve beside it (a
gap: on both sides; a floor: behind it), which no curve that falls smoothly is, and the two sides are a factor of 5 apart.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ganshrink.pruning.atoms import Index

NOTHING = 1e-6  # of the largest magnitude: so small a channel is nothing, and all of those are alike
APART = math.log10(5)  # decades at least between the means of those that stay and of those that go
STEEPER = 4  # times, at least, is a fall as steep as the curve near it
CHANCE = 1e-3  # at most, in a layer, that evenly spread channels leave so empty a fall
TAIL = 5  # decades of fall, times the channels behind it: even draws end in a tail as deep once in 10^5
NEAR = 16  # channels on a side of a fall that it is compared with, or as many as are in it
BETWEEN = 3  # channels at most in a gap, of which both sides are looked at
RESOLUTION = 0.01  # decades, below which a fall is none
FLATTER = 2  # times, at least, does a curve fall less steeply behind a bend

Curve = NDArray[np.float64]


def log_magnitudes(magnitudes: Tensor) -> Curve:
    """(n,) log10(w / w_1), at least log10(NOTHING), in the order given.

    Raises:
        ValueError: if a magnitude is negative or not a number.
    """
    values = magnitudes.detach().double().cpu().numpy()
    wrong = values[~np.isfinite(values) | (values < 0)]
    if len(wrong):
        raise ValueError(
            f"a channel's magnitude is {wrong[0]:g}, not a number from 0: the training has failed"
        )
    largest = float(values.max())
    return np.log10(np.maximum(values / largest, NOTHING)) if largest > 0 else np.zeros(len(values))


def knee(magnitudes: Tensor) -> int:
    """How many channels are before the fall that parts a layer's magnitudes (n,), in any order: two at least on each side.
    0: there is none."""
    curve = -np.sort(-log_magnitudes(magnitudes))
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


def bend(magnitudes: Tensor) -> int:
    """How many channels are before the bend of a layer's curve, where two lines fit it best; n: it has none.

    Behind it are fewer than half of the channels, a factor of 5 smaller than the others on average, and the curve falls half
    as steeply at most. A smooth curve may bend so, too: what is behind it may still do something."""
    curve = -np.sort(-log_magnitudes(magnitudes))
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


class _Fall(NamedTuple):
    """Over `m` steps of a curve, ending behind its first `end` channels; -log of its probability is at least `rarity`."""

    end: int
    m: int
    decades: float
    rarity: float


def _falls(curve: Curve, kept: Index, m: int, rare: float, *, both: bool) -> list[_Fall]:
    """The falls over m steps that end behind `kept` channels and are steeper and rarer than a smooth curve's.

    Beside it are the next r >= m steps (`both`: and those before it). Were the channels inside both stretches spread evenly,
    each of N = m + r - 1 would be in the fall with probability q, its share of their decades; m - 1 are. By Chernoff so few
    have a probability of at most exp(-N KL((m - 1) / N || q)). A fall has at most half of the channels before its end: over
    these a power law falls at most 3.5 times as steeply as over the next, a parabola to its lowest point 3 times."""
    behind = np.minimum(len(curve) - 1 - kept, max(NEAR, m))
    kept, behind = (values[(2 * m <= kept + 1) & (m <= behind)] for values in (kept, behind))
    start = kept - m  # the last channel before the fall, from 0; the first behind it is `kept`
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
