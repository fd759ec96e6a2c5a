"""A generator that does not take the data's size: what is said about it."""

import pytest
import torch
from torch import nn

import ganshrink
from ganshrink import nets
from ganshrink.workflow.fitting import sizes_told
from ganshrink.workflow.net_config import NetConfig


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        (
            "unet256",
            (128, 128),
            "multiples of 256, such as data.size = 256; net.name = 'unet128' takes 128 x 128",
        ),
        ("unet256", (200, 128), "multiples of 256, such as data.size = 256"),
        ("unet128", (128, 192), "multiples of 128, such as data.size = [128, 256]"),
        ("resnet6", (29, 32), "multiples of 4, such as data.size = 32"),
    ],
)
def test_the_multiple_and_a_network_that_fits_are_named(name, size, said):
    net = NetConfig(name=name, ngf=2)
    network = nets.build(name, ngf=2).eval()
    assert sizes_told(network, torch.zeros(3, *size), net, size) == f"its sides must be {said}"


def test_what_has_no_picture_or_no_size_that_fits_says_nothing():
    net = NetConfig(name="mine")
    assert sizes_told(nn.Conv2d(4, 3, 1), torch.zeros(3, 8, 8), net) == ""
    assert sizes_told(nn.Linear(4, 4), torch.zeros(4), net) == ""


def test_the_line_stands_before_any_training(tmp_path):
    pictures = [torch.zeros(3, 130, 128)] * 2
    network = nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.ConvTranspose2d(2, 3, 4, 4), nn.Tanh())
    with pytest.raises(ValueError, match="cannot take the data's inputs .* multiples of 128"):
        ganshrink.compress(
            nets.build("unet128", ngf=2), None, pictures, task="image2image", run=tmp_path / "a"
        )
    with pytest.raises(ValueError, match=r"multiples of 4, such as data.size = \[132, 128\]"):
        ganshrink.compress(network, None, [(image, image) for image in pictures], run=tmp_path / "b")
    larger = nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2), nn.Tanh())
    with pytest.raises(ValueError, match=r"makes images \(3, 260, 256\), .*data.target_size = \[260, 256\]"):
        ganshrink.compress(larger, None, [(image, image) for image in pictures], run=tmp_path / "c")
