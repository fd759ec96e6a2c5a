"""Budgets as people write them."""

from dataclasses import replace

import pytest
import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Budget, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.budget import Limit


@pytest.fixture(scope="module")
def channels():
    return trace(nets.build("resnet9", ngf=8, blocks=1), torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs=2.6G", {"macs": 2_600_000_000}),
        ("paper_macs = 400k", {"paper_macs": 400_000}),
        ("params=0.4M,bytes=2MB", {"params": 400_000, "bytes": 2_000_000}),
        ("bytes=750KB, macs=12345", {"bytes": 750_000, "macs": 12345}),
    ],
)
def test_absolute_limits(text, expected):
    assert Budget.parse(text).numbers() == expected


def test_percentages_are_of_the_traced_network(channels):
    whole = channels.cost()
    resolved = Budget.parse("macs=10%, params=50%, paper_macs=25%, bytes=50%").resolve(channels).numbers()
    assert resolved == {
        "macs": whole.macs // 10,
        "params": whole.params // 2,
        "paper_macs": channels.cost(convention="paper").macs // 4,
        "bytes": whole.bytes // 2,
    }
    with pytest.raises(ValueError, match="resolve it first"):
        Budget.parse("macs=10%").numbers()


def test_allows(channels):
    full, half = Plan.full(channels), Plan.random(channels, 0.5)
    assert Budget.parse("macs=100%").allows(channels, full)
    assert not Budget.parse("macs=99%").allows(channels, full)
    assert Budget.parse("macs=50%, params=50%").allows(channels, half)
    assert not Budget.parse(f"macs=50%, params={channels.cost(half).params - 1}").allows(channels, half)
    assert Budget.parse(f"params={channels.cost(half).params}").allows(channels, half)


def test_a_budget_is_written_as_it_is_read():
    for text in ("macs=2.6G", "params=10%,bytes=2M", "paper_macs=2599999999"):
        assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at least one limit"),
        ("macs", "must be KIND=AMOUNT"),
        ("flops=2G", "one of macs, paper_macs, params, bytes"),
        ("macs=much", "the amount must be like"),
        ("macs=2.6GB", "the amount must be like"),
        ("macs=-1G", "the amount must be like"),
        ("macs=0", "above 0"),
        ("macs=120%", "at most 100%"),
        ("macs=10G%", "the amount must be like"),
        ("macs=1G, macs=2G", "limits macs twice"),
        ("latency=30ms", "must be latency=AMOUNT@DEVICE, such as latency=30ms@cpu"),
        ("latency=30ms@", "must be latency=AMOUNT@DEVICE"),
        ("latency=@cpu", "must be latency=AMOUNT@DEVICE"),
        ("latency=30@cpu", "must be latency=AMOUNT@DEVICE"),  # of what?
        ("latency=30us@cpu", "must be latency=AMOUNT@DEVICE"),
        ("latency=3G@cpu", "must be latency=AMOUNT@DEVICE"),
        ("latency=-3ms@cpu", "must be latency=AMOUNT@DEVICE"),
        ("latency=1e3ms@cpu", "must be latency=AMOUNT@DEVICE"),
        ("latency=0ms@cpu", "above 0"),
        ("latency=0%@cpu", "above 0"),
        ("latency=101%@cpu", "at most 100%"),
        ("latency=3ms@cpu, latency=40%@phone.toml", "limits latency twice"),
        ("macs=10%@cpu", "the amount must be like"),
    ],
)
def test_bad_budgets_say_what_is_wrong(text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)


# In milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency=30ms@cpu", Limit("latency", 30, device="cpu")),
        ("latency=0.03s@cpu", Limit("latency", 30, device="cpu")),
        ("latency=.5 ms @ cuda", Limit("latency", 0.5, device="cuda")),
        ("latency=40%@out.toml", Limit("latency", 40, percent=True, device="out.toml")),
        ("latency=12.5%@a folder/of@home.toml", Limit("latency", 12.5, True, "a folder/of@home.toml")),
    ],
)
def test_milliseconds_are_those_of_a_device(text, expected):
    for more in ("", ", macs=50%", ",params=20k,bytes=2MB"):
        budget = Budget.parse(text + more)
        assert budget.latency == budget.limits[0] == expected
        assert budget.limits[1:] == (Budget.parse(more).limits if more else ())
        assert Budget.parse(str(budget)) == budget
    assert Budget.parse("macs=1G").latency is None


def test_a_latency_is_written_as_people_write_it():
    assert str(Budget.parse("latency=0.03s@cpu, macs=50%")) == "latency=30ms@cpu,macs=50%"
    assert str(Budget.parse("latency=12.5%@phone.toml")) == "latency=12.5%@phone.toml"


def test_times_that_nobody_knows_cannot_be_spent(channels):
    for text in ("latency=30ms@cpu", "macs=100%,latency=40%@phone.toml"):
        for use in (
            lambda budget: budget.allows(channels, Plan.full(channels)),
            lambda budget: bisect_threshold(channels, torch.zeros(channels.num_atoms), budget),
        ):
            with pytest.raises(ValueError, match=r"is not known here; `ganshrink compress` looks at") as told:
                use(Budget.parse(text))
            assert "\n" not in str(told.value)


def timed(text: str) -> Budget:
    """A budget on a device that takes a millisecond for each channel there is."""
    budget = Budget.parse(text)
    return budget.with_latency(replace(budget.latency, times=lambda channels, widths: float(widths.sum())))


def test_a_latency_is_kept_beside_other_limits(channels):
    full = Plan.full(channels)
    whole = float(channels.num_atoms)
    resolved = timed("latency=50%@cpu, macs=60%").resolve(channels)
    assert resolved.numbers() == {"latency": whole / 2, "macs": channels.cost().macs * 60 // 100}
    assert timed(f"latency={whole}ms@cpu").allows(channels, full)
    assert not timed(f"latency={whole - 0.5}ms@cpu").allows(channels, full)
    assert not timed(f"latency={whole}ms@cpu, macs=99%").allows(channels, full)
    for text in ("latency=50%@cpu", "latency=50%@cpu, macs=20%", "latency=90%@cpu, macs=60%"):
        plan = bisect_threshold(channels, torch.rand(channels.num_atoms), timed(text))
        assert timed(text).allows(channels, plan)


def test_a_latency_that_no_plan_keeps_names_the_fastest(channels):
    fastest = sum(len(g) if g.frozen is not None else int(not g.removable) for g in channels.groups)
    with pytest.raises(ValueError, match=rf"cannot be met; .* latency={fastest}ms") as told:
        bisect_threshold(channels, torch.zeros(channels.num_atoms), timed("latency=0.5ms@cpu"))
    assert "latency=0.5ms@cpu" in str(told.value)


def test_the_limit_in_milliseconds_moves_alone():
    budget = Budget.parse("macs=2G, latency=30ms@cpu, params=1M")
    moved = budget.with_latency(budget.latency.at(12.5))
    assert str(moved) == "macs=2G,latency=12.5ms@cpu,params=1M"
    assert Budget.parse("macs=2G").with_latency(budget.latency) == Budget.parse("macs=2G")
