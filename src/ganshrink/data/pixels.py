"""Picture files of any number of channels and any depth as pixels, and tensors of any number of channels as pictures.

Pixels are (H, W, C): uint8 where the file has 8 bits, else float32 in 0..255 with fractions, so that no depth is lost.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ganshrink.data.config import DataConfig
from ganshrink.data.pictures import (
    DEEP,
    convert_rgb,
    dark,
    deep_colour,
    load_array,
    open_image,
    printable,
    scaled,
    to_uint8,
    upright,
    upright_levels,
    white_of,
    write_pixels,
    write_png,
)
from ganshrink.system.atomic import replacing

logger = logging.getLogger(__name__)

ARRAY = ".npy"
PNG_CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha


class PictureReader:
    """Reads picture files as pixels of so many channels, and notes how bright those deeper than 8 bits get.

    Args:
        channels: 1: grey; 2: grey and alpha; 3: RGB; 4: RGB and alpha. Other counts are in .npy files alone, which hold
            (H, W, C), (C, H, W) or (H, W).
        white: the value of white in files deeper than 8 bits; None: the largest of the type, 1 for floating-point.
    """

    def __init__(self, channels: int = 3, white: float | None = None) -> None:
        self.channels, self.white = channels, white
        self.brightest: tuple[float, float] | None = None  # the largest value, and white

    def __call__(self, path: str | Path) -> np.ndarray:
        """The pixels (H, W, C) of a file, black 0 and white 255.

        Raises:
            ValueError: for a file that cannot be used, or has other channels; the message names it.
        """
        if Path(path).suffix.lower() != ARRAY:
            with open_image(path) as image:
                return self.convert(image)
        array = load_array(path)
        try:
            return self.convert_array(array)
        except ValueError as error:
            raise ValueError(f"cannot use image {printable(path)}: {error}") from None

    def convert(self, image: Image.Image) -> np.ndarray:
        """The pixels of an opened picture, as of a file."""
        if self.channels > 4:
            raise ValueError(
                f"a picture has at most 4 channels, {self.channels} are wanted: save such images as .npy, (H, W, C)"
            )
        if image.mode in DEEP:
            grey = self._scaled(*upright_levels(image))[..., None]
            return _with_alpha(grey if self.channels < 3 else grey.repeat(3, -1), self.channels)
        deep = deep_colour(image)
        if deep and self.white is not None:
            raise ValueError(
                "it holds 16 bits of colour, of which only 8 can be read: save such images as .npy to use data.white"
            )
        pixels = self._eight_bits(image)
        if deep:
            self._note(257.0 * float(pixels.max()), 65535.0)
        return pixels

    def _eight_bits(self, image: Image.Image) -> np.ndarray:
        if self.channels in (2, 4):
            return np.asarray(upright(image).convert("LA" if self.channels == 2 else "RGBA"))
        rgb = convert_rgb(image)
        return np.asarray(rgb) if self.channels == 3 else np.asarray(rgb.convert("L"))[..., None]

    def convert_array(self, array: np.ndarray) -> np.ndarray:
        """The pixels of an array (H, W), (H, W, C) or (C, H, W), as of a file."""
        if array.ndim == 2:
            array = array[..., None]
        if array.shape[-1] != self.channels and array.shape[0] == self.channels:
            array = array.transpose(1, 2, 0)
        if array.shape[-1] != self.channels:
            raise ValueError(
                f"it has the shape {array.shape}, and {self.channels} channels are wanted: set data.in_channels or "
                "data.out_channels"
            )
        if array.dtype == np.uint8:
            return np.array(array)
        return self._scaled(array.astype(np.float64), white_of(array.dtype))

    def _scaled(self, levels: np.ndarray, most: float) -> np.ndarray:
        """Levels as float32 in 0..255; `most` is white unless a setting says otherwise."""
        white = self.white or most
        pixels = scaled(levels, white).astype(np.float32)
        self._note(float(levels.max()), white)
        return pixels

    def _note(self, high: float, white: float) -> None:
        self.brightest = max(self.brightest or (0.0, white), (high, white))


def readers(config: DataConfig) -> tuple[PictureReader, PictureReader]:
    """Of a data set's inputs and targets."""
    input = PictureReader(config.in_channels or 3, config.white)
    return input, PictureReader(config.out_channels or 3, config.white)


def warn_dark(readers: Iterable[PictureReader]) -> None:
    """Say so where all that one of them read stays far below white."""
    for reader in readers:
        if reader.brightest is not None and (line := dark(*reader.brightest)):
            logger.warning(line)


def _with_alpha(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels, with an opaque alpha channel where one is wanted."""
    if pixels.shape[-1] == channels:
        return pixels
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels at (H, W), by bicubic interpolation."""
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    if pixels.dtype == np.uint8 and pixels.shape[2] <= 4:  # Pillow weighs colours by alpha
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
        return resized.reshape(height, width, -1)
    planes = (Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, -1, 0))
    sized = [np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(sized, -1).clip(0, 255)


def as_picture(image: torch.Tensor) -> np.ndarray:
    """A person's view of an image (C, H, W) in [-1, 1], uint8: one channel grey (H, W), three RGB (H, W, 3), four RGB with
    alpha (H, W, 4); the channels of any other count as grey tiles, in order, beside and below each other."""
    channels = image.shape[0]
    pixels = to_uint8(image)
    if channels == 1:
        return pixels[..., 0]
    return pixels if channels in PNG_CHANNELS else tiles(pixels)


def tiles(pixels: np.ndarray) -> np.ndarray:
    """Channels of (H, W, C) as one grey picture, in rows of about as many as there are rows."""
    height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    whole = np.zeros((rows * columns, height, width), pixels.dtype)
    whole[:channels] = np.moveaxis(pixels, -1, 0)
    return whole.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def enlarged(picture: np.ndarray, size: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    """A picture of an image of a size (H, W), each pixel repeated as often as goes into the wanted size."""
    rows, columns = (max(1, want // have) for have, want in zip(size, wanted, strict=True))
    return picture.repeat(rows, 0).repeat(columns, 1)


def write_picture(path: str | Path, image: torch.Tensor, *, white: float | None = None) -> None:
    """Write an image (C, H, W) in [-1, 1] as a PNG (JPEG or WebP where the ending says so), or as .npy: float32 (H, W, C),
    black 0.

    Args:
        white: the value of white; None: 255 in a PNG, which then has 8 bits, 1 in .npy. With it, a grey PNG has 16.
    """
    path = Path(path)
    values = torch.nan_to_num(image.detach().float().cpu()).clamp(-1, 1).add(1).mul((white or 1) / 2)
    if path.suffix.lower() == ARRAY:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, values.movedim(0, -1).contiguous().numpy())
    elif white is not None and white > 255 and image.shape[0] == 1:
        write_png(path, values[0].round().numpy().astype(np.uint16))
    else:
        write_pixels(path, as_picture(image))
