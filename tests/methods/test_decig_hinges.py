"""DECIG's hinges: found where there are two kinds of channels, not found where there are not; and the plan they make."""

import math

import numpy as np
import pytest
import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.methods.decig.decig import magnitudes
from ganshrink.methods.decig.hinges import Hinge, cut_within, find_hinge, find_hinges
from ganshrink.pruning import Budget

SIZES = (16, 30, 64, 256, 512, 1024)
SEEDS = range(25)


def decades(rng, middle, spread, count):
    return 10 ** rng.normal(middle, spread, count)


# What a condensed layer may look like: (the living, the dead) of so many each.
TWO_KINDS = {
    "two heaps": lambda rng, a, b: (decades(rng, 0, 0.15, a), decades(rng, -2, 0.15, b)),
    "wide and narrow": lambda rng, a, b: (decades(rng, 0, 0.3, a), decades(rng, -3, 0.1, b)),
    "narrow and wide": lambda rng, a, b: (decades(rng, 0, 0.1, a), decades(rng, -3.5, 0.4, b)),
    "uniform living": lambda rng, a, b: (rng.uniform(0.2, 1, a), decades(rng, -3, 0.2, b)),
    "falling living": lambda rng, a, b: (np.linspace(1, 0.15, a), 1e-4 * np.linspace(1, 0.5, b)),
    "dead that still fall": lambda rng, a, b: (rng.gamma(6, 1, a), 10 ** np.linspace(-2.5, -4, b)),
    "exact zeros": lambda rng, a, b: (rng.uniform(0.2, 1, a), np.zeros(b)),
    "some exact zeros": lambda rng, a, b: (
        rng.uniform(0.2, 1, a),
        np.where(np.arange(b) % 3 == 0, 0, decades(rng, -4, 0.2, b)),
    ),
}

# What a layer may look like that was trained without a penalty, or not yet long enough with it.
ONE_KIND = {
    "log-normal": lambda rng, n: decades(rng, 0, 0.3, n),
    "narrow": lambda rng, n: rng.normal(1, 0.05, n),
    "uniform": lambda rng, n: rng.uniform(0.05, 1, n),
    "chi": lambda rng, n: np.sqrt(rng.chisquare(9, n)),
    "gamma": lambda rng, n: rng.gamma(3, 1, n),
    "all equal": lambda rng, n: np.full(n, 0.3),
    "all zero": lambda rng, n: np.zeros(n),
    "linear": lambda rng, n: np.arange(n, 0, -1) / n,
    "two decades": lambda rng, n: 10 ** (-2 * np.arange(n) / n + rng.normal(0, 0.01, n)),
    "five decades": lambda rng, n: 10 ** (-5 * np.arange(n) / n + rng.normal(0, 0.01, n)),
    "1 / j": lambda rng, n: 1 / np.arange(1, n + 1),
    "1 / j^2": lambda rng, n: 1 / np.arange(1, n + 1) ** 2,
    "convex": lambda rng, n: np.exp(-6 * np.linspace(0, 1, n) ** 0.5) * 10 ** rng.normal(0, 0.02, n),
    "half-normal": lambda rng, n: abs(rng.normal(0, 1, n)),
    "exponential": lambda rng, n: rng.exponential(1, n),
}


def shuffled(rng, *parts):
    return torch.from_numpy(rng.permutation(np.concatenate(parts)))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", TWO_KINDS)
