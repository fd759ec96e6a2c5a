"""Which weights speak for a channel."""

import pytest
import torch
from test_topologies import shaken
from topologies import Net, conv
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import scores


@pytest.mark.slow
def test_the_first_norm_after_the_producer_counts():
    torch.manual_seed(0)
    model = shaken(nets.build("incres9", ngf=12, blocks=2))
    channels = trace(model, torch.randn(1, 3, 16, 16))
    values = scores.norm_scale(model, channels)
    groups = {g.name: g for g in channels.groups}

    def assert_scale(group: str, norm: nn.Module) -> None:
        assert torch.equal(values[groups[group].atoms].float(), norm.weight.detach().abs())

    assert_scale("down.1", model.down[2])
    assert_scale("down.7", model.down[8])  # the trunk: not one of the post-sum norms
    branches = model.blocks[1].body[0].branches
    assert_scale("blocks.1.body.0.branches.2.1", branches[2][2])
    assert_scale("blocks.1.body.0.branches.4.0", branches[4][1])  # not the second depthwise norm
    assert_scale("up.3", model.up[4])
    assert values[groups["up.7"].atoms].isinf().all()


def test_without_any_norm_weights_count_relative_to_their_mean():
    torch.manual_seed(0)
    model = shaken(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3)))
    channels = trace(model, torch.randn(1, 3, 8, 8))
    [group] = [g for g in channels.groups if g.frozen is None]
    lengths = model[0].weight.detach().double().flatten(1).norm(dim=1)
    assert torch.allclose(scores.norm_scale(model, channels)[group.atoms], lengths / lengths.mean())


def test_groups_without_a_norm_get_the_scales_of_their_ranks():
    torch.manual_seed(0)
    model = shaken(nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 3)))
    channels = trace(model, torch.randn(1, 3, 8, 8))
    values = scores.norm_scale(model, channels)
    groups = {g.name: g for g in channels.groups}
    order = model[0].weight.detach().flatten(1).norm(dim=1).argsort()
    ranked = values[groups["0"].atoms][order]
    assert (ranked.diff() > 0).all()
    scales = model[3].weight.detach().double().abs()
    middles = (torch.arange(6) + 0.5) / 6
    assert torch.allclose(ranked, torch.quantile(scales, middles.double()))
    assert torch.equal(values[groups["2"].atoms].float(), model[3].weight.detach().abs())
    basis = scores.norm_scale_basis(model, channels)
    assert (basis["0"], basis["2"]) == ("L2", "norm scale")


def test_l2_sums_over_all_producers_and_never_reads_a_bias():
    torch.manual_seed(0)
    model = Net(lambda s, x: s.c((h := s.a(x)) + s.b(h)), a=conv(3, 8), b=conv(8, 8), c=conv(8, 3))
    channels = trace(model, torch.randn(1, 3, 8, 8))
    before = scores.l2(model, channels)
    [group] = [g for g in channels.groups if g.frozen is None]
    squares = sum(m.weight.detach().double().square().sum((1, 2, 3)) for m in (model.a, model.b))
    assert torch.allclose(before[group.atoms], squares.sqrt())
    with torch.no_grad():
        model.a.bias.fill_(100)
        model.b.bias.fill_(100)
    assert torch.equal(scores.l2(model, channels), before)


def test_parametrized_weights_are_read_as_they_act():
    torch.manual_seed(0)
    plain = conv(3, 8)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(conv(3, 8)), conv(8, 3)).eval()
    with torch.no_grad():
        plain.weight.copy_(model[0].weight)
    channels = trace(model, torch.randn(1, 3, 8, 8))
    [group] = [g for g in channels.groups if g.frozen is None]
    lengths = plain.weight.detach().double().flatten(1).norm(dim=1)
    assert torch.allclose(scores.l2(model, channels)[group.atoms], lengths)
