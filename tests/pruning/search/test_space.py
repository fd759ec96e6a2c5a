"""Subnets of a network: which there are, how they nest, and how one is drawn, changed and crossed with another."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.search.space import Space, space_of

SMALL = Space(
    choices=((2, 4, 6), (3,), (1, 2), (1, 2), (1, 2), (5, 10)), sites=((2, 3, 4),)
)  # one site of three blocks


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    model = nets.build("resnet6", ngf=8)
    channels = trace(model, torch.randn(1, 3, 16, 24))
    blocks = [number for number, group in enumerate(channels.groups) if group.removable]
    return model, channels, space_of(channels, steps=4, sites=(blocks[:4],))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two_layers(width):
    return trace(nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, 1)), torch.randn(1, 3, 4, 4))


def members(space):
    """All of them, by trying every combination of widths."""
    widths = product(*((0, *choices) for choices in space.choices))
    return [w for w in (np.array(w, np.int64) for w in widths) if w in space]


def same(a, b):
    return a.shape == b.shape and bool((a == b).all())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (3, 5, 8, 10, 13, 15, 18, 20)),
        ({"steps": 4}, (5, 10, 15, 20)),
        ({"steps": 1}, (20,)),
        ({"steps": 50}, tuple(range(1, 21))),
        ({"least": 9}, (9, 10, 13, 15, 18, 20)),
        ({"least": 30}, (20,)),
        ({"round_to": 8}, (8, 16, 20)),
        ({"round_to": 8, "least": 9}, (16, 20)),
    ],
)
def test_widths_are_parts_of_the_full_width_rounded_up(settings, expected):
    channels = two_layers(20)
    choices = space_of(channels, **settings).choices
    assert [c for c, g in zip(choices, channels.groups, strict=True) if g.frozen is None] == [expected]
    assert {c for c, g in zip(choices, channels.groups, strict=True) if g.frozen is not None} == {(3,)}


@pytest.mark.slow
def test_at_base_width_64_they_are_the_papers():
    channels = trace(nets.build("resnet6", ngf=64), torch.zeros(1, 3, 16, 16))
    names = {
        group.name: choices
        for group, choices in zip(channels.groups, space_of(channels).choices, strict=True)
    }
    assert names["down.1"] == tuple(range(8, 65, 8))
    assert names["down.4"] == tuple(range(16, 129, 16))
    assert names["down.7"] == tuple(range(32, 257, 32))


@pytest.mark.slow
def test_the_ends_of_a_space(resnet):
    _, channels, space = resnet
    assert space.plan(channels, space.largest()) == Plan.full(channels)
    smallest = space.smallest()
    assert space.depths(smallest).tolist() == [0]
    at_site = space.sites[0]
    for number, (group, width) in enumerate(zip(channels.groups, smallest, strict=True)):
        expected = len(group) if group.frozen is not None else 0 if number in at_site else len(group) // 4
        assert width == expected
    assert space.largest() in space
    assert smallest in space


def test_a_small_space_has_the_members_that_can_be_counted():
    found = members(SMALL)
    assert len(found) == 3 * 2 * (1 + 2 + 4 + 8)  # by depth, the widths of the blocks that run
    assert len(members(SMALL.shallow())) == 3 * 2
    assert len(members(SMALL.deep())) == 3 * 2 * 8


@pytest.mark.parametrize("space", [SMALL, SMALL.shallow(), SMALL.deep(), replace(SMALL, sites=())])
def test_drawing_is_uniform_in_widths_and_depths(space, rng):
    drawn = np.stack([space.random(rng) for _ in range(2000)])
    assert all(widths in space for widths in drawn)
    allowed = {"any": [0, 1, 2, 3], "none": [0], "full": [3]}[space.depth] if space.sites else []
    depths = np.array([space.depths(widths)[0] for widths in drawn]) if space.sites else np.zeros(2000)
    for depth in allowed:
        assert abs((depths == depth).mean() - 1 / len(allowed)) < 0.05
    for group, choices in enumerate(space.choices):
        alive = drawn[drawn[:, group] > 0, group]
        if len(alive):
            shares = [(alive == choice).mean() for choice in choices]
            assert np.allclose(shares, 1 / len(choices), atol=0.06)


def test_drawing_fairly_takes_each_width_and_depth_once_in_a_round():
    space, steps = SMALL, 24
    drawn = [space.fair(3, step) for step in range(steps)]
    assert all(widths in space for widths in drawn)
    for site, blocks in enumerate(space.sites):
        depths = [int(space.depths(widths)[site]) for widths in drawn]
        options = len(blocks) + 1
        for start in range(0, steps - options + 1, options):
            assert sorted(depths[start : start + options]) == list(range(options))
    inside = {number for site in space.sites for number in site}
    for number in set(range(len(space.choices))) - inside:
        widths, choices = [int(each[number]) for each in drawn], space.choices[number]
        for start in range(0, steps - len(choices) + 1, len(choices)):
            assert sorted(widths[start : start + len(choices)]) == sorted(choices)
    assert not np.array_equal(drawn, [space.fair(4, step) for step in range(steps)])


def test_what_is_no_member(resnet):
    _, channels, space = resnet
    whole, site = space.largest(), space.sites[0]

    def with_width(width, *groups):
        widths = whole.copy()
        widths[list(groups)] = width
        return widths

    free = next(n for n, g in enumerate(channels.groups) if g.frozen is None and not g.removable)
    elsewhere = next(n for n, g in enumerate(channels.groups) if g.removable and n not in site)
    assert with_width(0, site[-1]) in space
    assert with_width(0, *site[1:]) in space
    assert with_width(0, site[0]) not in space  # a block before those that run
    assert with_width(0, elsewhere) not in space  # it could be removed, but is at no site
    assert with_width(1, free) not in space  # not one of its widths
    assert whole[:-1] not in space


def test_a_plan_keeps_the_first_channels_so_that_subnets_nest(resnet, rng):
    _, channels, space = resnet
    for _ in range(20):
        one, other = space.random(rng), space.random(rng)
        small, large = space.plan(channels, np.minimum(one, other)), space.plan(channels, one)
        assert not (small.keep & ~large.keep).any()
        for group, width in zip(channels.groups, one, strict=True):
            assert large.keep[group.atoms].tolist() == [i < width for i in range(len(group))]


def test_costs_at_widths_are_those_of_the_plan(resnet, rng):
    _, channels, space = resnet
    for _ in range(20):
        widths = space.random(rng)
        plan = space.plan(channels, widths)
        assert same(channels.widths(plan), widths)
        for convention in ("exact", "paper"):
            assert channels.cost_at(widths, convention) == channels.cost(plan, convention)


def test_a_member_can_be_cut_out_and_its_absent_blocks_are_gone(resnet):
    model, channels, space = resnet
    widths = space.smallest()
    widths[space.sites[0][0]] = space.choices[space.sites[0][0]][1]
    small = extract(model, channels, space.plan(channels, widths))
    assert sum(p.numel() for p in small.parameters()) == channels.cost_at(widths).params
    names = [channels.groups[number].name for number in space.sites[0]]
    parameters = {name for name, _ in small.named_parameters()}
    assert [any(p.startswith(name) for p in parameters) for name in names] == [True, False, False, False]


def test_widths_of_another_network_make_no_plan(resnet):
    _, channels, space = resnet
    too_wide = space.largest()
    too_wide[0] += 1
    for widths in (too_wide, -space.largest(), space.largest()[1:]):
        with pytest.raises(ValueError, match="widths must be 13 numbers"):
            space.plan(channels, widths)


@pytest.mark.parametrize("space", [SMALL, SMALL.shallow(), SMALL.deep()])
def test_a_mutation_draws_about_a_share_anew(space, rng):
    start = space.random(rng)
    assert same(space.mutated(start, rng, 0.0), start)
    children = np.stack([space.mutated(start, rng, 0.5) for _ in range(2000)])
    assert all(child in space for child in children)
    assert abs((children[:, 0] != start[0]).mean() - 0.5 * 2 / 3) < 0.05  # one of three draws gives the same
    if space.depth == "any":
        moved = np.array([space.depths(child)[0] != space.depths(start)[0] for child in children])
        assert abs(moved.mean() - 0.5 * 3 / 4) < 0.05


def test_a_crossover_takes_each_group_from_either_and_a_site_from_one(rng):
    for _ in range(200):
        a, b = SMALL.random(rng), SMALL.random(rng)
        child = SMALL.crossed(a, b, rng)
        assert child in SMALL
        assert ((child == a) | (child == b)).all()
        blocks = list(SMALL.sites[0])
        assert same(child[blocks], a[blocks]) or same(child[blocks], b[blocks])
    a, b = SMALL.smallest(), SMALL.largest()
    children = {tuple(SMALL.crossed(a, b, rng).tolist()) for _ in range(200)}
    assert len(children) == 2 * 2 * 2  # two groups with a choice, and the site


def test_moves_are_all_members_next_to_one(rng):
    def steps(a, b):
        """By how many choices each group differs, and each site in depth; None if a block's width changed with the depth."""
        places = [0 if w == 0 else choices.index(w) for w, choices in zip(a, SMALL.choices, strict=True)]
        others = [0 if w == 0 else choices.index(w) for w, choices in zip(b, SMALL.choices, strict=True)]
        deeper = int(SMALL.depths(b)[0] - SMALL.depths(a)[0])
        both = [(p, q) for p, q, x, y in zip(places, others, a, b, strict=True) if x and y]
        return [q - p for p, q in both if q != p] + ([deeper] if deeper else [])

    every = members(SMALL)
    for start in every:
        for larger, step in ((True, 1), (False, -1)):
            moved = list(SMALL.moves(start, rng, larger=larger))
            assert all(m in SMALL for m in moved)
            nearby = {tuple(m.tolist()) for m in every if steps(start, m) == [step]}
            found = {tuple(m.tolist()) for m in moved}
            assert found <= nearby
            assert len(found) == len(moved)
            # of the widths that a new block may have, one is drawn
            grown = [m for m in nearby if SMALL.depths(np.array(m))[0] > SMALL.depths(start)[0]]
            assert len(nearby) - len(found) == max(0, len(grown) - 1)
    orders = {
        tuple(tuple(m.tolist()) for m in SMALL.moves(SMALL.smallest(), rng, larger=True)) for _ in range(20)
    }
    assert len(orders) > 2


