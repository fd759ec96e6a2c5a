"""Networks as their owners hand them over: frozen in part or whole, with gradients off around the call."""

import pytest
import torch
from torch import nn

import ganshrink

DRAW = torch.Generator().manual_seed(0)
PHOTOS = [torch.rand(3, 16, 16, generator=DRAW) * 2 - 1 for _ in range(10)]
EXAMPLE = torch.zeros(1, 3, 16, 16)


class Generator(nn.Module):
    """An encoder with batch norm, and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x)).tanh()


class FrozenInside(Generator):
    """Frozen by itself, with a batch norm that stays in eval mode whatever is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenInside":
        super().train(mode)
        self.encoder[1].eval()
        return self


def frozen_encoder() -> nn.Module:
    network = Generator()
    network.encoder.requires_grad_(False)
    return network


def frozen_weight_norm() -> nn.Module:
    network = Generator()
    nn.utils.parametrizations.weight_norm(network.decoder[0])
    return network.requires_grad_(False)


def of_inference() -> nn.Module:
    with torch.inference_mode():
        return Generator()


def compress(network, folder, **more):
    quick = {"student": {"max_steps": 2, "batch_size": 2}, "latency": {"enabled": False}}
    given = {"task": "image2image", "method": "uniform", "budget": "macs=50%", "progress": False, **quick}
    return ganshrink.compress(
        network, EXAMPLE, PHOTOS, run=folder, **{**given, "export": {"onnx": False}, **more}
    )


@pytest.mark.parametrize("make", [frozen_encoder, FrozenInside, frozen_weight_norm, of_inference])
def test_a_frozen_network_makes_a_student_that_learns(make, tmp_path):
    network = make()
    before = [p.requires_grad for p in network.parameters()]
    student = compress(network, tmp_path).student
    assert all(p.requires_grad for p in student.parameters())
    assert student.encoder[0].bias.any(), "biases start at 0"
    assert [p.requires_grad for p in network.parameters()] == before


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_that_the_caller_turned_off_are_on_where_a_student_learns(off, tmp_path):
    with off():
        student = compress(Generator(), tmp_path).student
        assert not torch.is_grad_enabled()
    assert student.encoder[0].bias.any()
