"""The bootstrap over seeds and pictures: how far two methods are apart, and which are tied.

Every network of a comparison is scored on the same pictures, so all are compared on the same draws of them. Seeds are
drawn with replacement too, where there are several; of one seed an interval tells of the pictures alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ganshrink.metrics.resampling import PERCENT, SEED


@dataclass(frozen=True)
class Sample:
    """A metric's values of one entry: `values` (seeds,) over all pictures, `drawn` (seeds, draws) over drawn pictures; where
    the metric does not tell what its values are made of, these are the same for every draw, and not `by_picture`."""

    values: np.ndarray
    drawn: np.ndarray
    by_picture: bool = True

    @property
    def varies(self) -> bool:
        """Whether its draws tell anything: without pictures two seeds are needed."""
        return self.by_picture or len(self.values) > 1


@dataclass(frozen=True)
class Interval:
    """A value, and between what 95 % of the draws lie; NaN where that is not known, and then nothing is excluded."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def mean_over_seeds(sample: Sample, *, seed: int = SEED) -> np.ndarray:
    """(draws,) the mean over seeds that are drawn anew for every draw of pictures."""
    seeds, draws = sample.drawn.shape
    chosen = np.random.default_rng(seed).integers(seeds, size=(seeds, draws))
    return np.take_along_axis(sample.drawn, chosen, axis=0).mean(axis=0)


def interval(sample: Sample) -> Interval:
    """The mean over seeds with its interval."""
    drawn = mean_over_seeds(sample) if sample.varies else np.empty(0)
    return _interval(float(sample.values.mean()), drawn)


def difference(sample: Sample, other: Sample) -> Interval:
    """The mean of one minus that of the other, on the same pictures; their seeds are drawn apart."""
    drawn = mean_over_seeds(sample) - mean_over_seeds(other, seed=SEED + 1)
    if not (sample.varies and (other.varies or len(other.values) == 1)):
        drawn = np.empty(0)
    return _interval(float(sample.values.mean() - other.values.mean()), drawn)


def places(samples: Mapping[str, Sample], *, higher: bool) -> list[list[str]]:
    """Names from best to worst; those that stand together are tied: the interval of their difference to the first of them
    holds zero."""
    left = sorted(samples, key=lambda name: samples[name].values.mean(), reverse=higher)
    found: list[list[str]] = []
    while left:
        first, rest = left[0], left[1:]
        tied = [
            first,
            *(name for name in rest if not difference(samples[first], samples[name]).excludes_zero),
        ]
        found.append(tied)
        left = [name for name in rest if name not in tied]
    return found


def _interval(value: float, drawn: np.ndarray) -> Interval:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(drawn, [50 - PERCENT / 2, 50 + PERCENT / 2])
    return Interval(value, float(low), float(high))


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over seeds, with n - 1; None of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
