"""SNGAN's generator for CIFAR-10 (Miyato et al. 2018), on which GAN Slimming reports costs.

It takes a latent vector: a linear layer, three residual blocks that double the side, a convolution. GAN Slimming counts
the multiply-accumulates of convolutions alone, and in its model size the weights of linear layers too; ours counts both.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed

LATENT = 128


class UpBlock(nn.Module):
    """Norm, ReLU, twice the side, convolution, norm, ReLU, convolution; the shortcut is 1x1 on the enlarged input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        y = self.conv2(F.relu(self.norm2(y)))
        return y + self.shortcut(F.interpolate(x, scale_factor=2))


class Generator(nn.Module):
    """Latent vectors (B, 128) to images (B, 3, 32, 32)."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.linear = nn.Linear(LATENT, 4 * 4 * width)
        self.blocks = nn.Sequential(*(UpBlock(width) for _ in range(3)))
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.blocks(self.linear(z).view(len(z), -1, 4, 4))
        return self.head(F.relu(self.norm(x))).tanh()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_costs_are_the_published_ones():
    model = Generator().eval()
    channels = trace(model, torch.randn(2, LATENT))
    linear = 524_288
    assert channels.cost().macs - linear == 1_680_605_184
    assert (
        channels.cost(convention="paper") == channels.cost()
    )  # nothing is transposed: both conventions agree
    assert f"{1_680_605_184 / 2**20:.2f}" == "1602.75"  # printed as M
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert weights == 4_266_752
    assert f"{4 * weights / 2**20:.2f}" == "16.28"  # printed as MB; 14.28 without the linear layer


@pytest.mark.exhaustive
@torch.no_grad()
@pytest.mark.parametrize("seed", range(2))
def test_it_can_be_cut(seed):
    torch.manual_seed(seed)
    model = Generator(width=8).eval()
    z = torch.randn(3, LATENT)
    channels = trace(model, z)
    plan = Plan.random(channels, 0.5, seed=seed)
    student = extract(model, channels, plan)
    assert student(z).shape == (3, 3, 32, 32)
    assert channels.cost(plan).macs < channels.cost().macs
    torch.testing.assert_close(student(z), zeroed(model, channels, plan)(z), atol=1e-5, rtol=1e-4)
