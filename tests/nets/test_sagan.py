"""SAGAN's generator at 64x64 (Zhang et al. 2019), on which DMAD reports costs.

DMAD's 23.45 M multiply-accumulates and 30.8 K parameters are what a counter of forward hooks sees of it: the released
layers with spectral norm call `module.forward`, which runs no hooks, so four of its five transposed convolutions are
not counted. A traced graph has them all.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed

LATENT = 128


class Hidden(nn.Module):
    """A transposed convolution with spectral norm, called past its hooks as the released code does."""

    def __init__(self, inputs: int, outputs: int, stride: int, padding: int) -> None:
        super().__init__()
        self.module = spectral_norm(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding))

    def forward(self, x: Tensor) -> Tensor:
        return self.module.forward(x)


class Attention(nn.Module):
    """Self-attention over pixels, behind a learned scalar that starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(width, width // 8, 1) for _ in range(2))
        self.value = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        attention = (query.mT @ key).softmax(-1)
        return self.gamma * (value @ attention.mT).view_as(x) + x


class Generator(nn.Module):
    """Latent vectors (B, 128) to images (B, 3, 64, 64)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = (LATENT, 8 * width, 4 * width, 2 * width, width)
        self.ups = nn.ModuleList(
            nn.Sequential(Hidden(a, b, *((1, 0) if i == 0 else (2, 1))), nn.BatchNorm2d(b), nn.ReLU())
            for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
        )
        self.attention = nn.ModuleList(Attention(w) for w in widths[3:])
        self.head = nn.ConvTranspose2d(width, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.ups[1](self.ups[0](z[:, :, None, None]))
        x = self.attention[0](self.ups[2](x))
        return self.head(self.attention[1](self.ups[3](x))).tanh()


def seen_by_hooks(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """(multiply-accumulates, parameters) as DMAD's counter has them: transposed convolutions at their output, one more
    an element for a bias, two an element for batch norm in training, and no module that runs no hook."""
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
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            module.register_forward_hook(count)
    model(x)
    macs, params = zip(*seen, strict=True)
    return sum(macs), sum(params)


@torch.no_grad()
def test_the_published_costs_are_those_of_what_hooks_see():
    assert seen_by_hooks(Generator().eval(), torch.randn(1, LATENT)) == (23_449_600, 30_835)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_trace_counts_every_layer():
    model = Generator().eval()
    assert sum(p.numel() for p in model.parameters()) == 3_832_885
    channels = trace(model, torch.randn(2, LATENT))
    attention = 10_485_760  # its 1x1 convolutions, alike in both conventions
    assert channels.cost().macs - attention == 104_857_600
    assert channels.cost(convention="paper").macs - attention == 432_013_312
    assert channels.attention_macs == 256**2 * (16 + 128) + 1024**2 * (8 + 64)


@pytest.mark.exhaustive
@pytest.mark.slow
@torch.no_grad()
def test_it_can_be_cut():
    torch.manual_seed(0)
    model = Generator(width=16).eval()
    for attention in model.attention:
        attention.gamma.fill_(1)
    z = torch.randn(3, LATENT)
    channels = trace(model, z)
    plan = Plan.random(channels, 0.5, seed=1)
    student = extract(model, channels, plan)
    assert student(z).shape == (3, 3, 64, 64)
    assert channels.cost(plan).macs < channels.cost().macs
    torch.testing.assert_close(student(z), zeroed(model, channels, plan)(z), atol=1e-5, rtol=1e-4)
