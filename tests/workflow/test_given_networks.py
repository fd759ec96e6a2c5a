"""Networks as their owners hand them over: frozen in part or whole, with gradients off around the call."""

import pytest
import torch
from torch import nn

import ganshrink
from ganshrink.workflow.preflight import check_single
from telling import rest_exhaustive

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


def compress(network, folder, example=EXAMPLE, photos=PHOTOS, **more):
    quick = {"student": {"max_steps": 2, "batch_size": 2}, "latency": {"enabled": False}}
    given = {"task": "image2image", "method": "uniform", "budget": "macs=50%", "progress": False, **quick}
    return ganshrink.compress(
        network, EXAMPLE, PHOTOS, run=folder, **{**given, "export": {"onnx": False}, **more}
    )


@pytest.mark.parametrize(
    "make",
    rest_exhaustive(
        [frozen_encoder, FrozenInside, frozen_weight_norm, of_inference],
        {FrozenInside, of_inference}.__contains__,
    ),
)
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


@pytest.mark.parametrize(
    ("dtype", "of_example", "of_photos"),
    rest_exhaustive(
        [
            (torch.float16, torch.float16, torch.float32),
            (torch.bfloat16, torch.float32, torch.bfloat16),
            (torch.float64, torch.float64, torch.float64),
            (torch.float32, torch.float16, torch.float16),
        ],
        lambda case: case[0] is torch.bfloat16,
    ),
)
def test_networks_of_other_precisions_are_taken_in_float32(dtype, of_example, of_photos, tmp_path, caplog):
    network = Generator().to(dtype)
    photos = [photo.to(of_photos) for photo in PHOTOS]
    student = compress(network, tmp_path, EXAMPLE.to(of_example), photos).student
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert {p.dtype for p in network.parameters()} == {dtype}, "the user's own"
    told = f"the generator is in {dtype} and is taken in float32, as by .float()" in caplog.text
    assert told == (dtype != torch.float32)


@pytest.mark.exhaustive
def test_a_network_half_of_which_is_in_half_precision(tmp_path, caplog):
    network = Generator()
    network.encoder.half()
    assert compress(network, tmp_path).student(EXAMPLE).dtype == torch.float32
    assert "float16" in caplog.text


def test_a_network_of_a_recipe_whose_code_makes_it_half_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"the generator is in torch.float16: .*self.float\(\)"):
        check_single(Generator().half())
