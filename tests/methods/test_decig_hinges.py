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
from ganshrink.pruning.knees import bend
from telling import rest_exhaustive

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
    "1 / sqrt j": lambda rng, n: 1 / np.arange(1, n + 1) ** 0.5,
    "parabola": lambda rng, n: 10 ** (-2 * (1 - np.linspace(1, 0, n) ** 2)),
    "cosine": lambda rng, n: 10 ** (np.cos(np.pi * np.arange(n) / n) - 1),
    "convex": lambda rng, n: np.exp(-6 * np.linspace(0, 1, n) ** 0.5) * 10 ** rng.normal(0, 0.02, n),
    "half-normal": lambda rng, n: abs(rng.normal(0, 1, n)),
    "exponential": lambda rng, n: rng.exponential(1, n),
}


def shuffled(rng, *parts):
    return torch.from_numpy(rng.permutation(np.concatenate(parts)))


@pytest.mark.parametrize("n", rest_exhaustive(SIZES, set(list(SIZES)[::2]).__contains__))
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


@pytest.mark.parametrize("kind", rest_exhaustive(ONE_KIND, set(list(ONE_KIND)[::3]).__contains__))
def test_no_hinge_is_found_where_there_is_none(kind):
    for n in (*SIZES, 1, 2, 3, 5, 8):
        for seed in range(8):
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


