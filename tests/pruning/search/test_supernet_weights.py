"""The weights that all subnets share: each gives them its gradients where it has any, and nothing elsewhere."""

import copy

import numpy as np
import pytest
import torch
from test_supernet import NETWORKS, grown, made, plans, some_plan
from test_topologies import difference

from ganshrink.pruning import Plan, extract, initialise
from ganshrink.pruning.search.supernet import Supernet
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

NETS = ["resnet6 batch", "mobile_resnet9", "unet instance", "incres9", "cartoongan"]


def gradients(supernet, x, *plans_or_none):
    """Of the shared weights after a backward pass of each (None: the whole network), by name."""
    supernet.zero_grad()
    for plan in plans_or_none:
        subnet = None if plan is None else supernet.subnet(plan)
        [image] = made(supernet, [x], subnet=subnet)
        image.square().mean().backward()
    return {name: p.grad for name, p in supernet.network.named_parameters()}


def spread_out(small, axes, plan, shape):
    """A small network's tensor at its places in the whole one's, zeros elsewhere."""
    alive = np.append(plan.keep.numpy(), True)
    at = [
        torch.arange(size) if atoms is None else torch.from_numpy(np.flatnonzero(alive[atoms]))
        for atoms, size in zip(axes, shape, strict=True)
    ]
    out = torch.zeros(shape)
    out[torch.meshgrid(*at, indexing="ij")] = small
    return out


@pytest.mark.parametrize("name", rest_exhaustive(NETS, "mobile_resnet9".__eq__))
def test_gradients_are_the_small_networks_in_place_and_exactly_zero_elsewhere(name):
    network, channels, space = grown(name)
    supernet = Supernet(network.train(), channels)
    x = torch.randn(2, 3, *channels.example[0].shape[2:])
    for plan in plans(channels, space):
        shared = gradients(supernet, x, plan)
        small = extract(network, channels, plan)
        [image] = made(small, [x])
        image.square().mean().backward()
        own = {key: p.grad for key, p in small.named_parameters()}
        for key, gradient in shared.items():
            if key not in own:
                assert gradient is None  # of a block that does not run
                continue
            expected = spread_out(own[key], channels.axes[key], plan, gradient.shape)
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
            outside = spread_out(torch.ones_like(own[key]), channels.axes[key], plan, gradient.shape) == 0
            assert not gradient[outside].any()
        assert sum(float(g.abs().sum()) for g in shared.values() if g is not None) > 0


@pytest.mark.exhaustive
def test_backward_passes_of_several_subnets_add_up():
    """As the sandwich of a step has them: the whole network, and others on the same weights."""
    network, channels, space = grown("resnet6")
    supernet, x = Supernet(network.train(), channels), torch.randn(2, 3, 32, 40)
    several = [None, some_plan(channels, space), space.plan(channels, space.smallest())]
    together = gradients(supernet, x, *several)
    each = [gradients(supernet, x, plan) for plan in several]
    for name, gradient in together.items():
        parts = [g[name] for g in each if g[name] is not None]
        torch.testing.assert_close(gradient, sum(parts), rtol=1e-4, atol=1e-6)
    absent = {name for name in together if each[2][name] is None}
    assert {name.split(".body")[0] for name in absent} == {
        "down.6_extra.0", "down.6_extra.1", "down.9_extra.0", "down.9_extra.1",
        "up.2_extra.0", "up.2_extra.1", "up.5_extra.0", "up.5_extra.1",
    }  # fmt: skip


