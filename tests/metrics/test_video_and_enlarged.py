"""Flicker on pans, and PSNR and SSIM of luminance: closed forms, and what is left out at borders."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.data import TensorInputs, TensorPairs
from ganshrink.data.images import offered_by
from ganshrink.metrics import MetricsConfig, Value, build, evaluate
from ganshrink.metrics.luma import luma
from ganshrink.metrics.pixels import psnr_per_image, ssim_per_image


def scored(network: nn.Module, images: Tensor, target: Tensor | None = None, **settings: object) -> Value:
    [metric] = build(MetricsConfig(**settings))
    batch = {"input": images, "target": target}
    return evaluate(network, [batch, batch], [metric])[metric.name]


class Stripes(nn.Module):
    """Every other column brighter by 51 levels, wherever the picture is."""

    def forward(self, x: Tensor) -> Tensor:
        odd = torch.arange(x.shape[-1]) % 2
        return torch.zeros_like(x) - 1 + odd * 51 / 127.5


class Halved(nn.Module):
    """Every other pixel, enlarged again: it commutes with shifts by two pixels, not by one."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x[..., ::2, ::2], scale_factor=2.0)


def test_what_commutes_with_shifts_does_not_flicker_and_what_sticks_to_the_screen_does() -> None:
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    smooth = nn.Conv2d(3, 3, 5, padding=2)
    for network in (nn.Identity(), smooth, nn.Upsample(scale_factor=2.0)):
        assert scored(network, images, names=("flicker",)).value == 0, network
    assert scored(Stripes(), images, names=("flicker",)).value == pytest.approx(51)
    value = scored(Halved(), images, names=("flicker",))
    # Rows that are kept; in each frame a column is itself or its left neighbour.
    rows = images[..., 4:-4:2, :].add(1).mul(127.5).round()
    steps = []
    for step in range(4):
        columns = [(torch.arange(6, 42) + s) // 2 * 2 - s for s in (step, step + 1)]
        steps.append((rows[..., columns[1]] - rows[..., columns[0]]).abs().mean())
    assert value.value == pytest.approx(float(torch.stack(steps).mean()), rel=1e-6)
    assert (value.better, value.protocol["images"], value.protocol.get("scale")) == ("lower", 4, None)


def test_label_maps_are_not_moved() -> None:
    one_hot = F.one_hot(torch.zeros(16, 16, dtype=torch.int64), 3).permute(2, 0, 1).float()
    offered = offered_by(TensorPairs([(one_hot, torch.zeros(3, 16, 16))]))
    with pytest.raises(ValueError, match="flicker needs a picture as input, and these data have none"):
        build(MetricsConfig(names=("flicker",)), offered=offered)
    assert "pictures" in offered_by(TensorInputs([torch.rand(3, 16, 16)]))


def test_luminance_is_that_of_rgb2ycbcr() -> None:
    """MATLAB's values of black, white and the primaries."""
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    found = luma(colours.to(torch.uint8).view(5, 3, 1, 1)).flatten().tolist()
    assert found == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-4)


@pytest.mark.parametrize(("border", "cut"), [(None, 4), (0, 0), (3, 3)])
def test_the_border_of_an_enlarged_picture_is_left_out(border: int | None, cut: int) -> None:
    images, target = torch.rand(2, 3, 6, 8) * 2 - 1, torch.rand(2, 3, 24, 32) * 2 - 1
    network = nn.Upsample(scale_factor=4.0)
    made, wanted = (luma(x.add(1).mul(127.5).round().byte()) for x in (network(images), target))
    inside = (..., slice(cut, 24 - cut), slice(cut, 32 - cut))
    for name, measure in (("psnr_y", psnr_per_image), ("ssim_y", ssim_per_image)):
        value = scored(network, images, target, names=(name,), border=border)
        assert value.value == pytest.approx(measure(made[inside], wanted[inside]).mean().item(), rel=1e-5)
        assert value.protocol["scale"] == 4
    with pytest.raises(ValueError, match=r"metrics.border = 12 leaves nothing of pictures of 32x24"):
        scored(network, images, target, names=("psnr_y",), border=12)


def test_a_grey_difference_weighs_as_in_luminance() -> None:
    image = torch.zeros(1, 1, 12, 12)
    value = scored(nn.Identity(), image, image + 10 / 127.5, names=("psnr_y",))
    assert value.value == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)), abs=1e-3)
