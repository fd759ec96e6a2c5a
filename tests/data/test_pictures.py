import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import read_image, read_labels, to_tensor, to_uint8, write_png
from ganshrink.data.pictures import read_size
from ganshrink.data.pixels import PictureReader


def gradient(height=6, width=10):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width) * 20
    pixels[..., 1] = np.arange(height)[:, None] * 30
    return pixels


def read(image, path, **options):
    image.save(path, **options)
    return np.asarray(read_image(path))


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_orientation_comes_out_upright(tmp_path, turn):
    upright = gradient()
    stored = {  # what a camera held that way writes, by the EXIF standard's definition of rows and columns
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "a.png"
    assert np.array_equal(read(Image.fromarray(np.ascontiguousarray(stored)), path, exif=exif), upright)
    assert read_size(path) == (6, 10)


def test_cmyk_is_converted(tmp_path):
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))  # magenta and yellow ink: red
    pixels = read(image, tmp_path / "a.jpg", quality=100)
    assert pixels.shape == (4, 4, 3)
    assert (pixels[..., 0] > 200).all() and (pixels[..., 1:] < 50).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, dtype):
    grey = np.array([[0, 257 * 100, 65535]], dtype)
    pixels = read(Image.fromarray(grey), tmp_path / "a.tif")
    assert np.array_equal(pixels, np.array([[[0] * 3, [100] * 3, [255] * 3]]))


def test_alpha_is_laid_on_white(tmp_path):
    image = np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)
    assert read(Image.fromarray(image), tmp_path / "a.png").tolist() == [[[255, 0, 0], [255, 255, 255]]]
    grey = Image.merge("LA", (Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 0)))
    assert read(grey, tmp_path / "b.png").tolist() == [[[255, 255, 255]]]


def test_palettes_are_looked_up_and_their_transparency_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert read(image, tmp_path / "a.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read(image, tmp_path / "b.png", transparency=1).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert read(image, tmp_path / "c.png", transparency=b"\xff\x00").tolist()[0][1] == [255, 255, 255]


def test_grey_and_bilevel_become_rgb(tmp_path):
    assert read(Image.new("L", (2, 2), 77), tmp_path / "a.png").tolist() == [[[77] * 3] * 2] * 2
    assert read(Image.new("1", (1, 1), 1), tmp_path / "b.png").tolist() == [[[255] * 3]]


@pytest.fixture(scope="module")
def broken_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    whole = folder / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = whole.read_bytes()
    whole.unlink()
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("this is not a picture")
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "book.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.array([[-1, 3]], np.float32)).save(folder / "float.tif")
    Image.new("1", (20000, 20000)).save(folder / "huge.png")
    Image.new("1", (10000, 9000)).save(folder / "big.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.png", "the file is empty"),
        ("text.png", "not an image in a known format"),
        ("truncated.jpg", "truncated"),
        ("film.gif", "2 frames"),
        ("book.tif", "2 frames"),
        ("float.tif", "from -1 to 3, and white is 1"),
        ("huge.png", "over the limit"),
        ("big.png", "over the limit"),
    ],
)
def test_an_unusable_file_is_one_line_naming_it(broken_files, name, reason):
    with pytest.raises(ValueError) as error:
        read_image(broken_files / name)
    message = str(error.value)
    assert name in message and reason in message and "\n" not in message


def test_every_cut_of_a_file_is_a_value_error_or_has_all_pixels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(gradient(20, 20)).save(path)
    content = path.read_bytes()
    refused = 0
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            assert np.array_equal(np.asarray(read_image(path)), gradient(20, 20))
        except ValueError as error:
            assert "a.png" in str(error)
            refused += 1
    assert refused > len(content) - 24  # a PNG ends in 24 bytes that hold no pixel


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_label_ids_are_read_not_colours(tmp_path, mode):
    ids = np.array([[0, 1, 11], [200, 255, 3]], np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768, np.uint8).tobytes())
    assert image.mode == mode
    image.save(tmp_path / "a.png")
    found = read_labels(tmp_path / "a.png")
    assert found.dtype == np.int32 and np.array_equal(found, ids)


def test_labels_in_colour_or_jpeg_are_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    Image.new("L", (2, 2)).save(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match="a.png: .*one class id per pixel"):
        read_labels(tmp_path / "a.png")
    with pytest.raises(ValueError, match="b.jpg: JPEG blurs"):
        read_labels(tmp_path / "b.jpg")


def test_tensors_and_pixels_are_inverse_to_each_other(tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, -1)
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(to_uint8(tensor), pixels)
    assert to_uint8(tensor[None] * 9).shape == (1, 16, 16, 3)
    assert to_uint8(torch.tensor([[[-7.0, 7.0]]])).ravel().tolist() == [0, 255]
    write_png(tmp_path / "new folder" / "ü.png", pixels)
    assert np.array_equal(np.asarray(read_image(tmp_path / "new folder" / "ü.png")), pixels)


@pytest.mark.parametrize(("shape", "channels"), [((6, 10), 1), ((6, 10, 5), 5), ((5, 6, 10), 5)])
def test_arrays_have_their_sides_wherever_channels_stand(tmp_path, shape, channels):
    np.save(tmp_path / "a.npy", array := np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    read = PictureReader(channels)(tmp_path / "a.npy")
    assert read.shape == (6, 10, channels) and read_size(tmp_path / "a.npy") == (6, 10)
    assert np.array_equal(np.moveaxis(read, -1, 0) if shape[0] == 5 else read.reshape(shape), array)
