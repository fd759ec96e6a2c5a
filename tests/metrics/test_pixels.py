"""PSNR and SSIM: facts and a naive transcription."""

import math

import pytest
import torch
from torch import Tensor

from ganshrink.metrics import Pictures
from ganshrink.metrics.pixels import psnr_per_image, similarity, ssim_per_image


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def scaled(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def naive_ssim(x: Tensor, y: Tensor) -> float:
    """Wang et al. 2004, equation 13, window by window over one channel (H, W)."""
    ramp = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(ramp**2) / (2 * 1.5**2))
    w = torch.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11].double(), y[i : i + 11, j : j + 11].double()
            ma, mb = (w * a).sum(), (w * b).sum()
            va, vb, cov = (
                (w * (a - ma) ** 2).sum(),
                (w * (b - mb) ** 2).sum(),
                (w * (a - ma) * (b - mb)).sum(),
            )
            luminance = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
            values.append((luminance * (2 * cov + c2) / (va + vb + c2)).item())
    return sum(values) / len(values)


def test_psnr_of_a_constant_difference() -> None:
    x = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    y = torch.stack([x[0] + 1, x[1] + 51])
    assert psnr_per_image(x, y).tolist() == pytest.approx([20 * math.log10(255), 20 * math.log10(5)])


def test_psnr_of_equal_pictures_is_capped() -> None:
    x = picture(1, 3, 8, 8)
    assert psnr_per_image(x, x).tolist() == [100.0]


def test_ssim_equals_the_naive_transcription() -> None:
    x, noise = picture(2, 3, 14, 16), picture(2, 3, 14, 16, seed=1)
    y = (0.7 * x.float() + 0.3 * noise.float()).to(torch.uint8)
    expected = [sum(naive_ssim(x[n, c], y[n, c]) for c in range(3)) / 3 for n in range(2)]
    assert ssim_per_image(x, y).tolist() == pytest.approx(expected, abs=1e-4)
    assert 0.3 < expected[0] < 0.99


def test_ssim_is_one_on_itself_and_symmetric() -> None:
    x, y = picture(1, 3, 12, 12), picture(1, 3, 12, 12, seed=1)
    assert ssim_per_image(x, x).item() == pytest.approx(1.0, abs=1e-6)
    assert ssim_per_image(x, y).item() == pytest.approx(ssim_per_image(y, x).item(), abs=1e-6)


def test_ssim_of_a_picture_smaller_than_its_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 11x11, got 12x10"):
        ssim_per_image(picture(1, 3, 10, 12), picture(1, 3, 10, 12))


@pytest.mark.parametrize("measure", ["psnr", "ssim"])
def test_streaming_equals_all_at_once_and_the_mean_over_images(measure: str) -> None:
    x, y = picture(5, 3, 12, 12), picture(5, 3, 12, 12, seed=1)
    function = {"psnr": psnr_per_image, "ssim": ssim_per_image}[measure]
    metric = similarity(measure, against="target", split="test")  # type: ignore[arg-type]
    for size in (5, 2):
        metric.reset()
        for a, b in zip(scaled(x).split(size), scaled(y).split(size), strict=True):
            metric.update(Pictures(a, b))
        assert metric.compute().value == pytest.approx(function(x, y).mean().item(), rel=1e-5)


def test_the_saved_picture_is_what_is_scored() -> None:
    """Differences of under half a level vanish when a picture is saved."""
    x = scaled(picture(1, 3, 8, 8))
    metric = similarity("psnr", against="target", split="test")
    metric.update(Pictures(x + 0.4 / 127.5, x))
    assert metric.compute().value == 100.0


def test_agreement_is_with_the_teacher() -> None:
    x = torch.full((1, 3, 12, 12), 0.0)
    metric = similarity("psnr", against="teacher", split="val")
    assert metric.needs == {"teacher"}
    metric.update(Pictures(x, target=x + 0.5, teacher=x))
    value = metric.compute()
    assert (metric.name, value.value, value.better) == ("psnr_teacher", 100.0, "higher")
    assert value.protocol == {
        "split": "val",
        "images": 1,
        "size": "12x12",
        "quantisation": "rounded to uint8",
        "resize": "none",
        "against": "the teacher's output",
        "average": "over images",
        "peak": 255,
        "unit": "dB",
        "cap": 100.0,
    }
