"""DMAD's search: Eqs. 4 to 6 against loops over layers and channels, and when it stops."""

import copy
import logging
import math
import re

import pytest
import torch
from tiny_slimming import EXAMPLE, generator
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.methods.dmad.search import MaskSearch, SearchConfig, group_weights, sparsity_loss
from ganshrink.pruning import Budget, add_affine, extract
from ganshrink.pruning.search.masks import Masks, boundary_at, maskable
from telling import rest_exhaustive

# ---- Eq. 4


def test_the_boundary_falls_with_the_cube_root():
    values = [boundary_at(step, 1000) for step in range(1001)]
    assert values == pytest.approx([1 - math.pow(step / 1000, 1 / 3) for step in range(1001)])
    assert values[0] == 1
    assert values[-1] == boundary_at(5000, 1000) == 0


def test_the_released_boundary_moves_once_an_epoch_of_two_hundred():
    per_epoch, end = 1000, 150 * 1000  # 75 % of 200 epochs of batches of one
    values = [boundary_at(step, end, moves=150) for step in range(0, 200 * per_epoch, 100)]
    for epoch, wanted in {0: 1, 1: 0.812, 50: 0.307, 100: 0.126, 149: 0.002, 150: 0, 199: 0}.items():
        assert values[10 * epoch : 10 * epoch + 10] == pytest.approx([wanted] * 10, abs=5e-4)
    assert all(late <= early for early, late in zip(values, values[1:], strict=False))
    assert len(set(values)) == 151


def test_fewer_steps_than_moves_go_all_the_way_too():
    values = [boundary_at(step, 7, moves=150) for step in range(9)]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert values[7:] == [0, 0]


# ---- Eq. 6


@pytest.fixture(scope="module")
def resnet9():
    torch.manual_seed(0)
    model = add_affine(nets.build("resnet9", ngf=4))
    return model, maskable(trace(model, torch.randn(1, 3, 32, 32)))


@pytest.fixture
def masks(resnet9):
    torch.manual_seed(1)
    model, channels = resnet9
    return Masks(copy.deepcopy(model), channels)


def members(masks, channel):
    """Where the ten masks of a trunk channel are."""
    trunk = next(group for group in masks.channels.groups if len(group.producers) == 10)
    found = torch.from_numpy(masks.atoms == int(trunk.atoms[channel])).nonzero().flatten()
    assert len(found) == 10
    return found


DEAD, BAND, ONE = -2.0, 0.1, 2.0
GROUPS = [  # a trunk channel's inputs at boundary 0.9, its weight under the paper's rule and the code's
    ([BAND] * 10, 1, 1),
    ([DEAD] * 5 + [BAND] * 5, 2, 2),
    ([DEAD] * 9 + [BAND], 10, 10),
    ([DEAD] * 3 + [BAND] * 6 + [ONE], 10 / 7, 0),
    ([DEAD] * 9 + [ONE], 10, 0),
    ([ONE] * 10, 1, 0),
    ([DEAD] * 10, 0, 0),
]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 2.0, 5.0])
@pytest.mark.parametrize(("rule", "column"), [("paper", 1), ("code", 2)])
def test_the_weight_of_a_channel_in_a_sum(masks, rule, column, factor):
    with torch.no_grad():
        for channel, case in enumerate(GROUPS):
            masks.inputs[members(masks, channel)] = torch.tensor(case[0])
    masks.move(0.9)
    weights = group_weights(masks, rule=rule, weight=factor)
    for channel, case in enumerate(GROUPS):
        wanted = torch.full((10,), factor * case[column])
        torch.testing.assert_close(weights[members(masks, channel)], wanted)
    trunk = torch.cat([members(masks, channel) for channel in range(16)])
    single = torch.ones(len(weights), dtype=torch.bool)
    single[trunk] = False
    assert (weights[single] == 1).all()
    assert (group_weights(masks, rule="none") == 1).all()


# ---- Eq. 5


def drawn(masks):
    """Some settled at either end, some past the boundary since, the others between."""
    with torch.no_grad():
        masks.inputs.copy_(
            torch.where(masks.settled == 0, torch.randn(len(masks.inputs)) * 0.6, masks.inputs)
        )
    masks.move(0.8)
    with torch.no_grad():
        free = masks.settled == 0
        masks.inputs.copy_(torch.where(free, torch.randn(len(masks.inputs)) * 0.5, masks.inputs))
    return masks


