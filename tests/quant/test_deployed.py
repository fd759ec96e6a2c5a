"""The network of integers against the fake-quantized one it came from."""

import copy

import pytest
import torch
from torch import nn

from ganshrink.quant import QuantConfig, Quantizers, calibrate, deploy
from telling import rest_exhaustive

# Nothing falls into a level that no byte has: the released code's weights, and ranges that are bytes to begin with.
EXACT = [
    QuantConfig(activations="observed", levels="code"),
    QuantConfig(activations="observed", levels="code", per_channel=True),
    QuantConfig(activations="observed", levels="code", weight_bits=3, activation_bits=5),
    QuantConfig(activation_bits=6, weight_bits=4),
    QuantConfig(activation_bits=7, weight_bits=7, per_channel=True),
]


def made(net, config, images):
    grids = calibrate(net, config, images)
    deployed, report = deploy(net, config, grids, images)
    return grids, deployed, report


@pytest.mark.parametrize("config", rest_exhaustive(EXACT, EXACT[1::2].__contains__), ids=str)
def test_what_bytes_can_hold_is_what_was_trained(net, images, config):
    grids, deployed, report = made(net, config, images)
    assert report["psnr_db"]["bytes"] > 60  # but for a number that lands just beside the middle of two levels
    for module in deployed.modules():
        if hasattr(module, "round_output"):
            module.round_output(False)
    with torch.no_grad(), Quantizers(net, config, images[0], grids=grids):
        assert (deployed(images[0]) - net(images[0])).abs().mean() < 1e-3


def test_levels_that_no_byte_has_cost_something_and_it_is_said(net, images):
    with torch.no_grad():
        net.down[4].weight.copy_(net.down[4].weight.abs())  # the level that is dropped is +128
    _, deployed, report = made(net, QuantConfig(), images)
    assert 25 < report["psnr_db"]["bytes"] < 75
    assert report["psnr_db"]["outputs"] <= report["psnr_db"]["bytes"]
    assert deployed.down[4].weight.values.max() == 127
    assert deployed.down[4].input.grid.bounds() == (0, 255 / 64)  # 4 itself is the level 256


def test_integers_are_what_is_kept(net, images):
    _, deployed, report = made(net, QuantConfig(levels="code"), images)
    for path in ("down.4", "blocks.0.body.1", "up.0"):
        layer, was = deployed.get_submodule(path), net.get_submodule(path)
        assert layer.weight.values.dtype == torch.int8 and layer.weight.values.shape == was.weight.shape
        scale = was.weight.abs().max() / 127
        assert torch.equal(layer.weight.values, (was.weight / scale).round().to(torch.int8))
        assert layer.weight_scale == pytest.approx(scale.item())
    assert deployed.down[4].bias.values.dtype == torch.int32
    assert not list(deployed.parameters()) and net.down[4].weight.requires_grad
    state = deployed.state_dict()
    assert sum(t.numel() for t in state.values() if t.dtype == torch.int8) >= sum(
        m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    )


def test_the_report_names_every_layer(net, images):
    config = QuantConfig(activations="observed", exclude=("up.7",), weight_bits=5)
    _, _, report = made(net, config, images)
    layers = {layer["path"]: layer for layer in report["layers"]}
    assert report["float"] == {"up.7": "it is excluded"} and report["images"] == len(images)
    assert layers["down.1"]["input"] is None and "float" in layers["down.1"]["note"]
    assert layers["up.0"]["output"] is None and "ONNX Runtime" in layers["up.0"]["note"]
    assert {layer["weight_bits"] for layer in layers.values()} == {5}
    assert len(layers["down.4"]["output"]["scale"]) == net.down[4].out_channels
    assert set(report["psnr_db"]) == {"quantized", "bytes", "outputs", "deployed"}


def test_an_input_that_rounds_badly_stays_float(net, images):
    config = QuantConfig(activations="observed", levels="code")
    snr, worst = min(
        (g.snr_db, path) for path, g in calibrate(net, config, images).items() if g.input is not None
    )
    asked = config.model_copy(update={"min_snr_db": snr + 1e-3})
    grids, deployed, report = made(net, asked, images)
    assert [path for path, grid in grids.items() if grid.input is None] == ["down.1", worst]
    assert deployed.get_submodule(worst).weight.values.dtype == torch.int8
    [coarse] = [layer for layer in report["layers"] if layer["path"] == worst]
    assert coarse["input"] is None and "outliers" in coarse["note"]


def test_outputs_of_every_layer_are_near_in_their_own_steps(net, images):
    """Each channel is rounded on a grid of its own: within half a step, the bias and the zero included."""
    config = QuantConfig(activations="observed", levels="code", per_channel=True)
    grids, deployed, _ = made(net, config, images)
    layer = deployed.get_submodule("blocks.0.body.1")
    given = torch.randn(2, 16, 6, 6)
    conv = copy.deepcopy(layer)
    conv.round_output(False)
    with torch.no_grad():
        rounded, exact = layer(given), conv(given)
    grid = grids["blocks.0.body.1"].output
    low, high = grid.bounds()
    inside = (exact > low) & (exact < high)
    assert inside.float().mean() > 0.5
    assert ((rounded - exact).abs() <= 0.501 * grid.scale)[inside].all()


class Mixed(nn.Module):
    """Groups, other padding than zeros, no bias, an output size, and one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.reflected = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", bias=False)
        self.grouped = nn.Conv2d(4, 4, 3, padding="same", groups=4)
        self.down, self.up = nn.Conv2d(4, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 3, 2, 1, groups=2)
        self.head = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Tanh())
        self.again = self.head[0]

    def forward(self, x):
        y = self.grouped(self.reflected(self.stem(x).relu()))
        y = self.up(self.down(y), output_size=y.shape[2:])
        return self.head(y) + 0.1 * self.again(y)


def test_every_kind_of_convolution(images):
    net = Mixed().eval()
    config = QuantConfig(activations="observed", levels="code", per_channel=True)
    _, deployed, report = made(net, config, images)
    assert report["psnr_db"]["bytes"] > 75 and report["psnr_db"]["deployed"] > 35
    assert deployed.again is deployed.head[0]
    assert len(report["layers"]) == 6


def test_a_bias_beside_weights_of_nothing_is_kept(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    with torch.no_grad():
        net[2].weight[0].zero_()
        net[2].bias.copy_(torch.tensor([0.7, 0.1, -0.2]))
    _, deployed, _ = made(net, QuantConfig(per_channel=True), images)
    with torch.no_grad():
        assert (deployed(images[0])[:, 0] - 0.7).abs().max() < 0.005
