"""What a profile says of cuts that nobody ran, and what a fit to whole networks says of a profile."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.latency.devices import with_times
from ganshrink.latency.layers import layers_of
from ganshrink.latency.profiles import DeviceProfile, fit_times, same_layers
from ganshrink.pruning import Budget, Channels, Plan, add_affine, extract
from ganshrink.pruning.allocate import bisect_threshold, share_of_each
from ganshrink.pruning.folding import folded_copy
from made_up_device import formula, profile_of
from telling import rest_exhaustive

IMAGE = torch.zeros(1, 3, 32, 64)
NETS = {
    "resnet": ("resnet9", {"blocks": 2}),
    "U-Net": ("unet256", {"downs": 5}),
    "depthwise": ("mobile_resnet9", {"blocks": 2}),
    "branches": ("incres9", {"ngf": 12, "blocks": 1}),
}
Made = tuple[nn.Module, Channels, DeviceProfile]


@pytest.fixture(scope="module", params=rest_exhaustive(NETS, "U-Net".__eq__))
def made(request) -> Made:
    name, options = NETS[request.param]
    torch.manual_seed(0)
    network = nets.build(name, **({"ngf": 8} | options)).eval()
    return network, trace(network, IMAGE), profile_of(network, [IMAGE])


@pytest.fixture(scope="module")
def branches() -> Made:
    network = nets.build("incres9", ngf=12, blocks=1).eval()
    return network, trace(network, IMAGE), profile_of(network, [IMAGE])


def between(x: float, grid: list[int], values: list[float]) -> float:
    """On the line between the two widths around x."""
    if x <= grid[0]:
        return values[0]
    at = next(i for i, width in enumerate(grid) if width >= x)
    share = (x - grid[at - 1]) / (grid[at] - grid[at - 1])
    return values[at - 1] + share * (values[at] - values[at - 1])


def by_hand(profile: DeviceProfile, student: nn.Module, image: Tensor = IMAGE) -> tuple[float, float]:
    """What the layers of a network that is there take alone, and how many numbers they make."""
    alone, numbers = 0.0, 0.0
    table = {(weight, times.shape.size): times for times in profile.layer for weight in times.weights}
    for layer in layers_of(student, [image]):
        times, step = table[layer.weight, layer.shape.size], profile.step
        inside, outside = (
            width if width < step else min(grid[-1], -(-width // step) * step)
            for width, grid in ((layer.inside, times.inside), (layer.outside, times.outside))
        )
        alone += between(
            outside, times.outside,
            [between(inside, times.inside, [row[i] for row in times.ms]) for i in range(len(times.outside))],
        )  # fmt: skip
        numbers += outside * np.prod(layer.shape.made)
    return alone, numbers


def check(profile: DeviceProfile, network: nn.Module, channels: Channels, plan: Plan) -> None:
    times, widths, fit = profile.times(), channels.widths(plan), profile.fit
    alone, numbers = by_hand(profile, extract(network, channels, plan))
    assert times.sums(channels, widths) == pytest.approx((alone, numbers))
    expected = fit.layers * alone + fit.nanoseconds * numbers / 1e6 + fit.constant
    assert times(channels, widths) == pytest.approx(expected)
    assert sum(times.by_weight(channels, widths).values()) == pytest.approx(expected - fit.constant)


@pytest.mark.slow
@pytest.mark.parametrize("removed", [0.0, 0.2, 0.55, 0.9])
def test_a_cut_takes_what_its_layers_take(made: Made, removed: float) -> None:
    network, channels, profile = made
    check(profile, network, channels, Plan.random(channels, removed))


@pytest.mark.parametrize("seed", rest_exhaustive([0, 1, 2], (0).__eq__))
def test_so_do_cuts_of_other_widths_in_every_layer(made: Made, seed: int) -> None:
    network, channels, profile = made
    rng = np.random.default_rng(seed)
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in channels.groups:
        if group.frozen is None:
            keep[group.atoms[rng.integers(1, len(group) + 1) :]] = False
    check(profile, network, channels, Plan(keep))


def without(channels: Channels, *names: str) -> Plan:
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in channels.groups:
        if group.name in names:
            assert group.removable
            keep[group.atoms] = False
    return Plan(keep)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_removed_branches_take_no_time(branches: Made) -> None:
    network, channels, profile = branches
    removable = [group.name for group in channels.groups if group.removable]
    plan = without(channels, removable[0], removable[-1])
    check(profile, network, channels, plan)
    assert profile.times()(channels, channels.widths(plan)) < profile.times()(
        channels, channels.full_widths()
    )
    check(profile, network, channels, without(channels, *removable))


def test_wider_is_never_faster(made: Made) -> None:
    _, channels, profile = made
    ms = [  # as noise leaves them
        {"ms": [[t * (1 + 0.3 * np.sin(9 * i + 5 * j)) for j, t in enumerate(row)] for i, row in enumerate(one.ms)]}
        for one in profile.layer
    ]  # fmt: skip
    noisy = [one.model_copy(update=times) for one, times in zip(profile.layer, ms, strict=True)]
    times = profile.model_copy(update={"layer": noisy}).times()
    rng = np.random.default_rng(0)
    full = channels.full_widths()
    free = [number for number, group in enumerate(channels.groups) if group.frozen is None]
    for _ in range(3):
        widths = full.copy()
        widths[free] = [1 if not channels.groups[number].removable else 0 for number in free]
        before = times(channels, widths)
        while (left := [number for number in free if widths[number] < full[number]]) != []:
            number = rng.choice(left)
            widths[number] = min(full[number], widths[number] + rng.integers(1, 1 + full[number]))
            now = times(channels, widths)
            assert now >= before - 1e-12
            before = now


def test_widths_between_multiples_take_as_long_as_the_next_one() -> None:
    network = nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 3, 3)).eval()
    channels = trace(network, IMAGE)
    times = profile_of(network, [IMAGE], step=16).times()
    (free,) = [number for number, group in enumerate(channels.groups) if group.frozen is None]

    def at(width: int) -> float:
        widths = channels.full_widths()
        widths[free] = width
        return times(channels, widths)

    assert at(1) < at(15) < at(16) < at(17) == at(32) < at(33) == at(40)


@pytest.mark.slow
def test_a_finer_step_reaches_faster_networks() -> None:
    """What `allowance` counts on where no network of liked widths is fast enough: half as wide as a step is faster, if not
    by half."""
    network = nets.build("resnet9", ngf=32, blocks=1).eval()
    channels = trace(network, IMAGE)
    budget = with_times(
        Budget.parse("latency=0.01ms@phone.toml"), profile_of(network, [IMAGE], step=16), channels
    )
    floors = []
    for step in (16, 8):
        with pytest.raises(ValueError, match="smallest reachable cost") as told:
            bisect_threshold(channels, torch.zeros(channels.num_atoms), budget, round_to=step)
        floors.append(float(re.findall(r"latency=([\d.]+)ms", str(told.value))[-1]))
    assert floors[1] < floors[0]


def test_every_call_of_a_shared_layer_counts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.last = nn.Conv2d(8, 3, 3, padding=1)

        def forward(self, x):
            h = self.shared(torch.relu(self.shared(torch.relu(self.first(x)))))
            return self.last(nn.functional.avg_pool2d(h, 2)) + self.last(h).mean()  # and of two sizes

    network = Twice().eval()
    channels, profile = trace(network, IMAGE), profile_of(network, [IMAGE])
    check(profile, network, channels, Plan.random(channels, 0.5))
    whole = profile.times().by_weight(channels, channels.full_widths())
    assert set(whole) == {"first.weight", "shared.weight", "last.weight"}
    numbers = 8 * 32 * 64
    once = formula(layers_of(network, [IMAGE])[1].shape, 8, 8)
    assert whole["shared.weight"] == pytest.approx(2 * (0.8 * once + 0.3 * numbers / 1e6))


# The same network, prepared


@pytest.mark.slow
def test_prepared_copies_are_the_same_network(made: Made) -> None:
    """Methods give norms scales, and fold parametrizations, before they cut."""
    network, channels, profile = made
    plan = share_of_each(channels, 0.5)
    expected = profile.times()(channels, channels.widths(plan))
    copy = folded_copy(add_affine(network))
    assert same_layers(profile, layers_of(copy, [IMAGE]))
    traced = trace(copy, IMAGE)
    assert profile.times()(traced, traced.widths(share_of_each(traced, 0.5))) == pytest.approx(expected)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_narrower_network_is_a_cut_of_the_whole_one(made: Made) -> None:
    network, channels, profile = made
    times = profile.times()
    first = share_of_each(channels, 0.75)
    narrow = extract(network, channels, first).eval()
    inner = trace(narrow, IMAGE)
    assert times(inner, inner.full_widths()) == pytest.approx(times(channels, channels.widths(first)))
    second = Plan.random(inner, 0.4)
    whole = second.whole(inner, channels, first)
    assert times(inner, inner.widths(second)) == pytest.approx(times(channels, channels.widths(whole)))
    check(profile, narrow, inner, second)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_network_without_a_branch_is_a_cut_of_the_whole_one(branches: Made) -> None:
    network, channels, profile = branches
    plan = without(channels, next(group.name for group in channels.groups if group.removable))
    inner = trace(extract(network, channels, plan).eval(), IMAGE)
    times = profile.times()
    assert times(inner, inner.full_widths()) == pytest.approx(times(channels, channels.widths(plan)))


def test_other_networks_and_sizes_are_told_apart(made: Made) -> None:
    network, channels, profile = made
    assert same_layers(profile, layers_of(network, [IMAGE]))
    assert not same_layers(profile, layers_of(network, [torch.zeros(1, 3, 64, 64)]))
    assert not same_layers(
        profile, layers_of(extract(network, channels, share_of_each(channels, 0.5)), [IMAGE])
    )
    assert not same_layers(profile, layers_of(nn.Sequential(network, nn.Conv2d(3, 3, 1)), [IMAGE]))


# From whole networks to factors

sizes = st.lists(
    st.tuples(*[st.floats(0.01, 100)] * 3), min_size=3, max_size=6
)  # alone, millions of numbers, measured


@given(
    factors=st.tuples(st.floats(0.1, 3), st.floats(0, 5), st.floats(0, 2)),
    shares=st.lists(st.floats(0.05, 1), min_size=4, max_size=6, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_known_factors_are_found(factors: tuple, shares: list[float]) -> None:
    alone = [20 * share**2 for share in shares]
    made = [4e6 * share for share in shares]
    layers, nanoseconds, constant = factors
    measured = [layers * a + nanoseconds * m / 1e6 + constant for a, m in zip(alone, made, strict=True)]
    fit = fit_times(alone, made, measured)
    assert fit.off_by < 1e-6
    again = [
        fit.layers * a + fit.nanoseconds * m / 1e6 + fit.constant for a, m in zip(alone, made, strict=True)
    ]
    assert again == pytest.approx(measured)
    if min(abs(a - b) for a in shares for b in shares if a != b) > 0.02:  # else they hardly differ
        assert (fit.layers, fit.nanoseconds, fit.constant) == pytest.approx(factors, rel=1e-3, abs=1e-3)


@given(seen=sizes)
@settings(max_examples=60, deadline=None)
def test_factors_are_the_best_that_are_not_negative(seen: list) -> None:
    """Where the slope of the error says that a factor should go on, it is 0 and would become negative."""
    alone, millions, measured = (np.array(column) for column in zip(*seen, strict=True))
    fit = fit_times(alone, millions * 1e6, measured)
    factors = np.array([fit.layers, fit.nanoseconds, fit.constant])
    assert (factors >= 0).all()
    columns = np.stack([alone, millions, np.ones(len(seen))], axis=1) / measured[:, None]
    error = columns @ factors - 1
    assert fit.off_by == pytest.approx(abs(error).max())
    slope = columns.T @ error / np.sqrt((columns**2).sum(axis=0))
    assert (slope >= -1e-6).all()
    assert abs(slope[factors > 0]).max(initial=0) < 1e-6
