"""Pictures on which careless arithmetic breaks: of one colour, of one pixel, saturated; masks of nothing."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganshrink.exporters import check_parity, export_int8, export_onnx
from ganshrink.exporters.instance_norm import centred
from ganshrink.exporters.parity import compare
from ganshrink.exporters.probes import probes, special
from ganshrink.exporters.runtime import open_session, run_session
from telling import rest_exhaustive

EXAMPLE = torch.rand(1, 3, 8, 8) * 2 - 1


class Ending(nn.Module):
    """A convolution of mirrored borders, so that one colour stays one, and then the function of a test."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.end = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect", bias=False), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv(x)).tanh()


EPSILONS: dict[str, Callable[[Tensor], Tensor]] = {
    "standardised": lambda h: (h - h.mean((2, 3), True)) / (h.std((2, 3), keepdim=True) + 1e-8),
    "pixel norm": lambda h: h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-8),
    "the eps first": lambda h: h / (1e-9 + h.abs().sum((1, 2, 3), keepdim=True)),
    "logarithm": lambda h: (h.relu() + 1e-8).log() / 20,
    "difference": lambda h: h / (-1e-8 - h.abs().amax((2, 3), keepdim=True)),
    "clamped": lambda h: h / h.norm(dim=1, keepdim=True).clamp_min(1e-12),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(EPSILONS, "clamped".__eq__))
def test_small_numbers_are_kept(name: str, tmp_path: Path) -> None:
    net, path = Ending(EPSILONS[name]).eval(), tmp_path / "net.onnx"
    export_onnx(net, EXAMPLE, path, dynamic_batch=False)
    session = open_session(path)
    for value in (-1.0, 0.0, 1.0):
        assert run_session(session, (torch.full_like(EXAMPLE, value),)).isfinite().all()


@pytest.mark.slow
def test_a_nan_of_the_file_alone_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    hasty = Ending(lambda h: h / h.square().sum())
    careful = Ending(lambda h: h / (h.square().sum() + 1e-30))
    export_onnx(hasty, EXAMPLE, path, dynamic_batch=False)
    middle = {"middle value": torch.zeros_like(EXAMPLE)}
    with pytest.raises(
        ValueError, match=r"gives NaN or infinity on .* \(middle value\), where torch gives num"
    ):
        check_parity(path, careful.requires_grad_(False), [EXAMPLE], middle)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_nan_of_the_network_itself_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="ganshrink"):
        export_onnx(Ending(lambda h: h / h.square().sum()), EXAMPLE, tmp_path / "net.onnx")
    assert "the network itself gives NaN or infinity on a picture of this kind: middle value" in caplog.text


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_torch_cannot_compute_twice_is_not_asked_of_a_file(tmp_path: Path) -> None:
    """On one colour a norm without an epsilon divides rounding errors by rounding errors."""
    norms = [
        layer
        for _ in range(4)
        for layer in (nn.ReflectionPad2d(1), nn.Conv2d(3, 3, 3), nn.InstanceNorm2d(3, eps=1e-12))
    ]
    torch.manual_seed(0)
    entry = export_onnx(nn.Sequential(*norms, nn.Tanh()), EXAMPLE, tmp_path / "net.onnx", image_io="uint8")
    assert entry["psnr_db"] > 60


class Enlarging(nn.Module):
    """What is left of a picture less its mean, a thousand times as large."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.tensor(1e3)), shift

    def forward(self, x: Tensor) -> Tensor:
        return (self.gain * (x - x.mean()) + self.shift / 127.5).clamp(-1, 1)


def test_a_file_may_be_as_far_off_as_rounding_explains() -> None:
    """A millionth of the input is an eighth of a level here, of the largest of noise half a one: 0.7 may be rounding, 20 are
    a fault. On other pictures half a level is all, whatever rounding does."""
    net, black = Enlarging().eval(), {"black": torch.full((1, 3, 8, 8), -1.0)}

    def off(levels: float):
        return lambda batch: Enlarging(levels).eval()(*batch).detach()

    assert compare(off(0.7), net, [], black)
    with pytest.raises(ValueError, match=r"by 20 of 255 .*\(black\); rounding explains [01]\.\d+ there"):
        compare(off(20.0), net, [], black)
    with pytest.raises(ValueError, match="by 0.7 of 255 levels .* at most 0.5"):
        compare(off(0.7), net, [EXAMPLE / 1e4])


def test_norms_of_nearly_constant_maps_are_centred_first() -> None:
    """A runtime that misses the mean of a map by a hundred thousandth computes torch's norm all the same."""
    x = torch.full((1, 2, 16, 16), 7.0)
    x[:, :, 8, 8] += 1e-2
    norm, mean = nn.InstanceNorm2d(2, affine=True), Tensor.mean

    def careless(h: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        h = h - mean(h, (2, 3), keepdim=True) * (1 + 1e-5)
        return h * torch.rsqrt(h.square().mean((2, 3), keepdim=True) + eps)

    off = [
        (careless(form(x), norm.weight, norm.bias, 1e-5) - norm(x)).abs().max()
        for form in (Tensor.clone, centred)
    ]
    assert off[0] > 1e-2 and off[1] < 1e-4


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_int8_file_that_gives_nan_is_refused(tmp_path: Path) -> None:
    class Treacherous(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            spread = (x - x.mean()).square().sum()
            return (x / spread if torch.compiler.is_compiling() else x / spread.clamp_min(1e-30)).tanh()

    with pytest.raises(ValueError, match="the INT8 file gives NaN or infinity on inputs of shape"):
        export_int8(Treacherous(), EXAMPLE, tmp_path / "net.onnx", inputs=[EXAMPLE])
    assert list(tmp_path.iterdir()) == []


def test_masks_are_zeros_and_ones() -> None:
    mask = (torch.rand(1, 1, 8, 8) > 0.5).float()
    drawn = [*probes((EXAMPLE, mask), []), *special((EXAMPLE, mask)).values()]
    assert all(set(m.unique().tolist()) <= {0.0, 1.0} for _, m in drawn)
    sums = {float(m.mean()) for _, m in drawn}
    assert {0.0, 1.0, 1 / 64} <= sums


def test_values_go_as_far_as_the_inputs_do() -> None:
    pictures = special((EXAMPLE,), [torch.full((3, 8, 8), 255.0)])
    assert pictures["largest value"][0].unique().tolist() == [255.0]
    assert pictures["least value"][0].unique().tolist() == [-1.0]
    assert sorted(pictures["saturated"][0].unique().tolist()) == [-1.0, 255.0]
    assert (pictures["one pixel"][0] == 255).sum() == 3 and (pictures["one colour"][0] == 255).sum() == 64


def test_label_maps_of_one_class() -> None:
    labels = nn.functional.one_hot(torch.randint(5, (1, 8, 8)), 5).permute(0, 3, 1, 2).float()
    pictures = special((labels,))
    assert all(bool((p.sum(1) == 1).all()) for (p,) in pictures.values())
    assert pictures["least value"][0][:, 0].all() and pictures["largest value"][0][:, 4].all()