def test_a_hinge_is_found_within_two_channels(kind, n):
    n += 8 * (kind == "some exact zeros")  # three heaps: of 16, too few may be in the middle one to be a mode
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        alive = int(rng.integers(math.ceil(0.35 * n), math.floor(0.65 * n) + 1))
        if n >= 64:  # also where few stay, or few go
            alive = int(rng.integers(n // 8, n - n // 8))
        hinge = find_hinge(shuffled(rng, *TWO_KINDS[kind](rng, alive, n - alive)))
        assert hinge.found, (seed, alive)
        assert abs(hinge.kept - alive) <= 2, (seed, alive)


@pytest.mark.parametrize("kind", ONE_KIND)
def test_no_hinge_is_found_where_there_is_none(kind):
    for n in (*SIZES, 1, 2, 3, 5, 8):
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            hinge = find_hinge(shuffled(rng, ONE_KIND[kind](rng, n)))
            assert not hinge.found, (n, seed)
            assert hinge.kept == n


def test_the_hinge_is_at_the_largest_gap_near_the_best_split():
    """Otsu's split is drawn into the wider side: it is after 47."""
    curve = torch.cat(
        [torch.linspace(0, -0.6, 40), torch.linspace(-0.7, -1.8, 10), torch.linspace(-2.6, -2.7, 50)]
    )
    assert find_hinge(10**curve).kept == 50


@pytest.mark.parametrize(("thinned", "found"), [(0.7, False), (0.1, True)])
def test_a_shallow_valley_parts_nothing(thinned, found):
    """However many channels show that it is there."""
    thirds = [torch.linspace(a, a + 1, round(share * 340)) for a, share in ((-3, 1), (-2, thinned), (-1, 1))]
    assert find_hinge(10 ** torch.cat(thirds)).found == found


@pytest.mark.parametrize("few", [2, 3, 4])
@pytest.mark.parametrize("n", [16, 64, 512])
def test_a_few_that_live_or_are_dead_are_seen(n, few):
    rng = np.random.default_rng(0)
    left = find_hinge(shuffled(rng, rng.uniform(0.5, 1, few), decades(rng, -2.5, 0.2, n - few)))
    assert left.found
    assert left.kept == max(few, math.ceil(0.05 * n))
    gone = find_hinge(shuffled(rng, rng.uniform(0.2, 1, n - few), decades(rng, -4, 0.2, few)))
    assert gone.found
    assert gone.kept == n - few


def two_heaps(alive, n):
    return torch.cat([torch.linspace(1, 0.3, alive), torch.linspace(2e-3, 1e-3, n - alive)])


def test_what_stays_is_rounded_up_and_has_a_floor():
    assert find_hinge(two_heaps(21, 64)) == Hinge(21, "curve")
    assert find_hinge(two_heaps(21, 64), round_to=8).kept == 24
    assert find_hinge(two_heaps(24, 64), round_to=8).kept == 24
    assert find_hinge(two_heaps(21, 64), least=30).kept == 30
    assert find_hinge(two_heaps(21, 64), least=30, round_to=16).kept == 32
    assert find_hinge(two_heaps(10, 512)).kept == 26  # 5 %
    assert find_hinge(two_heaps(55, 60), round_to=16).kept == 60  # all, though no multiple
    assert find_hinge(torch.ones(60), round_to=16).kept == 60


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e12])
def test_only_ratios_count(scale):
    values = two_heaps(21, 64).double()
    assert find_hinge(values * scale) == find_hinge(values)


def test_few_channels_are_left_alone():
    assert find_hinge(torch.tensor([0.5])) == Hinge(1, "none")
    assert not find_hinge(torch.tensor([1.0, 0.9])).found
    assert not find_hinge(torch.tensor([1.0, 0.9, 1e-4])).found  # one of three is no mode


def test_one_large_channel_is_no_reason_to_cut_all_others():
    values = torch.cat([torch.tensor([30.0]), torch.linspace(1, 0.5, 63)])
    assert not find_hinge(values).found


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.5])
def test_magnitudes_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="magnitude is .*, not a number from 0"):
        find_hinge(torch.tensor([1.0, wrong, 0.5]))


# ---- plans


