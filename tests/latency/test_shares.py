"""Shares of planted times: what survives that something else runs, and what is known to be unknown."""

import numpy as np
import pytest

from ganshrink.latency.shares import Rounds, share_of

ALONE = np.array([250.0, 100.0])  # milliseconds of an original and of a candidate when nothing else runs


def rounds(slower: np.ndarray, *, count: int = 120) -> Rounds:
    """Rounds in which each run was so many times slower by the clock, and by 2 % of noise by its processor time."""
    noise = np.random.default_rng(1).uniform(1, 1.02, (count, 2))
    return Rounds(ALONE * noise * slower, ALONE * noise)


def quiet(count: int = 120) -> np.ndarray:
    return np.ones((count, 2))


def sliced(share: float, count: int = 120) -> np.ndarray:
    """In so many rounds each run, by itself, takes two to five times as long."""
    drawn = np.random.default_rng(2)
    return np.where(drawn.random((count, 2)) < share, drawn.uniform(2, 5, (count, 2)), 1.0)


def test_a_quiet_machine() -> None:
    share = share_of(rounds(quiet()), 1)
    assert share.value == pytest.approx(0.4, rel=0.01) and not share.busy
    assert share.q1 <= share.p50 <= share.q3 and share.error < 0.005
    assert share_of(rounds(quiet()), 0).value == 1
    assert share_of(rounds(quiet()), 0, reference=1).value == pytest.approx(2.5, rel=0.01)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.65])
def test_the_least_disturbed_runs_count(part: float) -> None:
    """Medians of shares within rounds are wrong long before: here a quarter of the runs is enough."""
    disturbed = rounds(sliced(part))
    share = share_of(disturbed, 1)
    assert share.value == pytest.approx(0.4, rel=0.03)
    assert share.busy == (share.q3 - share.q1 > 0.2 * share.value)
    assert share_of(rounds(sliced(0.5)), 1).busy


def test_one_thread_goes_by_its_own_processor_time() -> None:
    """A long run never fits between two slices, a short one often does: by the clock it is always twice as long."""
    short_runs = np.where(np.random.default_rng(3).random(120) < 0.6, 1.0, 3.0)
    slower = np.stack([np.full(120, 2.0), short_runs], axis=1)
    assert share_of(rounds(slower), 1).value == pytest.approx(0.2, rel=0.03)
    assert share_of(rounds(slower), 1).busy
    by_processor = share_of(rounds(slower), 1, single=True)
    assert by_processor.value == pytest.approx(0.4, rel=0.01)
    assert by_processor.by == "cpu" and not by_processor.busy
    assert share_of(rounds(quiet()), 1, single=True).by == "wall"
    nothing = Rounds(rounds(slower).wall, np.zeros((120, 2)))  # a clock that is too coarse
    assert share_of(nothing, 1, single=True).by == "wall"


def test_more_rounds_are_better_known() -> None:
    few, many = (share_of(rounds(sliced(0.3, n), count=n), 1).error for n in (30, 480))
    assert many < few
    joined = rounds(quiet(10), count=10).and_then(rounds(quiet(20), count=20))
    assert joined.wall.shape == joined.cpu.shape == (30, 2)
