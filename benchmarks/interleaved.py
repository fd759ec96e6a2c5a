"""Contenders run in turn, round by round: each one's ratio to the first in the same round, by the clock and by processor
time, so that a machine that is busy for a while slows all alike."""

import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def interleaved(
    runs: Mapping[str, Callable[[], Any]], rounds: int = 7, *, warmup: int = 1
) -> dict[str, np.ndarray]:
    """Print of each contender the median and quartiles of its milliseconds and of its ratio to the first one.

    Returns:
        the ratios by processor time, one a round.
    """
    for _ in range(warmup):
        for run in runs.values():
            run()
    times = np.zeros((rounds, len(runs), 2))
    for row in times:
        for place in np.random.permutation(len(runs)):
            before = _now()
            list(runs.values())[place]()
            row[place] = _now() - before
    print(f"{'':34} {'cpu ms (quartiles)':>30} {'cpu ratio':>22} {'clock ratio':>22}")
    for place, name in enumerate(runs):
        cells = [1e3 * times[:, place, 1], *(times[:, place, clock] / times[:, 0, clock] for clock in (1, 0))]
        print(
            f"{name:34} "
            + " ".join(f"{told(cell):>{width}}" for cell, width in zip(cells, (30, 22, 22), strict=True))
        )
    return {name: times[:, place, 1] / times[:, 0, 1] for place, name in enumerate(runs)}


def told(values: np.ndarray) -> str:
    """Median and quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"


def _now() -> np.ndarray:
    """Seconds by the clock, and of this process's and its ended children's processor time."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)])