@pytest.fixture(scope="module")
def incres():
    """A network with a trunk and removable branches, every second layer of which is condensed."""
    torch.manual_seed(0)
    model = nets.build("incres9", ngf=12, blocks=2)
    channels = trace(model, torch.randn(1, 3, 16, 24))
    free = [group for group in channels.groups if group.frozen is None]
    values = magnitudes(model, channels, "own")
    values = {name: value.detach() for name, value in values.items()}
    for number, group in enumerate(free):
        if number % 2 == 0 and len(group) >= 12:
            values[group.name][torch.randperm(len(group))[: len(group) // 2]] *= 1e-3
    return channels, values


def hinges_within(channels, values, budget, *, overrides=None, **limits):
    hinges = find_hinges(channels, values, by_hand=overrides or {}, start={}, **limits)
    return cut_within(channels, values, hinges, budget, **limits)


def widths(channels, plan):
    return {g.name: int(plan.keep[g.atoms].sum()) for g in channels.groups if g.frozen is None}


def test_within_the_budget_every_layer_is_cut_at_its_own_hinge(incres):
    channels, values = incres
    hinges = {name: find_hinge(value) for name, value in values.items()}
    assert {hinge.found for hinge in hinges.values()} == {True, False}
    plan = hinges_within(channels, values, "macs=100%")
    assert widths(channels, plan) == {name: hinge.kept for name, hinge in hinges.items()}
    for group in channels.groups:
        if group.frozen is None:
            kept = plan.keep[group.atoms]
            largest = values[group.name].sort(descending=True).values[: int(kept.sum())]
            assert torch.equal(values[group.name][kept].sort(descending=True).values, largest)


@pytest.mark.parametrize("budget", ["macs=40%", "macs=15%", "params=30%", "macs=50%,params=20%"])
@pytest.mark.parametrize("round_to", [1, 4])
def test_the_budget_is_never_exceeded_and_nothing_dead_comes_back(incres, budget, round_to):
    channels, values = incres
    loose = hinges_within(channels, values, "macs=100%", round_to=round_to)
    plan = hinges_within(channels, values, budget, round_to=round_to)
    assert Budget.parse(budget).allows(channels, plan)
    assert not (plan.keep & ~loose.keep).any()
    for group in channels.groups:
        width = int(plan.keep[group.atoms].sum())
        assert width % round_to == 0 or width == len(group)
        if group.frozen is None and not group.removable:
            assert width >= math.ceil(0.05 * len(group))


def test_hinges_move_up_together():
    """Two layers alike but for how dead their dead are, and for the scale of it all, lose alike."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 1), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 1), torch.nn.Conv2d(64, 3, 1)
    )
    channels = trace(model, torch.randn(1, 3, 4, 4))
    living = torch.linspace(1, 0.2, 32)
    values = {
        "0": torch.cat([living, torch.full((32,), 1e-2)]),
        "2": 50 * torch.cat([living, torch.full((32,), 1e-5)]),
    }
    whole = widths(channels, hinges_within(channels, values, "macs=100%"))
    assert whole == {"0": 32, "2": 32}
    tight = widths(channels, hinges_within(channels, values, "macs=10%"))
    assert abs(tight["0"] - tight["2"]) <= 1
    assert tight["0"] < 32


def test_a_layer_of_equals_does_not_go_first():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 1), torch.nn.Conv2d(32, 32, 1), torch.nn.Conv2d(32, 3, 1)
    )
    channels = trace(model, torch.randn(1, 3, 4, 4))
    values = {"0": torch.linspace(1, 0.2, 32), "1": torch.linspace(1, 0.99, 32)}
    found = widths(channels, hinges_within(channels, values, "macs=60%"))
    assert found["1"] > found["0"]


def test_hinges_by_hand_stand_whatever_the_budget(incres):
    channels, values = incres
    by_hand = {"down.4": 23, "down.7": 40}
    for budget in ("macs=100%", "macs=40%"):
        plan = hinges_within(channels, values, budget, overrides=by_hand)
        assert Budget.parse(budget).allows(channels, plan)
        found = widths(channels, plan)
        assert {name: found[name] for name in by_hand} == by_hand
    rounded = widths(channels, hinges_within(channels, values, "macs=40%", round_to=4, overrides=by_hand))
    assert (rounded["down.4"], rounded["down.7"]) == (24, 40)
    branch = next(g for g in channels.groups if g.removable)
    for kept in (0, len(branch)):
        plan = hinges_within(channels, values, "macs=25%", overrides={branch.name: kept})
        assert widths(channels, plan)[branch.name] == kept
    with pytest.raises(ValueError, match="smallest reachable cost"):
        hinges_within(channels, values, "macs=5%", overrides={"down.4": 24, "down.7": 48})


def test_hinges_by_hand_that_cannot_be_are_refused(incres):
    channels, values = incres
    with pytest.raises(ValueError, match="for head, which is no group"):
        hinges_within(channels, values, "macs=50%", overrides={"head": 3})
    for kept in (0, 25):
        with pytest.raises(ValueError, match=f"for down.4 is {kept}; it must be from 1 to 24"):
            hinges_within(channels, values, "macs=50%", overrides={"down.4": kept})


def test_magnitudes_that_are_no_numbers_are_refused(incres):
    channels, values = incres
    with pytest.raises(ValueError, match="not a number from 0"):
        hinges_within(channels, values | {"down.4": torch.full((24,), torch.nan)}, "macs=50%")
