"""Widths that user code keeps in attributes follow a cut."""

import pytest
import torch
from activated_kernels import NETWORKS as ACTIVATED
from test_statistics import apart, macs, woken
from test_topologies import shaken
from torch import nn
from widths_in_attributes import NETWORKS, Down, Gated, conv

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from ganshrink.pruning.search.supernet import Supernet
from telling import rest_exhaustive


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", rest_exhaustive(NETWORKS | ACTIVATED, {"DeepFill v2", "views", "StyleGAN2", "ECBSR"}.__contains__)
)
def test_extracted_is_the_zeroed_network(name):
    torch.manual_seed(0)
    model, x = shaken(woken((NETWORKS | ACTIVATED)[name]())), torch.randn(1, 3, 16, 16)
    channels = trace(model, x)
    narrowest = Plan.random(channels, 1.0)
    for plan in (Plan.random(channels, 0.4), narrowest):
        small = extract(model, channels, plan)
        assert apart(small, zeroed(model, channels, plan), torch.randn(3, 3, 24, 16)) < 1e-10
        assert channels.cost(plan).macs == macs(small, x)
    assert channels.cost(narrowest).macs < 0.25 * channels.cost().macs


def test_views_of_a_supernet_state_their_widths_too():
    torch.manual_seed(0)
    model, x = woken(NETWORKS["DeepFill v2"]()), torch.randn(1, 3, 16, 16)
    channels = trace(model, x)
    plan = Plan.random(channels, 0.4)
    supernet = Supernet(model, channels)
    torch.testing.assert_close(supernet(x, subnet=supernet.subnet(plan)), extract(model, channels, plan)(x))
    assert model[0].cnum_out == 16


def test_an_attribute_follows_its_own_group():
    model = nn.Sequential(conv(3, 16), Gated(16, 16), conv(16, 3))
    channels = trace(model, torch.randn(1, 3, 16, 16))
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    first, second = (g for g in channels.groups if g.frozen is None)
    keep[first.atoms[3:]], keep[second.atoms[5:]] = False, False
    small = extract(model, channels, Plan(keep))
    assert (small[1].cnum_out, small[1].conv.weight.shape[:2]) == (5, (10, 3))


def test_a_check_that_no_attribute_can_follow_is_named():
    class Sixteen(Down):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1] == 2**4
            return self.conv(x)

    channels = trace(nn.Sequential(conv(3, 16), Sixteen(16, 8), conv(8, 3)), torch.randn(1, 3, 16, 16))
    frozen = {g.name: g.frozen for g in channels.groups}
    assert "AssertionError: assert" in frozen["0"] and "test_widths.py:" in frozen["0"]
    assert frozen["1.conv"] is None
