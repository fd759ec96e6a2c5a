"""A student at work on pictures of any size, and of any channels."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ganshrink import nets
from ganshrink.data import DataConfig, InputSpec, open_dataset, read_image
from ganshrink.workflow.predict import parse_size, predict
from ganshrink.workflow.saved_networks import NetworkSpec, save_network


def saved(path, network, channels=3, white=None, size=(32, 32)):
    spec = NetworkSpec(
        net=None,
        example=[[1, channels, *size]],
        input=InputSpec(channels=channels, size=size, white=white),
    )
    save_network(path / "student.safetensors", network.eval(), spec)
    return path / "student.safetensors"


def photo(path, height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path / "wide.png")
    return path / "wide.png"


class FixedSize(nn.Module):
    """A generator with a weight for each place, as attention with positions has it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 32, 32))

    def forward(self, x):
        return torch.tanh(x * self.weight)


@pytest.mark.parametrize(
    ("network", "height", "width", "made"),
    [
        (nets.build("resnet6", ngf=4, blocks=1), 108, 192, (192, 108)),
        (nets.build("resnet6", ngf=4, blocks=1), 53, 37, (37, 53)),  # neither side a multiple of 4
        (nets.build("unet128", ngf=2), 100, 150, (150, 100)),  # sides are multiples of 128 inside
        (nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.PixelShuffle(2), nn.Tanh()), 30, 50, (100, 60)),
        (nn.Sequential(nn.Conv2d(3, 3, 4, 2, 1), nn.Tanh()), 31, 50, (25, 16)),
    ],
    ids=["resnet", "odd", "unet", "twice as large", "half as large"],
)
def test_a_picture_keeps_its_size(tmp_path, network, height, width, made):
    size = (128, 128) if "U" in type(network).__name__ else (32, 32)
    file = saved(tmp_path, network, size=size)
    predict(file, photo(tmp_path, height, width), tmp_path / "out.png", original=network)
    assert read_image(tmp_path / "out.png").size == made


def test_what_is_filled_up_does_not_move_the_picture(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3)[..., None, None])
        network[0].bias.zero_()

    class Even(nn.Sequential):
        def forward(self, x):
            if x.shape[2] % 16 or x.shape[3] % 16:
                raise ValueError("sides must be multiples of 16")
            return super().forward(x)

    even = Even(*network)
    predict(saved(tmp_path, even), photo(tmp_path, 21, 43), tmp_path / "out.png", original=even)
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "out.png")), np.asarray(Image.open(tmp_path / "wide.png"))
    )


def test_a_student_of_one_size_alone_says_so(tmp_path, caplog):
    network = FixedSize()
    predict(saved(tmp_path, network), photo(tmp_path, 108, 192), tmp_path / "out.png", original=network)
    assert read_image(tmp_path / "out.png").size == (32, 32)
    assert "pictures of 192x108 are resized to 32x32, at which the student was trained" in caplog.text


def test_a_size_that_is_asked_for(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    network = nets.build("resnet6", ngf=4, blocks=1)
    file, picture = saved(tmp_path, network), photo(tmp_path, 40, 60)
    for size, made in ((parse_size("16x24"), (24, 16)), (parse_size("trained"), (32, 32)), (None, (60, 40))):
        predict(file, picture, tmp_path / "out.png", original=network, size=size)
        assert read_image(tmp_path / "out.png").size == made
    for text in ("256", "0x8", "ax8", "1x2x3"):
        with pytest.raises(ValueError, match=f"--size {text}: write HEIGHTxWIDTH"):
            parse_size(text)
    assert not caplog.records


@pytest.mark.parametrize(("channels", "out"), [(1, 1), (1, 2), (3, 4), (13, 3)])
def test_pictures_of_other_channels(tmp_path, channels, out):
    network = nn.Sequential(nn.Conv2d(channels, out, 3, 1, 1), nn.Tanh())
    file = saved(tmp_path, network, channels)
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).random((20, 24, channels)).astype(np.float32)
    np.save(tmp_path / "in" / "a.npy", values)
    [written] = predict(file, tmp_path / "in", tmp_path / "out", original=network)
    suffix = ".npy" if out == 2 else ".png"
    assert written.name == f"a{suffix}"
    found = np.load(written) if out == 2 else np.asarray(Image.open(written)) / 255
    with torch.no_grad():
        expected = network(torch.from_numpy(values).movedim(-1, 0)[None] * 2 - 1)[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(found.reshape(20, 24, out), expected / 2 + 0.5, atol=1 / 255)
    if out == 2:
        with pytest.raises(ValueError, match="images of its channels are no PNG; name a .npy file"):
            predict(file, tmp_path / "in" / "a.npy", tmp_path / "b.png", original=network)


def test_a_deep_picture_is_read_and_written_as_its_data_were(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.zero_()
    levels = np.linspace(0, 4095, 1024).reshape(32, 32).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "ct.png")
    data = DataConfig(name="photos", photos=str(tmp_path), size=32, in_channels=1, white=4095)
    assert len(open_dataset(data)) == 1
    file = saved(tmp_path, network, 1, white=4095)
    predict(file, tmp_path / "ct.png", tmp_path / "out.png", original=network)
    assert np.abs(np.asarray(Image.open(tmp_path / "out.png")).astype(int) - levels).max() <= 1