def naive(masks, config, boundary):
    """The loss and its gradient, in a loop over layers and channels."""
    p, settled = masks.inputs.tolist(), masks.settled.tolist()
    total, slopes = 0.0, [0.0] * len(p)
    of = {}
    for group in masks.channels.groups:
        for atom in group.atoms.tolist():
            of[atom] = group
    for layer in masks.layers:
        soft = [j for j in range(layer.start, layer.stop) if settled[j] == 0 and -boundary < p[j] < boundary]
        groups = [of[int(masks.atoms[j])] for j in range(layer.start, layer.stop)]
        outer = all(len(group.producers) == 1 and not group.removable for group in groups)
        if outer and config.polarise:
            norm = math.sqrt(sum((boundary - abs(p[j])) ** 2 for j in soft))
            total += config.polarise * norm
            for j in soft:
                slopes[j] = -config.polarise * math.copysign(boundary - abs(p[j]), p[j]) / norm
            continue
        for j in soft:
            same = [i for i in range(len(p)) if masks.atoms[i] == masks.atoms[j]]
            alive = [i for i in same if p[i] > -boundary]
            weight = len(same) / len(alive) if len(same) > 1 else 1
            if config.group_sparsity == "code" and len(same) > 1 and any(settled[i] == 1 for i in same):
                weight = 0
            if len(same) > 1:
                weight *= config.group_weight
            total += weight * abs(p[j] + boundary)
            slopes[j] = weight
    return total, slopes


@pytest.mark.parametrize("polarise", [0.0, 100.0])
@pytest.mark.parametrize(("rule", "factor"), [("paper", 1.0), ("code", 5.0)])
def test_the_sparsity_loss_is_a_sum_over_what_is_between_the_boundaries(masks, rule, factor, polarise):
    masks = drawn(masks)
    config = SearchConfig(lambda_spa=1, group_sparsity=rule, group_weight=factor, polarise=polarise)
    loss = sparsity_loss(masks, config)
    loss.backward()
    total, slopes = naive(masks, config, 0.8)
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(masks.inputs.grad, torch.tensor(slopes), rtol=1e-4, atol=1e-4)
    assert 0.2 < (masks.inputs.grad != 0).float().mean() < 0.9


@pytest.mark.parametrize("polarise", [0.0, 1.0])
def test_nothing_pulls_where_nothing_is_soft(masks, polarise):
    """A norm over nothing has a gradient of 0, not of infinity."""
    config = SearchConfig(lambda_spa=1, polarise=polarise)
    masks = drawn(masks)
    with torch.no_grad():
        layer = next(layer for layer in masks.layers if layer.outer)
        masks.inputs[layer.start : layer.stop] = 3.0
    masks.move(0.7)
    sparsity_loss(masks, config).backward()
    assert masks.inputs.grad.isfinite().all()
    assert not masks.inputs.grad[layer.start : layer.stop].any()
    masks.move(0.0)
    masks.inputs.grad = None
    loss = sparsity_loss(masks, config)
    loss.backward()
    assert loss == 0
    assert not masks.inputs.grad.any()


# ---- the search, with a training that only sets inputs


def search(budget, *, steps=60, floor=1, **settings):
    torch.manual_seed(0)
    model = generator()
    channels = maskable(trace(model, *EXAMPLE))
    config = SearchConfig(**settings)
    masks = Masks(model, channels, floor=floor)
    limits = Budget.parse(budget).resolve(channels)
    return model, MaskSearch("G", masks, limits, config, steps, lambda propose: propose(limits))


def macs(network):
    """Multiply-accumulates, counted while it runs."""
    counts = []

    def count(module, inputs, output):
        at = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        counts.append(at[0, 0].numel() * module.weight.numel())

    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(*EXAMPLE)
    return sum(counts)


def live_macs(model, found):
    masks = found.masks
    folded = generator()
    folded.load_state_dict(model.state_dict())
    return macs(extract(folded, masks.channels, masks.live()))


