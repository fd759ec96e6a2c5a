"""Weights that are computed from parameters alone at every call follow a cut as plain ones do, or stay with a reason."""

import pytest
import torch
from computed_weights import NETWORKS, Equalised, Standardised, around
from test_statistics import apart, macs, woken

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

CUT = {name: make for name, make in NETWORKS.items() if "spectral" not in name}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    rest_exhaustive(
        NETWORKS,
        {
            "filters of unit length",
            "equalised learning rate",
            "spectral norm of a transposed convolution",
        }.__contains__,
    ),
)
def test_extracted_is_the_zeroed_network(name):
    torch.manual_seed(0)
    model, x = woken(NETWORKS[name]()), torch.randn(1, 3, 16, 16)
    channels = trace(model, x)
    for plan in (Plan.random(channels, 0.4), narrowest := Plan.random(channels, 1.0)):
        small = extract(model, channels, plan)
        assert apart(small, zeroed(model, channels, plan), torch.randn(2, 3, 16, 24)) < 1e-10
        assert channels.cost(plan).macs == macs(small, x)
    least = channels.cost(narrowest).macs / channels.cost().macs
    assert least < (0.15 if name in CUT else 0.65), f"{least:.3f} of the multiply-accumulates stay"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in CUT])
def test_a_power_iteration_in_forward_stays_alone(name):
    """It writes its own parameters, which no export follows: the layer stays whole, its neighbours are cut."""
    channels = trace(woken(NETWORKS[name]()), torch.randn(1, 3, 16, 16))
    frozen = {group.name: group.frozen for group in channels.groups}
    assert frozen["0"].startswith("the submodule 2 cannot be exported")
    assert frozen["4"] is None


@pytest.mark.exhaustive
@pytest.mark.slow
def test_standardisation_sees_the_filters_that_are_left():
    torch.manual_seed(0)
    model = woken(around(Standardised(16, 16, 3, padding=1)))
    channels, x = trace(model, torch.randn(1, 3, 8, 8)), torch.randn(2, 3, 8, 8)
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    first = next(group for group in channels.groups if group.name == "0")
    live = torch.arange(16) % 3 > 0
    keep[first.atoms] = live
    assert first.statistics
    weight = model[2].weight[:, live]
    weight = weight - weight.mean((1, 2, 3), keepdim=True)
    weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
    y = torch.nn.functional.conv2d(model[1](model[0](x))[:, live], weight, model[2].bias, padding=1)
    wanted = model[3:](y)
    torch.testing.assert_close(zeroed(model, channels, Plan(keep))(x), wanted)
    torch.testing.assert_close(extract(model, channels, Plan(keep))(x), wanted)


def test_a_written_scale_stays_that_of_the_whole_network():
    torch.manual_seed(0)
    model = woken(around(Equalised(16, 16)))
    channels = trace(model, torch.randn(1, 3, 8, 8))
    small = extract(model, channels, Plan.random(channels, 0.5))
    assert small[2].weight.shape == (8, 8, 3, 3)
    assert small[2].scale == model[2].scale
