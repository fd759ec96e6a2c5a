"""From estimates that are off to a plan that was measured: on made-up devices, and how it ends."""

from collections.abc import Callable
from math import ceil, inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganshrink.latency.plan_by_timing import settle
from ganshrink.pruning import Plan

FULL = 256  # channels of the made-up network; its plans are the first so many


def plan(width: int) -> Plan:
    return Plan(torch.arange(FULL) < width)


def width(of: Plan) -> int:
    return int(of.keep.sum())


class Device:
    """A made-up device, what a profile says of it, and a record of what was asked.

    Args:
        time: milliseconds by width.
        off: by which estimates are multiplied, by width.
        step: of proposed widths; least: the narrowest of them.
        most: what a hinge leaves: nothing wider is proposed.
    """

    def __init__(
        self,
        time: Callable[[int], float],
        *,
        off: Callable[[int], float] = lambda width: 1.0,
        step: int = 1,
        least: int = 1,
        most: int = FULL,
    ) -> None:
        self.time, self.off = time, off
        self.widths = [width for width in range(least, most + 1) if width % step == 0 or width == most]
        self.measured: list[int] = []

    def estimate(self, of: Plan) -> float:
        return self.time(width(of)) * self.off(width(of))

    def propose(self, limit: float) -> Plan:
        """The widest that fits, as `bisect_threshold` does."""
        fit = [one for one in self.widths if self.estimate(plan(one)) <= limit]
        if not fit:
            raise ValueError("the budget cannot be met; the smallest reachable cost is ...")
        return plan(fit[-1])

    def measure(self, of: Plan) -> float:
        assert width(of) not in self.measured  # once is enough
        self.measured.append(width(of))
        return self.time(width(of))

    def settle(self, limit: float) -> int:
        found = settle(self.propose, self.estimate, self.measure, limit)
        assert len(self.measured) <= 10
        assert width(found) in self.measured and self.time(width(found)) <= limit
        return width(found)

    def wider(self, than: int) -> int:
        return next(one for one in self.widths if one > than)


def quadratic(width: int) -> float:
    return 0.2 + 100 * (width / FULL) ** 2


@pytest.mark.exhaustive
@pytest.mark.slow
@given(
    off=st.floats(0.5, 2),
    bend=st.floats(-0.3, 0.3),
    step=st.sampled_from([1, 4, 8, 16]),
    limit=st.floats(3, 95),
)
@settings(max_examples=60, deadline=None)
def test_estimates_that_are_off(off: float, bend: float, step: int, limit: float) -> None:
    """By a factor, and by one that changes with the width."""
    device = Device(quadratic, off=lambda width: off * (width / FULL) ** bend, step=step)
    found = device.settle(limit)
    assert quadratic(found) >= 0.92 * limit or quadratic(device.wider(found)) > 0.985 * limit


@pytest.mark.exhaustive
@pytest.mark.slow
@given(
    noise=st.lists(st.floats(0.95, 1.05), min_size=17, max_size=17),
    off=st.floats(0.5, 2),
    limit=st.floats(5, 95),
)
@settings(max_examples=60, deadline=None)
def test_times_that_do_not_rise_evenly(noise: list[float], off: float, limit: float) -> None:
    """Blocks of 16 channels, each 5 % faster or slower than it should be, unknown to the profile."""

    def time(width: int) -> float:
        return quadratic(16 * ceil(width / 16)) * noise[ceil(width / 16)]

    device = Device(time, off=lambda width: off * quadratic(width) / time(width), step=4)
    found = device.settle(limit)
    next_block = 16 * (ceil(found / 16) + 1)
    assert time(found) >= 0.92 * limit or 1.05 * quadratic(next_block) > 0.985 * limit


def test_a_good_profile_is_asked_once() -> None:
    device = Device(quadratic, off=lambda width: 1.02)
    found = device.settle(50)
    assert device.measured == [found] and quadratic(found) > 0.92 * 50


def test_a_factor_is_learnt_from_one_measurement() -> None:
    for off in (0.5, 2):
        device = Device(quadratic, off=lambda width, off=off: off)
        device.settle(50)
        assert len(device.measured) == 2


def test_the_whole_network_where_it_is_fast_enough() -> None:
    device = Device(quadratic, off=lambda width: 1.5)
    assert device.settle(1000) == FULL
    assert device.measured == [FULL]


@pytest.mark.parametrize("off", [0.5, 1, 2])
def test_hinges_that_do_not_fill_the_budget(off: float) -> None:
    """A proposal stays as it is however much it may cost: nothing comes back only because there is room."""
    device = Device(quadratic, off=lambda width: off, most=96)
    assert device.settle(60) == 96
    assert device.measured == [96]


@pytest.mark.slow
@given(off=st.floats(0.5, 2), most=st.integers(20, 250), limit=st.floats(1, 100))
@settings(max_examples=40, deadline=None)
def test_hinges_move_up_where_they_must(off: float, most: int, limit: float) -> None:
    device = Device(quadratic, off=lambda width: off, most=most)
    found = device.settle(limit)
    close = quadratic(found) >= 0.92 * limit or quadratic(found + 1) > 0.985 * limit
    assert found == most or close


@pytest.mark.parametrize("off", [0.5, 1, 2])
def test_a_floor_above_the_limit_is_named(off: float) -> None:
    device = Device(quadratic, off=lambda width: off, least=64, step=8)
    fastest = quadratic(64)  # 6.45 ms
    with pytest.raises(
        ValueError, match=r"^the budget latency=5ms cannot be met: the fastest network takes"
    ) as told:
        device.settle(5)
    assert len(device.measured) <= 10
    assert float(str(told.value).split()[-2]) == pytest.approx(fastest, rel=1e-3)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("limit", [0.7, 0.01])
def test_a_floor_far_above_the_limit_is_named(limit: float) -> None:
    device = Device(quadratic, least=64, step=8)
    with pytest.raises(ValueError, match=r"^the budget latency=.*ms cannot be met: .* 6\.45 ms"):
        device.settle(limit)


def test_the_fastest_network_may_just_keep_the_limit() -> None:
    device = Device(quadratic, least=64, step=64)
    assert device.settle(quadratic(64) / 0.99) == 64


def test_another_limit_that_cannot_be_met_says_so() -> None:
    def propose(limit: float) -> Plan:
        raise ValueError("macs=1 cannot be met")

    measured: list[Plan] = []
    with pytest.raises(ValueError, match="^macs=1 cannot be met$"):
        settle(propose, lambda plan: 1.0, lambda plan: measured.append(plan) or 1.0, 30)
    assert not measured


def test_another_limit_may_be_the_tighter_one() -> None:
    """Beside so many MACs: the plan that they allow is fast enough, and no wider one is looked for without end."""
    device = Device(quadratic, most=100)
    asked: list[float] = []

    def propose(limit: float) -> Plan:
        asked.append(limit)
        return device.propose(limit)

    assert width(settle(propose, device.estimate, device.measure, 90)) == 100
    assert device.measured == [100] and asked[0] == inf and len(asked) < 30


def test_a_plan_that_is_the_same_for_every_budget() -> None:
    measured: list[float] = []

    def measure(of: Plan) -> float:
        measured.append(2.0)
        return 2.0

    assert settle(lambda limit: plan(7), lambda plan: 1.0, measure, 3.0) == plan(7)
    with pytest.raises(ValueError, match=r"latency=1ms cannot be met: the fastest network takes 2 ms"):
        settle(lambda limit: plan(7), lambda plan: 1.0, measure, 1.0)
    assert len(measured) == 2
