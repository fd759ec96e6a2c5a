"""SAGAN's generator at 64x64 (Zhang et al. 2019), on which DMAD reports costs.

DMAD's 23.45 M multiply-accumulates and 30.8 K parameters are what a counter of forward hooks sees of it: the released
layers with spectral norm call `module.forward`, which runs no hooks, so four of its five transposed convolutions are
not counted. A traced graph has them all.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.sagan import Attention, SAGANJudge

LATENT = 128


def seen_by_hooks(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """(multiply-accumulates, parameters) as DMAD's counter has them: transposed convolutions at their output, one more
    an element for a bias, two an element for batch norm in training, and no module with spectral norm, whose hooks did
    not run."""
    seen: list[tuple[int, int]] = []

    def count(module: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            cost = 2 * made.numel()
        elif isinstance(module, nn.ConvTranspose2d):
            cost = made[:, 0].numel() * module.weight.numel() + made.numel()
        else:
            cost = made.numel() * (module.weight[0].numel() + 1)
        seen.append((cost, sum(p.numel() for p in module.parameters())))

    for module in model.modules():
        counted = isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d)
        if counted and not is_parametrized(module):
            module.register_forward_hook(count)
    model(x)
    macs, params = zip(*seen, strict=True)
    return sum(macs), sum(params)


@torch.no_grad()
def test_the_published_costs_are_those_of_what_hooks_see():
    model = nets.build("sagan").eval()
    assert seen_by_hooks(model, torch.randn(1, LATENT)) == (23_449_600, 30_835)
    assert sum(p.numel() for p in model.parameters()) == 3_832_885


@torch.no_grad()
def test_attention_is_the_paper_s_equation():
    """A naive transcription: each place takes of all others, by the softmax of how alike key and query are (Eqs. 1 to 3)."""
    torch.manual_seed(0)
    attention, x = Attention(16, start=0.7), torch.randn(2, 16, 3, 2)
    pixels = x.flatten(2)
    wanted = x.clone().flatten(2)
    f, g, h = (layer(x).flatten(2) for layer in (attention.query, attention.key, attention.value))
    for image in range(2):
        for place in range(6):
            alike = torch.stack([f[image, :, place] @ g[image, :, other] for other in range(6)]).exp()
            weights = alike / alike.sum()
            taken = sum(weights[other] * h[image, :, other] for other in range(6))
            wanted[image, :, place] = pixels[image, :, place] + 0.7 * taken
    torch.testing.assert_close(attention(x).flatten(2), wanted)


@pytest.mark.parametrize(("size", "layers"), [(16, 2), (32, 3), (64, 4)])
@torch.no_grad()
def test_sizes_are_what_is_asked_for_and_the_discriminator_gives_one_score(size, layers):
    images = nets.build("sagan", ngf=2, size=size, latent=5)(torch.randn(2, 5))
    assert images.shape == (2, 3, size, size)
    assert SAGANJudge(ndf=2, layers=layers)(images).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("size", [8, 48, 0])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match=f"size must be 16, 32, 64, ..., got {size}"):
        nets.build("sagan", size=size)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_trace_counts_every_layer():
    model = nets.build("sagan").eval()
    channels = trace(model, torch.randn(2, LATENT))
    attention = 10_485_760  # its 1x1 convolutions, alike in both conventions
    assert channels.cost().macs - attention == 104_857_600
    assert channels.cost(convention="paper").macs - attention == 432_013_312
    assert channels.attention_macs == 256**2 * (16 + 128) + 1024**2 * (8 + 64)