def test_between_the_ends_nothing_shrinks_as_the_share_grows(rng):
    for space in (SMALL, SMALL.shallow(), SMALL.deep()):
        exponents = np.exp(rng.normal(size=len(space.choices) + 1))
        way = [space.between(share, exponents) for share in np.linspace(0, 1, 101)]
        assert same(way[0], space.smallest())
        assert same(way[-1], space.largest())
        assert all(widths in space for widths in way)
        assert all((a <= b).all() for a, b in zip(way, way[1:], strict=False))
        assert len({widths.tobytes() for widths in way}) > 3


def test_smaller_spaces_for_teachers():
    shallow, deep = SMALL.shallow(), SMALL.deep()
    assert same(shallow.smallest(), SMALL.smallest())
    assert same(deep.largest(), SMALL.largest())
    assert shallow.largest().tolist() == [6, 3, 0, 0, 0, 10]
    assert deep.smallest().tolist() == [2, 3, 1, 1, 1, 5]
    assert all(widths in SMALL for widths in members(shallow) + members(deep))


def test_narrower_limits_groups_but_not_the_blocks_of_sites():
    widths = np.array([2, 3, 1, 0, 0, 5])
    narrow = SMALL.narrower(widths, 1.5)
    assert narrow.choices == ((2, 4), (3,), (1, 2), (1, 2), (1, 2), (5, 10))  # 3 -> 4, 7.5 -> 10
    assert SMALL.narrower(widths, 1.0).choices == ((2,), (3,), (1, 2), (1, 2), (1, 2), (5,))
    assert SMALL.narrower(SMALL.largest(), 3).choices == SMALL.choices
    assert narrow.deep() == SMALL.deep().narrower(widths, 1.5)
    fifty = Space(((50, 55, 60),))
    assert fifty.narrower(np.array([50]), 1.1).choices == ((50, 55),)  # though 1.1 * 50 is above 55 in floats


@pytest.mark.parametrize(
    ("sites", "problem"),
    [
        ([["down.7"]], "down.7.*no module goes with it"),
        ([["input"]], "cannot be a block of varying depth, it is frozen"),
        ([[3], [4, 3]], "is a block of varying depth twice"),
        ([[99]], "a site has group 99; the network's are 0 to 12"),
    ],
)
def test_sites_that_cannot_be(resnet, sites, problem):
    _, channels, _ = resnet
    frozen = next(n for n, g in enumerate(channels.groups) if g.frozen is not None)
    by_name = {g.name: n for n, g in enumerate(channels.groups)} | {"input": frozen}
    numbers = [[by_name.get(entry, entry) for entry in site] for site in sites]
    with pytest.raises(ValueError, match=problem):
        space_of(channels, sites=numbers)


def test_settings_and_networks_without_subnets_are_refused():
    for name in ("steps", "least", "round_to"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            space_of(two_layers(8), **{name: 0})
    frozen = trace(nn.Conv2d(3, 3, 1), torch.randn(1, 3, 4, 4))
    with pytest.raises(ValueError, match="no channel of this generator may be cut"):
        space_of(frozen)
