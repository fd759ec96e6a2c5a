"""Evolution in a band of cost: always in it, nothing scored twice, the same after a kill, and better than drawing."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning.search.evolution import Evolution, evolve
from ganshrink.pruning.search.space import Space, space_of
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

TINY = Space(choices=((2, 4, 6, 8), (3,), (1, 2), (1, 2), (5, 10, 15)), sites=((2, 3),))


def tiny_cost(widths):
    return float(widths[0] * widths[4] + 20 * widths[2] + 20 * widths[3])


def members(space):
    widths = product(*((0, *choices) for choices in space.choices))
    return [w for w in (np.array(w, np.int64) for w in widths) if w in space]


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    channels = trace(nets.build("resnet6", ngf=8), torch.randn(1, 3, 16, 24))
    blocks = [number for number, group in enumerate(channels.groups) if group.removable]
    return channels, space_of(channels, sites=(blocks[:3], blocks[3:]))


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    channels = trace(nets.build("unet128", ngf=8), torch.randn(1, 3, 128, 128))
    return channels, space_of(channels)


def macs(channels):
    return lambda widths: channels.cost_at(widths).macs


def band_of(channels, low, high):
    whole = channels.cost().macs
    return low * whole, high * whole


def taste(channels, seed=0):
    """A fitness that likes some groups and not others."""
    likes = np.random.default_rng(seed).normal(size=len(channels.groups)) / channels.full_widths()
    return lambda members: [float(widths @ likes) for widths in members]


def recorded(evolution, score):
    """What a search asked to be scored, generation by generation, and what it found."""
    asked = []

    def scoring(members):
        asked.append([widths.copy() for widths in members])
        return score(members)

    return asked, evolve(evolution, scoring)


def keys(generation):
    return [widths.tobytes() for widths in generation]


@pytest.mark.parametrize(
    ("low", "high"), rest_exhaustive([(0, 1), (0.4, 0.45), (0.1, 0.101), (0.05, 0.053)], (0.1, 0.101).__eq__)
)
@pytest.mark.parametrize("network", rest_exhaustive(["resnet", "unet"], "unet".__eq__))
def test_every_member_is_of_the_space_and_in_the_band_and_scored_once(request, network, low, high):
    channels, space = request.getfixturevalue(network)
    low, high = band_of(channels, low, high)
    evolution = Evolution(space, macs(channels), (low, high), population=20, generations=5, seed=3)
    asked, best = recorded(evolution, taste(channels))
    every = [widths for generation in asked for widths in generation]
    assert all(widths in space for widths in every)
    assert all(low <= channels.cost(space.plan(channels, widths)).macs <= high for widths in every)
    assert len(set(keys(every))) == len(every) == evolution.scored == 100
    assert [len(generation) for generation in asked] == [20] * 5
    scores = taste(channels)(every)
    assert evolution.best_score == max(scores)
    assert best.tobytes() == every[int(np.argmax(scores))].tobytes()
    assert evolution.history == [max(scores[: 20 * n]) for n in range(1, 6)]


@pytest.mark.parametrize("network", ["resnet", "unet"])
def test_a_first_population_far_from_the_mean_is_not_all_alike(request, network):
    """At 5 % of the whole network, where uniform draws have little chance."""
    channels, space = request.getfixturevalue(network)
    low, high = band_of(channels, 0.05, 0.052)
    rng = np.random.default_rng(0)
    drawn = [macs(channels)(space.random(rng)) for _ in range(500)]
    assert sum(low <= cost <= high for cost in drawn) < 5
    first = np.stack(Evolution(space, macs(channels), (low, high)).newcomers())
    assert len(np.unique(first, axis=0)) == 100
    seen = [
        len(np.unique(widths))
        for widths, choices in zip(first.T, space.choices, strict=True)
        if len(choices) > 1
    ]
    assert min(seen) > 1
    assert np.mean(seen) > 3
    for site in space.sites:
        assert len({np.count_nonzero(widths[list(site)]) for widths in first}) == len(site) + 1


def test_costs_are_asked_once_and_not_many_for_each_member(unet):
    channels, space = unet
    asked = []

    def cost(widths):
        asked.append(widths.tobytes())
        return macs(channels)(widths)

    evolution = Evolution(space, cost, band_of(channels, 0.05, 0.055), population=40, generations=5)
    evolve(evolution, taste(channels))
    assert len(set(asked)) == len(asked) < 40 * evolution.scored


@pytest.mark.parametrize("seed", range(5))
def test_in_a_tiny_space_it_finds_what_trying_everything_does(seed):
    likes = np.random.default_rng(seed).normal(size=5)
    inside = [widths for widths in members(TINY) if 30 <= tiny_cost(widths) <= 100]
    evolution = Evolution(TINY, tiny_cost, (30, 100), population=8, generations=12, seed=seed)
    best = evolve(evolution, lambda members: [float(widths @ likes) for widths in members])
    assert best.tolist() == max(inside, key=lambda widths: float(widths @ likes)).tolist()


def test_where_the_band_holds_few_all_of_them_are_the_population():
    inside = [widths for widths in members(TINY) if 100 <= tiny_cost(widths) <= 110]
    assert 3 < len(inside) < 20
    evolution = Evolution(TINY, tiny_cost, (100, 110), generations=3)
    asked, _ = recorded(evolution, lambda members: [float(widths[0]) for widths in members])
    assert len(asked) == 1  # with nothing new there is nothing to ask
    assert sorted(keys(asked[0])) == sorted(keys(inside))
    assert (evolution.generation, evolution.scored) == (3, len(inside))


@pytest.mark.parametrize(
    ("cost", "first"),
    [
        (
            lambda widths: float(widths[0] + 10 * widths[4]),
            [6, 3, 0, 0, 5],
        ),  # narrower ones, [2, 3, 0, 0, 10], cost more
        (lambda widths: float(11 * widths[4]), [2, 3, 0, 0, 5]),  # many cost as much
    ],
)
def test_of_equals_the_cheaper_wins_then_the_first_by_widths(cost, first):
    evolution = Evolution(TINY, cost, (55, 120), population=20, generations=20, seed=1)
    assert evolve(evolution, lambda members: [0.0] * len(members)).tolist() == first


def test_a_seed_makes_the_search_and_another_explores_elsewhere(resnet):
    channels, space = resnet

    def searched(seed):
        band = band_of(channels, 0.1, 0.12)
        evolution = Evolution(space, macs(channels), band, population=12, generations=4, seed=seed)
        asked, _ = recorded(evolution, taste(channels))
        return [keys(generation) for generation in asked]

    assert searched(1) == searched(1)
    one, other = searched(1), searched(2)
    assert not set(one[0]) & set(other[0])


@pytest.mark.parametrize("scores_before", [0, 1, 10, 25, 39])
def test_with_its_scores_remembered_a_stopped_search_is_the_one_that_was_not(resnet, scores_before):
    """A search is a function of its seed and of scores: those are all that has to be kept."""
    channels, space = resnet

    def made():
        return Evolution(
            space, macs(channels), band_of(channels, 0.1, 0.12), population=10, generations=4, seed=7
        )

    known, count = {}, []

    def remembering(stop):
        def score(members):
            for widths in members:
                if widths.tobytes() not in known:
                    if len(count) == stop:
                        raise KeyboardInterrupt
                    count.append(widths)
                    known[widths.tobytes()] = taste(channels)([widths])[0]
            return [known[widths.tobytes()] for widths in members]

        return score

    with pytest.raises(KeyboardInterrupt):
        evolve(made(), remembering(scores_before))
    again, straight = made(), made()
    evolve(again, remembering(None))
    evolve(straight, taste(channels))
    assert len(count) == 40  # none was scored again
    assert (again.best.tolist(), again.history) == (straight.best.tolist(), straight.history)


@pytest.mark.exhaustive
def test_a_band_that_nothing_is_in_names_the_nearest_costs():
    channels = trace(nn.Sequential(nn.Conv2d(3, 10, 1), nn.Conv2d(10, 3, 1)), torch.randn(1, 3, 4, 4))
    two = space_of(channels, steps=2)  # 5 or 10 channels: 480 or 960 MACs
    for band, problem in (
        ((100, 400), "no network found that costs 100 to 400: the smallest costs 480"),
        ((1000, 2000), "no network found that costs 1000 to 2000: the largest costs 960"),
        ((500, 900), "no network found that costs 500 to 900: the nearest that were found cost 480 and 960"),
    ):
        with pytest.raises(ValueError, match=f"^{problem}$"):
            Evolution(two, macs(channels), band, population=4)
    with pytest.raises(
        ValueError, match="costs 0.5k to 0.9k: the nearest that were found cost 0.48k and 0.96k"
    ):
        Evolution(two, macs(channels), (500, 900), write=lambda cost: f"{cost / 1000:g}k")
    for band, width in (((480, 480), 5), ((960, 10**9), 10), ((0, 900), 5), ((-np.inf, 480), 5)):
        [only] = Evolution(two, macs(channels), band).newcomers()
        assert width in only


def test_a_gap_in_a_larger_space_is_found_between_its_neighbours():
    costs = sorted({tiny_cost(widths) for widths in members(TINY)})
    below, above = max(zip(costs, costs[1:], strict=False), key=lambda pair: pair[1] - pair[0])
    with pytest.raises(ValueError, match=f"cost {below:g} and {above:g}$"):
        Evolution(TINY, tiny_cost, (below + 1, above - 1), population=4)


def test_scores_that_are_none_are_refused():
    evolution = Evolution(TINY, tiny_cost, (30, 100), population=6, generations=2)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=rf"the score of the network with widths \[.*\] is {bad}"):
            evolve(evolution, lambda members, bad=bad: [0.0] * (len(members) - 1) + [bad])
    with pytest.raises(ValueError, match="6 networks were to be scored, got 5 scores"):
        evolve(evolution, lambda members: [0.0] * (len(members) - 1))
    assert (evolution.generation, evolution.scored) == (0, 0)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="population must be at least 1, got 0"):
        Evolution(TINY, tiny_cost, (30, 100), population=0)
    with pytest.raises(ValueError, match="generations must be at least 1, got 0"):
        Evolution(TINY, tiny_cost, (30, 100), generations=0)
    for band in ((100, 30), (np.nan, 30)):
        with pytest.raises(ValueError, match="a band goes from its least to its most"):
            Evolution(TINY, tiny_cost, band)


def test_the_smallest_population_is_a_walk_uphill():
    evolution = Evolution(TINY, tiny_cost, (30, 100), population=1, generations=6)
    asked, best = recorded(evolution, lambda members: [float(widths[4]) for widths in members])
    assert len(asked) == 6
    assert best[4] == max(widths[4] for [widths] in asked)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", rest_exhaustive(range(3), (0).__eq__))
def test_it_finds_the_best_there_is_where_drawing_as_many_does_not(unet, seed):
    """The best is known: to be near one member of the band."""
    channels, space = unet
    band = band_of(channels, 0.2, 0.22)
    wanted = Evolution(space, macs(channels), band, population=1, seed=100 + seed).newcomers()[0]

    def nearness(members):
        return [-float(np.abs((widths - wanted) / channels.full_widths()).sum()) for widths in members]

    evolution = Evolution(space, macs(channels), band, population=50, generations=20, seed=seed)
    evolve(evolution, nearness)
    drawn = Evolution(space, macs(channels), band, population=1000, seed=seed).newcomers()
    assert len(drawn) == evolution.scored == 1000
    assert evolution.best_score == 0 > -1 > max(nearness(drawn))
    assert evolution.history[0] < evolution.history[4] < evolution.history[-1]