@pytest.mark.exhaustive
def test_graphs_of_several_subnets_live_side_by_side():
    """A loss may compare images of two subnets; each is differentiated through its own views."""
    network, channels, space = grown("mobile_resnet9")
    supernet, x = Supernet(network.train(), channels), torch.randn(1, 3, 32, 40)
    one, other = some_plan(channels, space), Plan.random(channels, 0.5)
    [a], [b] = (made(supernet, [x], subnet=supernet.subnet(plan)) for plan in (one, other))
    (a.square().mean() + b.square().mean()).backward()
    both = {name: p.grad for name, p in network.named_parameters()}
    one_by_one = gradients(supernet, x, one, other)
    for name, gradient in both.items():
        if gradient is None:
            assert one_by_one[name] is None
        else:
            torch.testing.assert_close(gradient, one_by_one[name], rtol=1e-4, atol=1e-6)


@pytest.mark.exhaustive
def test_a_step_moves_what_the_subnet_keeps_alone():
    network, channels, space = grown("unet128")
    supernet = Supernet(network.train(), channels)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    plan = space.plan(channels, space.smallest())
    gradients(supernet, torch.randn(2, 3, 128, 128), plan)
    torch.optim.SGD(supernet.parameters(), lr=1.0).step()
    moved = {name: p != before[name] for name, p in network.named_parameters()}
    # 64 channels of either tensor that is joined, of which 16 are kept; some gradients are 0 for want of a lit ReLU
    rows = moved["up.2.1.weight"].flatten(1).any(1).nonzero().flatten().tolist()
    assert {row // 64 for row in rows} == {0, 1}
    assert all(row % 64 < 16 for row in rows)
    columns = moved["up.2.1.weight"].transpose(0, 1).flatten(1).any(1)
    assert columns[:16].any() and not columns[16:].any()
    assert moved["down.3.1.weight"][:16].any() and not moved["down.3.1.weight"][16:].any()
    buffers = dict(network.named_buffers())
    assert len(buffers) > 30
    assert all(torch.equal(buffer, before[name]) for name, buffer in buffers.items())


@pytest.mark.exhaustive
def test_a_subnet_follows_the_weights():
    network, channels, space = grown("incres9")
    supernet, x = Supernet(network, channels), torch.randn(1, 3, 32, 40)
    plan = some_plan(channels, space)
    subnet = supernet.subnet(plan)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.2)
        assert difference(supernet(x, subnet=subnet), extract(network, channels, plan)(x)) < 1e-5


@pytest.mark.exhaustive
def test_its_weights_are_the_networks_and_go_to_another():
    network, channels, space = grown("unet instance")
    supernet, x = Supernet(network, channels), torch.randn(1, 3, 64, 96)
    weights = supernet.state_dict()
    assert list(weights) == [f"network.{name}" for name in network.state_dict()]
    assert sum(p.numel() for p in supernet.parameters()) == channels.cost().params
    other = Supernet(initialise(copy.deepcopy(network)), channels)
    plan = some_plan(channels, space)
    [ours], [before] = (made(net, [x], subnet=supernet.subnet(plan)) for net in (supernet, other))
    assert not torch.equal(ours, before)
    other.load_state_dict(weights)
    [theirs] = made(other, [x], subnet=supernet.subnet(plan))
    assert torch.equal(ours, theirs)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", rest_exhaustive(["resnet6 batch", "unet instance", "mobile_resnet9"], "resnet6 batch".__eq__)
)
def test_in_half_precision_and_with_channels_last(name):
    network, channels, space = grown(name)
    network.train().to(memory_format=torch.channels_last)
    supernet, plan = Supernet(network, channels), some_plan(channels, space)
    small = extract(network, channels, plan)
    x = torch.randn(2, 3, *NETWORKS[name][2]).to(memory_format=torch.channels_last)
    for precision in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            made(supernet, [x])  # a whole pass first: what autocast keeps of its weights is not a subnet's
            [ours], [theirs] = made(supernet, [x], subnet=supernet.subnet(plan)), made(small, [x])
        assert ours.dtype == theirs.dtype
        # without bf16 of its own, a machine rounds at other places for other memory layouts
        limit = 0.05 if precision else 1e-5
        assert difference(ours.detach().float(), theirs.detach().float()) < limit