# log10 of the L1 norms of real layers after Stage I (ratio 1, linear f) over the largest: U-Nets of 12 channels, 5 levels.
# The first three are of 1,920 steps on drawn facades at 32 px, the others of 3,670 on street photos at 64 px.
# fmt: off
REAL = {
    "facades down.4.1": [
        0, -0.08, -0.12, -0.5, -0.58, -0.8, -2.07, -2.13, -2.29, -2.33, -2.34, -2.34, -2.35, -2.36, -2.36,
        -2.39, -2.4, -2.4, -2.4, -2.41, -2.42, -2.44, -2.45, -2.46, -2.46, -2.46, -2.47, -2.49, -2.49,
        -2.5, -2.51, -2.51, -2.52, -2.54, -2.55, -2.55, -2.55, -2.56, -2.57, -2.57, -2.58, -2.59, -2.59,
        -2.59, -2.6, -2.62, -2.63, -2.63, -2.64, -2.65, -2.66, -2.66, -2.67, -2.67, -2.67, -2.68, -2.69,
        -2.69, -2.69, -2.69, -2.73, -2.74, -2.74, -2.75, -2.76, -2.77, -2.77, -2.78, -2.78, -2.79, -2.81,
        -2.81, -2.81, -2.83, -2.85, -2.85, -2.86, -2.87, -2.87, -2.87, -2.88, -2.89, -2.89, -2.89, -2.89,
        -2.9, -2.91, -2.91, -2.93, -2.95, -2.95, -2.97, -2.98, -3.01, -3.08, -3.18,
    ],
    "facades up.1.1": [
        0, -0.21, -0.61, -0.64, -0.87, -0.87, -0.92, -1.04, -1.12, -1.13, -1.2, -1.21, -1.23, -1.27, -1.29,
        -1.33, -1.34, -1.35, -1.36, -1.37, -1.39, -1.4, -1.42, -1.45, -1.47, -1.48, -1.49, -1.51, -1.52,
        -1.53, -1.55, -1.57, -1.59, -1.63, -1.65, -1.68, -1.7, -1.7, -1.7, -1.74, -1.76, -1.77, -1.78,
        -1.81, -1.87, -1.92, -1.92, -1.99,
    ],
    "facades down.3.1": [
        0, -0.05, -0.38, -0.4, -0.51, -0.59, -0.64, -0.7, -0.88, -0.89, -0.97, -1.07, -1.07, -1.11, -1.16,
        -1.2, -1.21, -1.25, -1.26, -1.28, -1.3, -1.36, -1.41, -1.42, -1.44, -1.47, -1.48, -1.53, -1.59,
        -1.59, -1.6, -1.61, -1.62, -1.62, -1.63, -1.64, -1.65, -1.65, -1.65, -1.66, -1.7, -1.71, -1.73,
        -1.74, -1.76, -1.77, -1.77, -1.79, -1.8, -1.81, -1.81, -1.82, -1.82, -1.82, -1.82, -1.82, -1.82,
        -1.83, -1.84, -1.85, -1.87, -1.87, -1.89, -1.9, -1.91, -1.91, -1.92, -1.92, -1.92, -1.92, -1.93,
        -1.94, -1.95, -1.96, -1.97, -1.97, -1.98, -1.99, -1.99, -2.03, -2.04, -2.05, -2.06, -2.07, -2.07,
        -2.07, -2.1, -2.1, -2.12, -2.14, -2.14, -2.14, -2.15, -2.16, -2.17, -2.26,
    ],
    "streets down.4.1": [
        0, -0.03, -0.08, -0.14, -0.19, -0.21, -0.27, -0.31, -0.61, -0.62, -0.78, -0.99, -1.3, -1.34, -2.69,
        -2.75, -2.78, -2.88, -2.88, -2.91, -2.91, -2.94, -3, -3.01, -3.02, -3.04, -3.04, -3.04, -3.07,
        -3.08, -3.09, -3.11, -3.11, -3.12, -3.13, -3.13, -3.14, -3.15, -3.16, -3.16, -3.16, -3.16, -3.19,
        -3.19, -3.2, -3.22, -3.23, -3.23, -3.24, -3.24, -3.24, -3.24, -3.25, -3.25, -3.25, -3.26, -3.27,
        -3.27, -3.28, -3.28, -3.28, -3.28, -3.29, -3.29, -3.3, -3.3, -3.3, -3.3, -3.31, -3.32, -3.32,
        -3.33, -3.33, -3.34, -3.36, -3.36, -3.37, -3.38, -3.38, -3.39, -3.39, -3.41, -3.42, -3.42, -3.43,
        -3.44, -3.44, -3.46, -3.46, -3.46, -3.47, -3.49, -3.51, -3.52, -3.59, -3.8,
    ],
    "streets down.3.1": [
        0, -0.19, -0.22, -0.28, -0.36, -0.37, -0.37, -0.46, -0.47, -0.5, -0.62, -0.62, -0.65, -0.69, -0.71,
        -0.79, -0.81, -0.86, -0.9, -0.93, -0.96, -1.02, -1.04, -1.06, -1.07, -1.11, -1.14, -1.19, -1.2,
        -1.25, -1.25, -1.3, -1.33, -1.35, -1.38, -1.4, -1.44, -1.47, -1.51, -1.51, -1.51, -1.54, -1.57,
        -1.67, -1.7, -1.7, -1.71, -1.73, -1.76, -1.76, -1.77, -1.79, -1.8, -1.87, -1.91, -1.91, -1.92,
        -1.92, -1.93, -1.95, -1.97, -1.98, -1.99, -1.99, -2, -2.02, -2.02, -2.04, -2.04, -2.05, -2.05,
        -2.06, -2.08, -2.09, -2.09, -2.1, -2.13, -2.14, -2.16, -2.17, -2.18, -2.18, -2.18, -2.2, -2.2,
        -2.2, -2.23, -2.24, -2.26, -2.27, -2.28, -2.28, -2.31, -2.34, -2.36, -2.39,
    ],
    "streets up.1.1": [
        0, -0.18, -0.28, -0.53, -0.63, -0.71, -0.94, -1, -1.09, -1.13, -1.2, -1.26, -1.31, -1.32, -1.43,
        -1.44, -1.48, -1.48, -1.52, -1.54, -1.59, -1.61, -1.62, -1.67, -1.68, -1.73, -1.74, -1.74, -1.75,
        -1.78, -1.81, -1.82, -1.9, -1.9, -1.95, -1.96, -1.98, -1.98, -2, -2.01, -2.05, -2.1, -2.12, -2.14,
        -2.27, -2.31, -2.39, -2.46,
    ],
}
# fmt: on


