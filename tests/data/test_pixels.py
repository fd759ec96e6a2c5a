"""Pictures of other channels and depths than 8-bit RGB: read, resized, shown and written."""

import logging
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import (
    DataConfig,
    InputSpec,
    as_picture,
    check,
    open_dataset,
    prepare,
    read_image,
    write_picture,
)
from ganshrink.data.paired import PairedImages
from ganshrink.data.pixels import PictureReader, enlarged, resize


def ramp(bits: int, dtype=np.uint16, size: int = 32) -> np.ndarray:
    return np.linspace(0, 2**bits - 1, size * size).reshape(size, size).astype(dtype)


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """A colour PNG with 16 bits a channel, which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), b"IDAT": zlib.compress(rows)}
    found = b"\x89PNG\r\n\x1a\n"
    for kind, body in (parts | {b"IEND": b""}).items():
        found += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return found


@pytest.mark.parametrize(
    ("bits", "suffix"), [(10, "png"), (12, "png"), (12, "tif"), (14, "tif"), (16, "png")]
)
def test_no_grey_level_of_a_deep_picture_is_lost_where_white_is_said(tmp_path, bits, suffix):
    levels = ramp(bits)
    Image.fromarray(levels).save(tmp_path / f"ct.{suffix}")
    white = float(2**bits - 1)
    pixels = PictureReader(1, white)(tmp_path / f"ct.{suffix}")
    assert len(np.unique(pixels)) == len(np.unique(levels))
    np.testing.assert_allclose(pixels[..., 0], levels * (255 / white), rtol=1e-6)
    tensor = prepare(tmp_path / f"ct.{suffix}", InputSpec(channels=1, size=(32, 32), white=white))
    assert (tensor.min(), tensor.max()) == (-1, 1)


@pytest.mark.parametrize(("bits", "guess"), [(10, 1023), (12, 4095), (14, 16383)])
def test_a_picture_far_below_white_is_warned_of_with_the_setting(tmp_path, caplog, bits, guess):
    Image.fromarray(ramp(bits)).save(tmp_path / "ct.png")
    read_image(tmp_path / "ct.png")
    assert f"ct.png: the brightest value of these images is {guess}" in caplog.text
    caplog.clear()
    config = {"name": "photos", "photos": str(tmp_path), "size": 16, "in_channels": 1}
    open_dataset(DataConfig(**config))
    assert f"data.white = {guess}" in caplog.text
    caplog.clear()
    open_dataset(DataConfig(**config, white=guess))
    read_image(tmp_path / "ct.png", white=guess)
    assert not caplog.records


def test_floating_point_and_sixteen_bits_of_colour(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    levels = ramp(8, np.float32) / 255
    Image.fromarray(levels).save(tmp_path / "depth.tif")
    np.testing.assert_allclose(PictureReader(1)(tmp_path / "depth.tif")[..., 0], 255 * levels, rtol=1e-6)
    Image.fromarray(100 * levels).save(tmp_path / "metres.tif")
    with pytest.raises(
        ValueError, match=r"metres.tif: its values go from 0 to 100, and white is 1: set data.white"
    ):
        PictureReader(1)(tmp_path / "metres.tif")
    assert PictureReader(3, 100)(tmp_path / "metres.tif").max() == 255
    (tmp_path / "wide.png").write_bytes(png_of_16_bits(ramp(12)[..., None].repeat(3, -1)))
    reader = PictureReader(3)
    reader(tmp_path / "wide.png")
    assert reader.brightest == (15 * 257, 65535)
    with pytest.raises(
        ValueError, match=r"wide.png: it holds 16 bits of colour, of which only 8 can be read"
    ):
        PictureReader(3, 4095)(tmp_path / "wide.png")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_a_picture_file_is_read_as_the_channels_that_are_wanted(tmp_path, channels, mode):
    colour = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    pixels = PictureReader(channels)(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(colour).convert("RGBA").convert(mode)).reshape(8, 12, channels)
    assert np.array_equal(pixels, expected)
    write_picture(tmp_path / "b.png", torch.from_numpy(pixels / 127.5 - 1).movedim(-1, 0))
    if channels != 2:  # two channels are not always grey and alpha
        assert np.array_equal(PictureReader(channels)(tmp_path / "b.png"), pixels)


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 10000), (np.float32, 1)])
def test_arrays_hold_any_number_of_channels(tmp_path, layout, dtype, white):
    bands = np.random.default_rng(0).random((8, 12, 13)) * white
    array = bands.astype(dtype)
    np.save(tmp_path / "s.npy", array if layout == "HWC" else array.transpose(2, 0, 1))
    reader = PictureReader(13, None if white in (1, 255) else white)
    np.testing.assert_allclose(reader(tmp_path / "s.npy"), array * (255 / white), rtol=1e-5)
    with pytest.raises(ValueError, match="3 channels are wanted: set data.in_channels"):
        PictureReader(3)(tmp_path / "s.npy")


def test_an_array_that_is_none_or_holds_code_is_one_line(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"no array")
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 4, 5)))
    for name in "abc":
        with pytest.raises(ValueError, match=f"cannot use image .*{name}.npy: ") as error:
            PictureReader(3)(tmp_path / f"{name}.npy")
        assert "\n" not in str(error.value)


def test_thirteen_bands_are_resized_each_alone_like_a_picture():
    colour = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    many = np.concatenate([colour] * 5, -1)[..., :13].astype(np.float32)
    found, expected = resize(many, (8, 12)), resize(colour, (8, 12))
    assert found.shape == (8, 12, 13)
    assert np.abs(found[..., :3].round() - expected).max() <= 1


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (8, 12)), (2, (8, 24)), (3, (8, 12, 3)), (4, (8, 12, 4)), (13, (32, 48))]
)
def test_a_person_sees_every_channel(channels, shape):
    image = torch.rand(channels, 8, 12) * 2 - 1
    picture = as_picture(image)
    assert picture.shape == shape and picture.dtype == np.uint8
    last = ((image[-1] + 1) * 127.5).round().numpy()
    places = {1: picture, 2: picture[:, 12:], 13: picture[24:, :12]}
    assert np.array_equal(places[channels] if channels in places else picture[..., -1], last)


def test_a_small_picture_is_enlarged_by_whole_pixels():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert enlarged(picture, (2, 3), (8, 12)).tolist() == np.kron(picture, np.ones((4, 4))).tolist()
    assert enlarged(picture, (2, 3), (1, 1)) is not None


def test_images_are_written_with_the_depth_and_channels_that_they_have(tmp_path):
    levels = ramp(12).astype(np.float32)
    image = torch.from_numpy(levels / 2047.5 - 1)[None]
    write_picture(tmp_path / "a.png", image, white=4095)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), levels)
    write_picture(tmp_path / "a.npy", image.repeat(5, 1, 1), white=4095)
    assert np.load(tmp_path / "a.npy").shape == (32, 32, 5)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy")[..., 4], levels, atol=1e-3)


def pairs(tmp_path, small: tuple[int, int], large: tuple[int, int], count: int = 2) -> dict[str, str]:
    """Pictures in two folders, the second so much larger, whose pixels tell where they are; DIV2K's names."""
    for folder, (height, width), ending in (("lr", small, "x4"), ("hr", large, "")):
        (tmp_path / folder / "train").mkdir(parents=True)
        rows, columns = np.mgrid[0:height, 0:width]
        scale = large[0] // height, large[1] // width
        pixels = np.stack([rows * scale[0], columns * scale[1], 0 * rows], -1).astype(np.uint8)
        for index in range(count):
            Image.fromarray(pixels).save(tmp_path / folder / f"train/{index:04d}{ending}.png")
    return {"a": str(tmp_path / "lr/{split}"), "b": str(tmp_path / "hr/{split}")}


