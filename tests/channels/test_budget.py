"""Budgets as people write them."""

import pytest
import torch

from ganshrink import nets
from ganshrink.channels import Budget, Plan, trace


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
        ("latency=30ms@phone.toml", "not supported yet"),
    ],
)
def test_bad_budgets_say_what_is_wrong(text, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)
