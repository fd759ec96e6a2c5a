"""The generator that is made small: traced once, and known by more than how it prints."""

import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.methods import original
from ganshrink.methods.original import Original

EXAMPLE = (torch.zeros(1, 3, 8, 8),)


def adding() -> nn.Module:
    class Net(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    return Net(3, 3, 1)


def taking() -> nn.Module:
    class Net(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - x

    return Net(3, 3, 1)


def test_two_networks_that_print_alike_have_stamps_of_their_own():
    one, other = (Original(build, EXAMPLE, {}).describe() for build in (adding, taking))
    assert one["net"] == other["net"] and one != other
    assert "source" not in Original(lambda: nets.build("resnet6", ngf=4), EXAMPLE, {}).describe()


def test_scales_that_are_added_need_no_second_trace(monkeypatch):
    traced, trace = [], original.trace
    monkeypatch.setattr(original, "trace", lambda *given, **how: traced.append(given) or trace(*given, **how))
    untrained = Original(
        lambda: nets.build("resnet6", ngf=4, blocks=1), (torch.zeros(1, 3, 32, 32),), {"affine": True}
    )
    whole = untrained.build()
    assert untrained.channels.cost().params > sum(p.numel() for p in whole.parameters())
    assert untrained.untouched.cost().params == sum(p.numel() for p in whole.parameters())
    assert untrained.untouched.cost().macs == untrained.channels.cost().macs
    assert len(traced) == 1
