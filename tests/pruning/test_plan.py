"""Plans as JSON that a person can read."""

import copy
import json

import pytest
import torch
from topologies import CASES

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract
from telling import rest_exhaustive


@pytest.fixture(scope="module")
def channels():
    torch.manual_seed(0)
    return trace(nets.build("incres9", ngf=6, blocks=1), torch.randn(1, 3, 16, 16))


@pytest.mark.slow
def test_random_removes_the_fraction_of_every_free_group_and_keeps_one(channels):
    for removed in (0.0, 0.5, 0.99):
        plan = Plan.random(channels, removed, seed=3)
        for group in channels.groups:
            kept = int(plan.keep[group.atoms].sum())
            expected = max(1, len(group) - round(removed * len(group)))
            assert kept == (len(group) if group.frozen else expected)
    assert Plan.random(channels, 0.5, seed=1) != Plan.random(channels, 0.5, seed=2)
    assert Plan.random(channels, 0.5, seed=1) == Plan.random(channels, 0.5, seed=1)
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        Plan.random(channels, 2)


def test_round_trip(channels):
    for seed in range(3):
        plan = Plan.random(channels, 0.6, seed=seed)
        text = json.dumps(plan.to_json(channels))
        assert Plan.from_json(channels, json.loads(text)) == plan


@pytest.mark.parametrize(
    "name", ["learned constant", "glu by chunk", "grouped", "tied weights", "scaled weights"]
)
def test_round_trip_of_unusual_networks(name):
    torch.manual_seed(0)
    case = CASES[name]
    channels = trace(case.make(), *(torch.randn(s) for s in case.shapes))
    plan = Plan.random(channels, 0.5)
    assert Plan.from_json(channels, plan.to_json(channels)) == plan


def test_it_reads_like_the_network(channels):
    plan = Plan.random(channels, 0.5)
    obj = plan.to_json(channels, basis=dict.fromkeys((g.name for g in channels.groups), "norm scale"))
    first = next(entry for entry in obj["layers"] if entry["path"] == "down.1")
    atoms = next(g for g in channels.groups if g.name == "down.1").atoms
    assert first == {
        "path": "down.1",
        "axis": "out",
        "kept": plan.keep[atoms].nonzero()[:, 0].tolist(),
        "of": 6,
    }
    groups = {entry["name"]: entry for entry in obj["groups"]}
    assert groups["down.7"] == {
        "name": "down.7",
        "kept": 12,
        "of": 24,
        "removable": False,
        "frozen": None,
        "basis": "norm scale",
    }
    assert groups["blocks.0.body.0.branches.0.0"]["removable"]
    assert "output" in groups["up.7"]["frozen"]


def broken(obj, change):
    obj = copy.deepcopy(obj)
    change({entry["path"]: entry for entry in obj["layers"]}, obj["layers"])
    return obj


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda by, all: by["down.4"].update(of=99),
            "layer down.4 has 12 channels, the plan was made for 99",
        ),
        (lambda by, all: by["down.4"].update(kept=[0, 77]), "layer down.4: kept must list"),
        (lambda by, all: all.remove(by["up.0"]), "nothing about layer up.0"),
        (
            lambda by, all: all.append({"path": "up.99", "axis": "out", "kept": [], "of": 1}),
            "up.99, which this",
        ),
        (lambda by, all: by["blocks.0.body.0.branches.0.3"].update(kept=[0]), "layer blocks.0.* contradicts"),
        (lambda by, all: by["up.7"].update(kept=[0]), "up.7, which is frozen"),
        (lambda by, all: by["down.1"].update(kept=[]), "no channel of down.1"),
    ],
)
def test_a_plan_for_another_network_is_refused_by_layer(channels, change, problem):
    obj = Plan.random(channels, 0.5).to_json(channels)
    with pytest.raises(ValueError, match=problem):
        Plan.from_json(channels, broken(obj, change))


def test_what_is_no_plan_is_refused(channels):
    with pytest.raises(ValueError, match="a list named 'layers'"):
        Plan.from_json(channels, {"kept": []})
    with pytest.raises(ValueError, match="vector of booleans"):
        Plan(torch.ones(3))
    with pytest.raises(ValueError, match="the plan has 3 atoms"):
        channels.cost(Plan(torch.ones(3, dtype=torch.bool)))


def empty(channels, plan, removable):
    """The plan without what may go as a whole; of `removable` every other group."""
    keep = plan.keep.clone()
    for group in [g for g in channels.groups if g.removable][::removable]:
        keep[group.atoms] = False
    return Plan(keep)


NETWORKS = {
    "incres9": lambda: nets.build("incres9", ngf=6, blocks=1),
    "unet256": lambda: nets.build("unet256", ngf=4, downs=5),
    **{name: CASES[name].make for name in ("glu by chunk", "grouped", "depthwise", "tied weights")},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(NETWORKS, {"grouped", "tied weights"}.__contains__))
def test_two_cuts_after_each_other_are_one(name):
    """Branches that the first one removes, or the second, included."""
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    shapes = CASES[name].shapes if name in CASES else [(1, 3, 32, 32)]
    example = [torch.randn(shape) for shape in shapes]
    channels = trace(model, *example)
    first = empty(channels, Plan.random(channels, 0.4, seed=1), removable=3)
    small = extract(model, channels, first)
    inner = trace(small, *example)
    assert Plan.full(inner).whole(inner, channels, first) == first
    second = empty(inner, Plan.random(inner, 0.4, seed=2), removable=2)
    whole = second.whole(inner, channels, first)
    assert whole.keep.sum() < first.keep.sum() < channels.num_atoms
    assert channels.cost(whole) == inner.cost(second)
    twice, once = extract(small, inner, second).state_dict(), extract(model, channels, whole).state_dict()
    assert twice.keys() == once.keys()
    assert all(torch.equal(twice[key], once[key]) for key in once)


def test_a_plan_of_the_network_itself_is_whole_already(channels):
    plan = Plan.random(channels, 0.5)
    assert plan.whole(channels, channels, Plan.full(channels)) == plan
