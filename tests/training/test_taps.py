import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils.parametrizations import spectral_norm

from ganshrink import nets
from ganshrink.training import Taps, activations, check_maps, default_taps


def test_taps_give_what_passed_through_once():
    net = nets.build("incres9", ngf=4, blocks=2)
    with Taps(net, ["down", "blocks.1"]) as taps:
        x = torch.randn(1, 3, 16, 16)
        image = net(x)
        caught = taps.take()
        assert list(caught) == ["down", "blocks.1"]
        assert torch.equal(caught["down"], net.down(x))
        assert torch.equal(net.up(caught["blocks.1"]), image)
    assert not any(m._forward_hooks for m in net.modules())


def test_a_tap_is_read_once_per_forward():
    net = nn.Sequential(nn.Identity(), nn.ReLU())
    with Taps(net, ["1"]) as taps:
        net(torch.ones(1))
        taps.take()
        with pytest.raises(ValueError, match="nothing passed through '1'"):
            taps.take()


def test_gradients_reach_the_network_through_its_taps():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with Taps(net, ["0"]) as taps:
        net(torch.ones(1, 1, 2, 2))
        taps.take()["0"].sum().backward()
    assert net[0].weight.grad is not None and net[2].weight.grad is None


def test_an_unknown_path_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"no submodule 'blocks.3' to tap; did you mean 'blocks.[01]'"):
        Taps(nets.build("incres9", ngf=4, blocks=2), ["blocks.3"])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_taps_work_in_a_compiled_network():
    """Every forward gives its own outputs, with gradients, also after the first, and nothing is compiled twice."""
    net = nets.build("incres9", ngf=4, blocks=2)
    plain = copy.deepcopy(net)
    counts = CompileCounterWithBackend("aot_eager")
    with Taps(net, ["blocks.0"]) as taps, Taps(plain, ["blocks.0"]) as expected:
        net.compile(backend=counts)
        for seed in range(3):
            x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
            net(x), plain(x)
            caught, other = taps.take()["blocks.0"], expected.take()["blocks.0"]
            torch.testing.assert_close(caught, other)
            net.zero_grad(), plain.zero_grad()
            caught.square().sum().backward()
            other.square().sum().backward()
            torch.testing.assert_close(net.down[1].weight.grad, plain.down[1].weight.grad)
            assert plain.down[1].weight.grad.abs().sum() > 0
    assert counts.frame_count == 1


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([nn.AdaptiveAvgPool2d(1), nn.Flatten()], "what 2 puts out is no feature map"),
        ([nn.AdaptiveAvgPool2d(1), nn.Identity()], "attention on a single pixel, as 2 has it"),
    ],
)
def test_maps_that_attention_cannot_be_made_of_are_refused(layers, words):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *layers)
    check_maps(network, ["0"], [torch.zeros(1, 3, 8, 8)])
    with pytest.raises(ValueError, match=words):
        check_maps(network, ["0", "2"], [torch.zeros(1, 3, 8, 8)])


def test_a_module_that_no_pass_goes_through_is_refused():
    network = nn.Sequential(nn.ModuleDict({"odd": nn.Identity()}), nn.Conv2d(3, 4, 3))
    network.forward = lambda x: network[1](x)
    with pytest.raises(ValueError, match="nothing passed through '0.odd'"):
        check_maps(network, ["0.odd"], [torch.zeros(1, 3, 8, 8)])


def test_activations_are_found_in_order_or_missed_by_name():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Sequential(nn.ReLU()), nn.Tanh())
    assert activations(network) == ["1", "2.0"]
    with pytest.raises(ValueError, match="a Tanh, has no activation to look at"):
        activations(network[3])


def test_what_makes_a_weight_is_never_tapped():
    """A kernel of 4 input channels is a tensor (B, 4, H, W) too."""
    layers = [nn.Conv2d(3, 4, 3), *(spectral_norm(nn.Conv2d(4, 4, 3)) for _ in range(3))]
    network = nn.Sequential(*(nn.Sequential(layer, nn.ReLU()) for layer in layers))
    taps = default_taps(network, [torch.zeros(1, 3, 12, 12)], 4, count=9)
    assert taps and not [tap for tap in taps if "parametrizations" in tap]
