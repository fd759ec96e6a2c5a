"""Convolutions that do more than torch's own: left in float, with the reason, so that the file computes what they do."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ganshrink.quant import QuantConfig, calibrate, deploy

CONFIG = QuantConfig(activations="observed", levels="code", per_channel=True)


class Scaled(nn.Conv2d):
    """An equalised learning rate."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * 3, self.bias, padding=1)


class Standardised(nn.Conv2d):
    """Changes the step that torch's own forward calls."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean((1, 2, 3), keepdim=True), bias)


class Masked(nn.Conv2d):
    """Takes another argument."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return super().forward(image * mask)


class Same(nn.Conv2d):
    """Settings of its own, and nothing else."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, padding_mode="circular")


class Around(nn.Module):
    """A layer between two convolutions, called in some way."""

    def __init__(self, layer: nn.Module, call=lambda net, x: net.layer(x)) -> None:
        super().__init__()
        self.first, self.layer, self.call = nn.Conv2d(3, 8, 3, padding=1), layer, call
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.call(self, self.first(x).relu())).tanh()


def conv(**settings) -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, **{"padding": 1, **settings})


def hooked() -> nn.Conv2d:
    layer = conv()
    layer.register_forward_hook(lambda module, given, made: made.relu() * 2)
    return layer


def hooked_before() -> nn.Conv2d:
    layer = conv()
    layer.register_forward_pre_hook(lambda module, given: (given[0] * 2,))
    return layer


def patched() -> nn.Conv2d:
    layer = conv()
    layer.forward = lambda x: F.conv2d(x, layer.weight, padding=1).abs()
    return layer


def tied() -> Around:
    net = Around(nn.Sequential(conv(), nn.ReLU(), conv()))
    net.layer[2].weight = net.layer[0].weight
    return net


def padded_by_hand(net: Around, x: Tensor) -> Tensor:
    """Looks at what kind of layer it has, and into it."""
    assert net.layer.stride == (1, 1) and net.layer.kernel_size == (3, 3)
    return net.layer(F.pad(x, (1, 1, 1, 1), mode="reflect") if isinstance(net.layer, nn.Conv2d) else x)


LEFT = {
    "a weight that is scaled": lambda: Around(Scaled(8, 8, 3)),
    "a step of its own": lambda: Around(Standardised(8, 8, 3, padding=1)),
    "another argument": lambda: Around(Masked(8, 8, 1), lambda net, x: net.layer(mask=x > 0, image=x)),
    "a hook": lambda: Around(hooked()),
    "a hook before": lambda: Around(hooked_before()),
    "a forward that was put in": lambda: Around(patched()),
    "a norm of the weight": lambda: Around(weight_norm(conv())),
    "a weight used by a function": lambda: Around(
        conv(), lambda net, x: net.layer(x) + F.conv2d(x, net.layer.weight.data.flip(2), padding=1)
    ),
    "a bias used by a function": lambda: Around(conv(), lambda net, x: net.layer(x) - net.layer.bias.mean()),
    "called past its hooks": lambda: Around(conv(), lambda net, x: net.layer.forward(x)),
}
TAKEN = {
    "by name": lambda: Around(conv(), lambda net, x: net.layer(input=x)),
    "settings alone": lambda: Around(Same(8)),
    "padding that repeats": lambda: Around(conv(padding_mode="replicate")),
    "called twice": lambda: Around(conv(), lambda net, x: net.layer(net.layer(x))),
    "two of one weight": tied,
    "looked at by the network": lambda: Around(conv(padding=0), padded_by_hand),
    "transposed, by names": lambda: Around(
        nn.ConvTranspose2d(8, 8, 3, 2, 1),
        lambda net, x: net.layer(output_size=[31, 31], input=x)[..., :16, :16],
    ),
}


def in_integers(net: nn.Module, images: list[Tensor]):
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return deploy(net.eval(), CONFIG, calibrate(net, CONFIG, images), images)


@pytest.mark.parametrize("kind", LEFT)
def test_what_does_more_stays_in_float_with_its_reason(kind, images):
    deployed, report = in_integers(LEFT[kind](), images)
    assert list(report["float"]) == ["layer"] and len(report["float"]["layer"]) > 10
    assert report["psnr_db"]["deployed"] > max(40, report["psnr_db"]["quantized"] - 12)
    assert not deployed.training


@pytest.mark.parametrize("kind", TAKEN)
def test_what_is_called_in_another_way_is_in_integers(kind, images):
    _, report = in_integers(TAKEN[kind](), images)
    assert not report["float"]
    assert report["psnr_db"]["deployed"] > max(35, report["psnr_db"]["quantized"] - 12)


def test_a_network_that_computes_something_else_in_integers_is_refused(images):
    net = Around(conv(), lambda net, x: net.layer(x) * (3 if type(net.layer) is nn.Conv2d else -3))
    with pytest.raises(ValueError, match="computes something else than in float.*exclude"):
        in_integers(net, images)


def test_a_network_that_does_not_run_in_integers_is_refused(images):
    net = Around(conv(), lambda net, x: net.layer(x.to(net.layer.weight.dtype)))
    with pytest.raises(ValueError, match="does not run with convolutions in integers .*exclude"):
        in_integers(net, images)
