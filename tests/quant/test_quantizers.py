"""Quantizers by hooks: what is quantized, what is not, and that the bare network stays what it is."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ganshrink.pruning.search.handles import substituted
from ganshrink.quant import QuantConfig, Quantizers, calibrate, quantize_activation, quantize_weight
from ganshrink.quant.layers import find_layers


def by_hand(net, image):
    """GS-8 of a plain residual generator, layer by layer."""

    def through(layers, x, *, stem=False):
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                given = x if stem else quantize_activation(x)
                stem = False
                call = torch.func.functional_call
                x = call(layer, {"weight": quantize_weight(layer.weight), "bias": layer.bias}, (given,))
            else:
                x = layer(x)
        return x

    x = through(net.down, image, stem=True)
    for block in net.blocks:
        x = x + through(block.body, x)
    return through(net.up, x)


def test_as_by_hand_with_the_picture_in_float(net, images):
    with torch.no_grad(), Quantizers(net, QuantConfig(), images[0]):
        found = net(images[1])
    with torch.no_grad():
        assert torch.equal(found, by_hand(net, images[1]))
        assert not torch.equal(found, net(images[1]))


def test_the_network_is_left_as_it_was(net, images):
    net.train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        before = net(images[0])
        with Quantizers(net, QuantConfig(), images[0]):
            assert list(net.state_dict()) == list(state)
            net(images[0])
            with pytest.raises(RuntimeError):
                net(torch.zeros(1, 5, 16, 16))
        assert torch.equal(net(images[0]), before)
    assert net.training and not any("weight" in module.__dict__ for module in net.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_it_trains(net, images, precision):
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    batch = torch.cat(images)
    losses = []
    with Quantizers(net, QuantConfig(activation_bits=4, weight_bits=4), images[0]):
        for _ in range(12):
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                loss = (net(batch).float() - batch).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_an_effective_weight_of_an_earlier_hook_is_what_is_quantized(net, images):
    conv = net.blocks[0].body[1]
    scales = torch.linspace(0, 1, conv.out_channels)[:, None, None, None]

    substituted(conv, "weight", lambda weight: weight * scales)
    seen = []
    with torch.no_grad(), Quantizers(net, QuantConfig(weight_bits=3), images[0]):
        watch = conv.register_forward_pre_hook(lambda module, args: seen.append(module.weight))
        net(images[0])
        watch.remove()
    assert torch.equal(seen[0], quantize_weight(conv.weight * scales, bits=3))


def test_frozen_scales_stay_and_survive_a_kill(net, images):
    conv = net.blocks[0].body[1]
    with torch.no_grad(), Quantizers(net, QuantConfig(), images[0]) as quantizers:
        before = quantizers.weight_grid("blocks.0.body.1", conv.weight).scale
        assert quantizers.state_dict() == {}
        quantizers.freeze()
        conv.weight.mul_(2)
        assert quantizers.weight_grid("blocks.0.body.1", conv.weight).scale == before
        kept = quantizers.state_dict()
    with Quantizers(net, QuantConfig(), images[0]) as again:
        assert again.weight_grid("blocks.0.body.1", conv.weight).scale == 2 * before
        again.load_state_dict(kept)
        assert again.weight_grid("blocks.0.body.1", conv.weight).scale == before


def test_a_scale_for_each_output_channel(net, images):
    with Quantizers(net, QuantConfig(per_channel=True), images[0]) as quantizers:
        for path, conv in quantizers.layers.quantized.items():
            scale = quantizers.weight_grid(path, conv.weight).scale
            axis = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
            assert scale.shape[axis] == scale.numel() == conv.out_channels


def test_observed_activations_keep_both_signs(net, images):
    config = QuantConfig(activations="observed")
    grids = calibrate(net, config, images)
    with torch.no_grad():
        bare = net(images[0])
        with Quantizers(net, config, images[0], grids=grids):
            observed = net(images[0])
        with Quantizers(net, QuantConfig(), images[0]):
            fixed = net(images[0])
    assert (observed - bare).abs().mean() < 0.5 * (fixed - bare).abs().mean()
    with pytest.raises(ValueError, match="calibrate the network first"):
        Quantizers(net, config, images[0])


class Odd(nn.Module):
    """Two inputs, each with a stem; a layer that reads picture and features; and what cannot be quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.mixed = nn.Conv2d(11, 4, 1)
        self.normed = weight_norm(nn.Conv2d(4, 4, 1))
        self.deep, self.idle = nn.Conv3d(1, 1, 1), nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, image, mask):
        x = torch.cat([self.first(nn.functional.pad(image * 0.5, [1, 1, 1, 1])[..., 1:-1, 1:-1]), image], 1)
        x = self.mixed(torch.cat([x, self.second(input=mask)], 1))
        x = self.deep(self.normed(x)[:, None])[:, 0]
        return self.last(x).tanh()


def test_stems_are_found_by_what_they_read():
    layers = find_layers(Odd(), (torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)))
    assert layers.stems == {"first", "second"}
    assert list(layers.quantized) == ["first", "second", "mixed", "last"]
    assert set(layers.left) == {"normed", "deep", "idle"}
    assert "weight norm" in layers.left["normed"] and "Conv3d" in layers.left["deep"]
    assert layers.left["idle"] == "it never runs on the example"


def test_layers_that_are_excluded_stay_in_float(net, images):
    layers = find_layers(net, images[0], ["up.0"])
    assert layers.left == {"up.0": "it is excluded"}
    with pytest.raises(ValueError, match="no convolution 'up.1'; did you mean"):
        find_layers(net, images[0], ["up.1"])
    with pytest.raises(ValueError, match="no convolution of this network can be quantized: it has none"):
        find_layers(nn.Identity(), images[0])