@pytest.mark.parametrize(("layer", "kept"), [("facades down.4.1", 6), ("streets down.4.1", 14)])
def test_a_real_layer_that_condensed_has_its_hinge_at_its_gap(layer, kept):
    assert find_hinge(10 ** torch.tensor(REAL[layer])) == Hinge(kept, "curve")


@pytest.mark.parametrize("layer", sorted(REAL.keys() - {"facades down.4.1", "streets down.4.1"}))
def test_a_real_layer_that_falls_smoothly_has_none(layer):
    assert not find_hinge(10 ** torch.tensor(REAL[layer])).found


def between(rng, alive, n):
    """Two decades, with one to three channels on the way."""
    few = int(rng.integers(1, 4))
    way = 10 ** (-2 * (np.arange(1, few + 1) + rng.uniform(-0.2, 0.2, few)) / (few + 1))
    return decades(rng, 0, 0.15, alive), way, decades(rng, -2, 0.15, n - alive - few)


def elbow(rng, alive, n):
    """An exponential fall over two decades that ends in a floor."""
    fall = np.exp(-np.arange(n) * 2 * math.log(10) / alive)
    return [(fall + 0.01) * 10 ** rng.normal(0, 0.05, n)]


def sharp_elbow(rng, alive, n):
    return [np.maximum(np.exp(-np.arange(n) * 2 * math.log(10) / alive), 0.01)]


def step(rng, alive, n):
    """Clean, of six to seven times."""
    return rng.uniform(0.8, 1, alive), rng.uniform(0.8, 1, n - alive) / rng.uniform(6, 7)


def two_heaps_apart(rng, alive, n):
    return decades(rng, 0, 0.15, alive), decades(rng, -2, 0.15, n - alive)


@pytest.mark.parametrize("n", [48, 96, 512])
@pytest.mark.parametrize("kind", [two_heaps_apart, between, elbow, sharp_elbow, step])
def test_of_50_draws_of_2_to_200_survivors_at_least_48_have_a_hinge_near_them(kind, n):
    """An elbow needs a floor of twice as many channels, and reaches it late."""
    bent, seen = kind in (elbow, sharp_elbow), 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        alive = round(math.exp(rng.uniform(math.log(2), math.log(min(200, n / 3 if bent else n / 2)))))
        hinge = find_hinge(shuffled(rng, *kind(rng, alive, n)))
        low, high = (0.4 * alive - 2, 1.75 * alive + 3) if bent else (alive, alive + 3)
        seen += hinge.found and low <= hinge.kept <= max(high, math.ceil(0.05 * n))
    assert seen >= 48


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
    hinges = find_hinges(channels, values, by_hand=overrides or {}, **limits)
    return cut_within(channels, values, hinges, budget, **limits)


def widths(channels, plan):
    return {g.name: int(plan.keep[g.atoms].sum()) for g in channels.groups if g.frozen is None}


@pytest.mark.exhaustive
@pytest.mark.slow
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


@pytest.mark.parametrize("n", [24, 48, 96])
@pytest.mark.parametrize("share", rest_exhaustive([0.1, 0.2, 0.33], [0.33].__contains__))
def test_a_bend_into_a_short_floor_is_proposed(n, share):
    floor = max(2, round(share * n))
    rng, alive = np.random.default_rng(n), n - floor
    fall = 10 ** -np.linspace(0, 1.8, alive)
    assert abs(bend(shuffled(rng, fall, decades(rng, -1.9, 0.03, floor))) - alive) <= 3
    assert bend(torch.linspace(1, 0.5, n)) == bend(torch.ones(n)) == n  # of one kind
    assert bend(10 ** torch.linspace(0, -3, n)) == n  # never flatter


def test_real_layers_have_no_such_bend():
    """They condensed into few channels, or fall smoothly."""
    assert all(bend(10 ** torch.tensor(curve)) == len(curve) for curve in REAL.values())
