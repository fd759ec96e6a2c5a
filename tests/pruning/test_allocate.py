"""Bisecting over sorted scores: exact, never over the budget, within one step of it."""

import re

import pytest
import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Budget, Plan, allocate, scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def incres():
    torch.manual_seed(0)
    model = nets.build("incres9", ngf=12, blocks=1)
    for module in model.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.4)
    channels = trace(model, torch.randn(1, 3, 16, 24))
    return channels, scores.norm_scale(model, channels)


def kept(channels, plan):
    return {g.name: int(plan.keep[g.atoms].sum()) for g in channels.groups}


@pytest.mark.parametrize("share", [10, 25, 50, 80])
def test_the_plan_keeps_the_budget_and_no_single_atom_fits_any_more(incres, share):
    channels, values = incres
    budget = Budget.parse(f"macs={share}%, params=60%")
    plan = allocate.bisect_threshold(channels, values, budget)
    assert budget.allows(channels, plan)
    for group in channels.groups:
        missing = group.atoms[~plan.keep[group.atoms]]
        if group.frozen is None and len(missing):
            keep = plan.keep.clone()
            keep[missing[0]] = True
            assert not budget.allows(channels, Plan(keep))


def test_it_keeps_the_best_scores_of_every_group(incres):
    channels, values = incres
    plan = allocate.bisect_threshold(channels, values, "macs=30%")
    for group in channels.groups:
        alive = plan.keep[group.atoms]
        if alive.any() and not alive.all():
            assert values[group.atoms][alive].min() >= values[group.atoms][~alive].max()


def test_it_agrees_with_a_naive_scan_over_all_thresholds(incres):
    channels, values = incres
    budget = Budget.parse("paper_macs=40%").resolve(channels)
    best = None
    for threshold in [-1.0, *values[torch.isfinite(values)].unique().tolist()]:
        keep = values > threshold
        for group in channels.groups:
            if group.frozen is None and not group.removable and not keep[group.atoms].any():
                keep[group.atoms[values[group.atoms].argmax()]] = True
        if budget.allows(channels, Plan(keep)):
            best = keep
            break
    plan = allocate.bisect_threshold(channels, values, budget)
    assert best is not None
    assert (plan.keep | ~best).all()  # all of the naive plan, and what was added back
    assert channels.cost(plan, "paper").macs >= channels.cost(Plan(best), "paper").macs


def test_a_budget_above_the_whole_network_keeps_it(incres):
    channels, values = incres
    assert allocate.bisect_threshold(channels, values, "macs=1G") == Plan.full(channels)


def test_ties_are_cut_and_filled_up_in_order():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1), torch.nn.Conv2d(10, 3, 1))
    channels = trace(model, torch.randn(1, 3, 4, 4))
    plan = allocate.bisect_threshold(channels, torch.ones(channels.num_atoms), "macs=40%")
    [group] = [g for g in channels.groups if g.frozen is None]
    assert plan.keep[group.atoms].tolist() == [True] * 4 + [False] * 6


def test_floors_hold_except_where_a_group_may_go(incres):
    channels, values = incres
    widths = kept(channels, allocate.bisect_threshold(channels, values, "macs=45%", floor=9))
    for group in channels.groups:
        if group.frozen is None and not group.removable:
            assert widths[group.name] >= min(9, len(group))
    assert any(widths[g.name] < 9 for g in channels.groups if g.removable)
    by_name = kept(channels, allocate.bisect_threshold(channels, values, "macs=20%", floor={"down.4": 20}))
    assert by_name["down.4"] >= 20
    half = kept(
        channels, allocate.bisect_threshold(channels, values, "macs=50%", floor=lambda g: len(g) // 2)
    )
    assert half["down.7"] >= 24


@pytest.mark.parametrize("step", [4, 5, 8])
def test_widths_are_multiples_or_full(incres, step):
    channels, values = incres
    plan = allocate.bisect_threshold(channels, values, "macs=40%", round_to=step)
    assert Budget.parse("macs=40%").allows(channels, plan)
    for group in channels.groups:
        width = int(plan.keep[group.atoms].sum())
        assert width % step == 0 or width == len(group)


def test_an_infeasible_budget_names_the_smallest_reachable_cost(incres):
    channels, values = incres
    with pytest.raises(ValueError, match="smallest reachable cost is macs=") as caught:
        allocate.bisect_threshold(channels, values, "macs=1k", floor=4)
    least = int(re.search(r"\((\d+)\)", str(caught.value))[1])
    plan = allocate.bisect_threshold(channels, values, f"macs={least}", floor=4)
    assert channels.cost(plan).macs == least
    with pytest.raises(ValueError, match=str(least)):
        allocate.bisect_threshold(channels, values, f"macs={least - 1}", floor=4)


def test_scores_that_do_not_fit_are_refused(incres):
    channels, values = incres
    with pytest.raises(ValueError, match="one per atom"):
        allocate.bisect_threshold(channels, values[:-1], "macs=50%")
    with pytest.raises(ValueError, match="are not numbers"):
        allocate.bisect_threshold(channels, torch.full_like(values, torch.nan), "macs=50%")


def test_what_is_gone_does_not_come_back_though_it_would_fit(incres):
    channels, values = incres
    gone = values.clone()
    gone[values < values[torch.isfinite(values)].median()] = -torch.inf
    loose = allocate.bisect_threshold(channels, gone, "macs=100%")
    for group in channels.groups:
        alive = int((gone[group.atoms] > -torch.inf).sum())
        assert int(loose.keep[group.atoms].sum()) == max(alive, 0 if group.removable else 1)
    tight = allocate.bisect_threshold(channels, gone, "macs=20%")
    assert not (tight.keep & ~loose.keep).any()
    rounded = kept(channels, allocate.bisect_threshold(channels, gone, "macs=100%", round_to=4))
    assert all(
        width % 4 == 0 or width == len(g) for width, g in zip(rounded.values(), channels.groups, strict=True)
    )


@pytest.mark.parametrize(
    ("width", "share", "kept"), [(10, 0.9, 9), (20, 0.65, 13), (50, 0.16, 8), (7, 0.5, 4)]
)
def test_a_share_is_rounded_up_but_not_for_a_rounding_error(width, share, kept):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, width, 1), torch.nn.Conv2d(width, 3, 1))
    channels = trace(model, torch.randn(1, 3, 4, 4))
    [group] = [g for g in channels.groups if g.frozen is None]
    plan = allocate.share_of_each(channels, share)
    assert plan.keep[group.atoms].tolist() == [True] * kept + [False] * (width - kept)
    assert int(allocate.share_of_each(channels, 1e-9).keep[group.atoms].sum()) == 1
