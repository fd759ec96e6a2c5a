"""Branches: one convolution computes what their sum does; and the network that is trained so."""

import copy

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.nets.branches import Branches, branched, has_branches, merged
from ganshrink.nets.devicenet import Unit
from ganshrink.pruning import initialise


def shaken(network: nn.Module) -> nn.Module:
    """In float64, with norms that have seen something."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if (tensor > 0).all() else tensor.normal_()
    return network.double().eval()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, (3, 5), padding=(1, 2), groups=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    ],
    ids=["same", "strided", "oblong in groups", "dilated, reflecting", "depthwise"],
)
@torch.no_grad()
def test_one_convolution_computes_what_the_branches_do(conv):
    torch.manual_seed(0)
    branches, x = shaken(Branches(conv)), torch.randn(2, 4, 9, 8).double()
    one = branches.merged()
    assert (branches.identity_norm is not None) == (conv.stride == (1, 1))
    torch.testing.assert_close(one(x), branches(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one(x), naive(branches, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 4, padding=2)])
def test_what_has_no_place_for_the_identity_is_refused(conv):
    with pytest.raises(
        ValueError, match="branches take odd kernels that are padded by half of them, not Conv2d"
    ):
        branched(Unit(conv, branched=True))


def naive(branches: Branches, x: torch.Tensor) -> torch.Tensor:
    """Each branch normalised by hand."""
    parts = [(branches.conv(x), branches.conv_norm), (branches.point(x), branches.point_norm)]
    parts += [] if branches.identity_norm is None else [(x, branches.identity_norm)]
    each = (1, -1, 1, 1)
    return sum(
        (y - n.running_mean.view(each)) / (n.running_var + n.eps).sqrt().view(each) * n.weight.view(each)
        + n.bias.view(each)
        for y, n in parts
    )


@torch.no_grad()
def test_the_network_is_built_plain_trained_in_branches_and_delivered_plain():
    torch.manual_seed(0)
    plain = nets.build("devicenet", ngf=4, blocks=2, downs=3)
    assert {type(m) for m in plain.modules() if not list(m.children())} == {
        nn.Conv2d, nn.ReLU, nn.PixelShuffle, nn.Tanh,
    }  # fmt: skip
    trained = initialise(branched(branched(copy.deepcopy(plain))))
    made = [m for m in trained.modules() if isinstance(m, Branches)]
    assert len(made) == 3 + 2 + 2 and sum(one.identity_norm is not None for one in made) == 2
    trained, x = shaken(trained), torch.randn(1, 3, 16, 24).double()
    wanted = trained(x)
    delivered = merged(trained)
    assert not has_branches(delivered) and delivered.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(delivered(x), wanted, rtol=1e-9, atol=1e-9)
    assert wanted.shape == x.shape
    assert not has_branches(branched(nets.build("devicenet", ngf=4, blocks=1, branches=False)))


def test_a_network_without_halvings_is_refused():
    with pytest.raises(ValueError, match="downs must be 1 or more, got 0"):
        nets.build("devicenet", downs=0)
