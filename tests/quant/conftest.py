"""A small generator and images for it."""

import pytest
import torch
from torch import Tensor, nn

from ganshrink import nets


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nets.build("resnet9", ngf=4, blocks=1).eval()


@pytest.fixture
def images() -> list[Tensor]:
    torch.manual_seed(1)
    coarse = torch.rand(4, 1, 3, 4, 4) * 2 - 1
    return [nn.functional.interpolate(image, size=(16, 16), mode="bilinear") for image in coarse]