@pytest.mark.parametrize(
    ("direction", "size", "target"),
    [("AtoB", 8, 16), ("AtoB", 8, 24), ("AtoB", [8, 16], [32, 32]), ("BtoA", 16, 8)],
)
def test_crops_of_two_sizes_show_the_same_place(tmp_path, direction, size, target):
    config = DataConfig(size=size, target_size=target, direction=direction, name="paired", a="a", b="b")
    (height, width), (tall, wide) = config.height_width, config.target_height_width
    small, large = (20 * height // 8, 20 * width // 8), (20 * tall // 8, 20 * wide // 8)
    if direction == "BtoA":
        small, large = large, small
    folders = pairs(tmp_path, small, large)
    images = open_dataset(config.model_copy(update={**folders, "load_size": "native"}))
    places = set()
    for seed in range(8):
        sample = images.sample(0, np.random.default_rng(seed))
        assert sample["input"].shape == (3, height, width) and sample["target"].shape == (3, tall, wide)
        corner, other = ((sample[key][:2] + 1).mul(127.5).amin((1, 2)) for key in ("input", "target"))
        assert (corner - other).abs().max() < 1e-3
        places.add(tuple(corner.round().tolist()))
    assert len(places) > 4
    assert images.sample(1, None)["target"].shape == (3, tall, wide)


def test_large_pictures_alone_give_both_sizes(tmp_path):
    folders = pairs(tmp_path, (64, 80), (64, 80))
    config = DataConfig(name="paired", size=8, target_size=32, load_size="native", **folders)
    images = open_dataset(config)
    sample = images.sample(0, np.random.default_rng(0))
    pooled = torch.nn.functional.avg_pool2d(sample["target"], 4)
    assert (pooled - sample["input"])[:2, 2:-2, 2:-2].abs().max() < 0.03
    assert images.fingerprint() != open_dataset(config.model_copy(update={"target_size": 16})).fingerprint()


def test_sizes_that_do_not_fit_are_named(tmp_path):
    folders = pairs(tmp_path, (16, 16), (48, 48))
    with pytest.raises(ValueError, match="neither as large nor 4 times as large"):
        open_dataset(DataConfig(name="paired", size=8, target_size=32, **folders))
    with pytest.raises(ValueError, match="16 x 16 pixels, smaller than the 24 x 24"):
        open_dataset(DataConfig(name="paired", size=24, target_size=72, load_size="native", **folders))
    with pytest.raises(ValueError, match="target_size 100 is no whole multiple or part of size 64"):
        DataConfig(name="paired", size=64, target_size=100, **folders)


@pytest.mark.parametrize(("channels", "out"), [(1, 1), (1, 4), (3, 1)])
def test_pairs_of_other_channels(tmp_path, channels, out):
    folders = pairs(tmp_path, (16, 16), (16, 16))
    config = DataConfig(
        name="paired", size=8, in_channels=channels, out_channels=out, direction="BtoA", **folders
    )
    images = open_dataset(config)
    sample = images.sample(1, np.random.default_rng(0))
    assert (sample["input"].shape, sample["target"].shape) == ((channels, 8, 8), (out, 8, 8))
    assert (images.in_channels, images.out_channels) == (channels, out)
    assert check(PairedImages(config, "train")) == []