def one_more_dies(masks, number):
    """Every input at 0.001, but so many of them, in an order of their own, far below."""
    order = torch.randperm(len(masks.inputs), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        masks.inputs.fill_(0.001)
        masks.inputs[order[: number + 1]] = -2.0


@pytest.mark.slow
def test_it_stops_as_soon_as_the_budget_is_met_and_keeps_that_structure(caplog):
    model, found = search("macs=50%")
    allowed = macs(generator()) * 0.5
    with caplog.at_level(logging.INFO):
        for number in range(60):
            one_more_dies(found.masks, number)
            found.step(number)
            if found.met_at is not None:
                break
            assert live_macs(model, found) > allowed
            assert found.masks.boundary == pytest.approx(1 - ((number + 1) / 60) ** (1 / 3))
    assert 5 < found.met_at == number + 1 < 40
    assert live_macs(model, found) <= allowed
    assert f"G meets its budget at step {number + 1} of 60" in caplog.text
    assert found.masks.boundary == 0
    assert (found.masks.settled != 0).all()
    assert found.watch() == {
        "live": pytest.approx(live_macs(model, found) / macs(generator())),
        "boundary": 0,
    }
    plan = found.masks.live()
    for later in range(number + 1, 60):
        with torch.no_grad():
            found.masks.inputs.normal_()
        found.step(later)
        assert found.masks.live() == plan


@pytest.mark.slow
@pytest.mark.parametrize("step", rest_exhaustive([2, 4], (4).__eq__))
def test_widths_are_rounded_down_and_stay_within_the_budget(step):
    model, found = search("macs=50%", round_to=step, floor=step)
    allowed = macs(generator()) * 0.5
    for number in range(60):
        one_more_dies(found.masks, number)
        with torch.no_grad():
            found.masks.inputs += torch.linspace(0, 1e-3, len(found.masks.inputs))
        smallest = found.masks.best_inputs()
        found.step(number)
        if found.met_at is not None:
            break
    plan = found.masks.live()
    assert live_macs(model, found) <= allowed
    for group in found.masks.channels.groups:
        kept = plan.keep[group.atoms]
        assert int(kept.sum()) % step == 0 or kept.all()
        if group.frozen is None and kept.any() and not kept.all():
            assert smallest[group.atoms][kept].min() > smallest[group.atoms][~kept].max()


def test_a_search_that_does_not_arrive_says_what_to_change():
    model, found = search("macs=50%", steps=40, boundary_end=0.5, lambda_spa=0.003)
    with torch.no_grad():
        found.masks.inputs.fill_(0.1)
    for number in range(20):
        assert found.missed() is None
        found.step(number)
    text = found.missed()
    assert text.startswith("G: the masks' boundary reached 0 at step 20 of 40")
    assert "method.search.lambda_spa (now 0.003)" in text and "method.search.boundary_end" in text
    cost, allowed = (float(n) for n in re.search(r"cost macs ([\d.]+)k of ([\d.]+)k", text).groups())
    assert cost * 1000 == macs(generator())
    assert allowed * 1000 == pytest.approx(macs(generator()) / 2, abs=1)
    assert "\n" not in text


def in_order(found, *, low, high, steps):
    """A search that ends with every input where it was, spread evenly between these, in an order of its own."""
    count = len(found.masks.inputs)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    inputs = torch.linspace(low, high, count)[order]
    for number in range(steps):
        with torch.no_grad():
            free = found.masks.settled == 0
            found.masks.inputs.copy_(torch.where(free, inputs, found.masks.inputs))
        found.step(number)
    return inputs


def test_a_missed_budget_is_met_by_the_channels_whose_masks_had_the_largest_inputs(caplog):
    """Though all of them have settled, most long before the end, and each after the other."""
    model, found = search("macs=50%", if_missed="trim")
    inputs = in_order(found, low=-0.05, high=0.6, steps=60)
    assert found.met_at == 60 and found.missed() is None
    cost, allowed = live_macs(model, found), macs(generator()) / 2
    assert 0.8 * allowed < cost <= allowed
    kept, atoms = found.masks.live().keep, torch.from_numpy(found.masks.atoms)
    best = torch.tensor(
        [max(inputs[atoms == atom].tolist(), default=1) for atom in range(found.masks.channels.num_atoms)]
    )
    for group in [group for group in found.masks.channels.groups if group.frozen is None]:
        stays, goes = best[group.atoms][kept[group.atoms]], best[group.atoms][~kept[group.atoms]]
        assert not len(stays) or not len(goes) or stays.min() > goes.max()
    assert "channels left cost macs" in caplog.text and caplog.text.strip().endswith("trim")


def test_a_missed_budget_can_be_accepted():
    model, found = search("macs=50%", if_missed="accept")
    inputs = in_order(found, low=-0.05, high=0.6, steps=60)
    assert found.met_at == 60 and live_macs(model, found) > macs(generator()) / 2
    atoms = torch.from_numpy(found.masks.atoms)
    lives = {int(atom) for atom in atoms[inputs > 0]}
    assert lives == {int(atom) for atom in atoms if found.masks.live().keep[atom]}


@pytest.mark.parametrize("moves", rest_exhaustive([None, 15], [15].__contains__))
def test_a_search_that_is_made_longer_goes_on_where_the_longer_one_would_be(moves):
    """Half of the way through that its boundary is that of the longer one; what settled within it is soft again."""
    _, found = search("macs=5%", steps=60, boundary_moves=moves)
    inputs = in_order(found, low=-0.6, high=0.6, steps=60)
    assert found.missed() is not None
    dead = found.masks.settled < 0
    found.steps = 120
    assert found.missed() is None
    found.step(60)
    boundary = boundary_at(61, 120, moves=moves)
    assert found.masks.boundary == pytest.approx(boundary) and boundary > 0.19
    assert torch.equal(found.masks.settled == 0, (inputs > 0) & (inputs < found.masks.boundary) & ~dead)
    assert (found.masks.settled[dead] == -1).all()
    settled = (found.masks.settled > 0).sum()
    found.step(61)  # and then it closes in as ever
    assert found.masks.boundary == pytest.approx(boundary_at(62, 120, moves=moves))
    assert (found.masks.settled > 0).sum() >= settled


def warnings_in(caplog):
    return [r for r in caplog.records if r.name.startswith("ganshrink") and r.levelno >= logging.WARNING]


@pytest.mark.parametrize("moves", rest_exhaustive([None, 6, 5], [6].__contains__))
@pytest.mark.parametrize(("budget", "warned"), [("macs=39%", True), ("macs=41%", False)])
def test_half_way_it_says_that_it_will_probably_not_arrive(budget, warned, moves, caplog):
    """Everything lives, which is 2.56 or 2.44 times the budget."""
    _, found = search(budget, steps=60, boundary_end=2 / 3, boundary_moves=moves, lambda_spa=0.003)
    with torch.no_grad():
        found.masks.inputs.fill_(0.01)
    seen = []
    with caplog.at_level(logging.WARNING):
        for number in range(39):
            found.step(number)
            seen.append(len(warnings_in(caplog)))
    assert seen == [0] * 19 + [int(warned)] * 20
    if warned:
        [text] = [record.getMessage() for record in warnings_in(caplog)]
        assert text.startswith("G: ") and "2.6 times the budget" in text and "\n" not in text
        assert "method.search.lambda_spa" in text


def test_half_way_it_says_nothing_of_what_has_arrived(caplog):
    _, found = search("macs=39%", steps=40)
    one_more_dies(found.masks, len(found.masks.inputs) - 1)
    with caplog.at_level(logging.WARNING):
        for number in range(40):
            found.step(number)
    assert found.met_at == 1
    assert not warnings_in(caplog)


def test_the_released_schedule_moves_at_its_own_steps_only():
    _, found = search("macs=10%", steps=80, boundary_end=0.75, boundary_moves=6)
    with torch.no_grad():
        found.masks.inputs.fill_(0.01)
    seen = []
    for number in range(60):
        found.step(number)
        seen.append(float(found.masks.boundary))
    assert "at step 60 of 80" in found.missed() and seen.pop() == 0
    assert [number + 1 for number in range(1, 59) if seen[number] != seen[number - 1]] == [10, 20, 30, 40, 50]
    assert seen[49:] == pytest.approx([1 - (5 / 6) ** (1 / 3)] * 10)


def test_the_penalty_has_its_weight():
    _, found = search("macs=50%", lambda_spa=0.25)
    whole = naive(found.masks, found.config, 1.0)[0]
    assert float(sparsity_loss(found.masks, found.config).detach()) == pytest.approx(0.25 * whole, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("killed", rest_exhaustive([5, 50], (5).__eq__))
def test_it_goes_on_from_a_save_bit_for_bit(killed):
    def learn(model, found, steps):
        for number in steps:
            generator = torch.Generator().manual_seed(number)
            with torch.no_grad():
                found.masks.inputs -= 0.05 * torch.rand(len(found.masks.inputs), generator=generator)
            found.step(number)

    model, found = search("macs=50%")
    learn(model, found, range(killed))
    saved = copy.deepcopy((model.state_dict(), found.masks.state_dict(), found.state_dict()))
    other_model, other = search("macs=50%")
    for part, state in zip((other_model, other.masks, other), saved, strict=True):
        part.load_state_dict(state)
    learn(model, found, range(killed, 60))
    learn(other_model, other, range(killed, 60))
    assert found.met_at == other.met_at
    assert (found.met_at <= killed) == (killed == 50)
    for ours, theirs in ((model, other_model), (found.masks, other.masks)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
