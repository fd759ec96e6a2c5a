"""Cuts through norms over channels: the small network is the whole one whose norms see live channels alone."""

import copy

import pytest
import torch
from over_channels import NETWORKS, LayerNorm2d, Tokens, conv
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive


def woken(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if sum(size > 1 for size in parameter.shape) < 2:
                parameter.add_(torch.rand(parameter.shape, generator=generator) - 0.3)
    return model.eval()


def macs(network: nn.Module, x: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops() // 2


def apart(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        a, b = copy.deepcopy(one).double()(x.double()), copy.deepcopy(other).double()(x.double())
    return float((a - b).abs().max() / b.abs().max())


# other families hold what the others hold
TOLD = {"RMSNorm by hand", "group norms of two groups"}


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(NETWORKS, TOLD.__contains__))
def test_extracted_is_the_masked_network(name):
    torch.manual_seed(0)
    model, x = woken(NETWORKS[name]()), torch.randn(1, 3, 16, 16)
    channels = trace(model, x)
    assert any(group.statistics for group in channels.groups)
    keep = Plan.random(channels, 0.4).keep
    for group in [group for group in channels.groups if group.removable][:1]:
        keep[group.atoms] = False
    small = extract(model, channels, plan := Plan(keep))
    assert apart(small, zeroed(model, channels, plan), torch.randn(3, 3, 24, 16)) < 1e-10
    assert channels.cost(plan).macs == macs(small, x)
    least = channels.cost(Plan.random(channels, 1.0)).macs / channels.cost().macs
    assert least < 0.15, f"{least:.3f} of the multiply-accumulates stay"


@pytest.mark.slow
def test_the_reference_is_the_norm_over_live_channels_alone():
    torch.manual_seed(0)
    model = woken(nn.Sequential(conv(3, 8), LayerNorm2d(8), conv(8, 3)))
    channels, x = trace(model, torch.randn(1, 3, 8, 8)), torch.randn(2, 3, 8, 8)
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    group = next(g for g in channels.groups if g.frozen is None)
    live = torch.tensor([True, False, True, True, False, True, False, True])
    keep[group.atoms] = live
    y = model[0](x)[:, live]
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    y = y * model[1].weight[live, None, None] + model[1].bias[live, None, None]
    wanted = nn.functional.conv2d(y, model[2].weight[:, live], model[2].bias, padding=1)
    torch.testing.assert_close(zeroed(model, channels, Plan(keep))(x), wanted)
    torch.testing.assert_close(extract(model, channels, Plan(keep))(x), wanted)


@pytest.mark.slow
def test_modules_state_the_width_that_is_left():
    model = Tokens(nn.LayerNorm)
    channels = trace(model, torch.randn(1, 3, 8, 8))
    small = extract(model, channels, Plan.random(channels, 0.5))
    assert small.norm.normalized_shape == (8,)
    assert small.norm.weight.shape == (8,)


@pytest.mark.slow
def test_exact_keeps_what_norms_run_over_and_says_why():
    channels = trace(NETWORKS["AnimeGANv2"](), torch.randn(1, 3, 16, 16), exact=True)
    reasons = {group.frozen for group in channels.groups if group.frozen}
    assert not any(group.statistics for group in channels.groups)
    assert any("group_norm" in reason and "over all its channels" in reason for reason in reasons)
    assert not any("single channel" in reason for reason in reasons)
    tokens = trace(Tokens(nn.LayerNorm), torch.randn(1, 3, 16, 16), exact=True)
    assert any("layer_norm runs over channels" in (group.frozen or "") for group in tokens.groups)


@pytest.mark.exhaustive
def test_two_channels_stay_under_a_norm():
    channels = trace(NETWORKS["NAFNet"](), torch.randn(1, 3, 16, 16))
    group = next(g for g in channels.groups if g.statistics)
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    keep[group.atoms[1:]] = False
    with pytest.raises(ValueError, match=r"keeps 1 channel of .*; at least 2 must stay: mean runs over"):
        channels.check(Plan(keep))
    assert min(channels.widths(Plan.random(channels, 1.0))[channels.groups.index(group)], 2) == 2


def test_sums_divided_by_a_written_number_stay_whole():
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.weight = conv(3, 8), conv(8, 3), nn.Parameter(torch.ones(8, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last((y - y.sum(1, keepdim=True) / y.shape[1]) * self.weight)

    channels = trace(Mean(), torch.randn(1, 3, 8, 8))
    [reason] = [group.frozen for group in channels.groups if group.name == "first"]
    assert "sum" in reason and "off by" in reason
