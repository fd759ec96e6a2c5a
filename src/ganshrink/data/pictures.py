"""Image files to pixels and back: whatever a user's file holds, the same RGB or class ids come out of it.

Colour is 8-bit RGB (`ganshrink.data.pixels` reads other channels and depths); a file that cannot be used is one
ValueError naming it. Colour profiles (ICC) are ignored: the stored numbers are the colours.
"""

import logging
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from ganshrink.system.atomic import replacing

logger = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Only these decoders are tried, whatever the suffix says: Pillow knows others that start programs (EPS).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
QUALITY = 95  # of written JPEGs and WebPs
MAX_PIXELS = 89_478_485  # Pillow's own limit for a picture that is not an attack
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
DEEP = (*_SIXTEEN_BIT, "F")  # Pillow's modes of more than 8 bits; its own conversion from them only clips
DARK = 0.5  # of white: what stays below it has fewer bits than its file
# How a file may store class ids, and the factor by which Pillow spreads small ones over 0..255.
_ID_LAYOUTS = {"1": 1, "L": 1, "L;2": 85, "L;4": 17, "P": 1, "P;1": 1, "P;2": 1, "P;4": 1}


def printable(path: str | Path) -> str:
    """A path on one line that every terminal, JSON and HTML file takes: control characters and bytes that are
    no UTF-8 become escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def open_image(path: str | Path, *, whole: bool = True) -> Iterator[Image.Image]:
    """A picture file, opened; whatever goes wrong with it inside is a ValueError that names it."""
    try:
        _check_file(Path(path))
        # A file, not its name: given a name, Pillow maps the pixels and misreads turned grey TIFFs.
        with Path(path).open("rb") as file:
            image = _open_still(file)
            if whole and image.format == "PNG":
                image.verify()  # decoding does not look at the checksums
                file.seek(0)
                image = _open_still(file)
            yield image
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise anything at all on a hostile file
        raise ValueError(f"cannot use image {printable(path)}: {_reason(error)}") from error


def _open_still(file: BinaryIO) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are over the limit of {MAX_PIXELS}")
    frames = getattr(image, "n_frames", 1)
    # A phone's MPO is a JPEG with a second view behind it; others with frames are films or books.
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"it has {frames} frames or pages: one still picture is needed")
    return image


def _check_file(path: Path) -> None:
    """Refuse what is no file with content before it is opened: opening a pipe waits for ever."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError("it is a link to a file that is not there") from None
        raise
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a pipe, a socket or a device, not a file")
    if status.st_size == 0:
        raise ValueError("the file is empty")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is not an image in a known format ({', '.join(FORMATS)}), or its header is broken"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"its pixels are over the limit of {MAX_PIXELS}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata say nothing about the pixels
        return 1


def upright(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF data say."""
    return ImageOps.exif_transpose(image) if _orientation(image) in range(2, 9) else image


def convert_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """Any picture as 8-bit RGB, upright (EXIF), alpha laid on white; deeper ones are scaled to 8 bits.

    Raises:
        ValueError: if levels are negative or above white.
    """
    if image.mode in DEEP:
        levels, most = upright_levels(image)
        return Image.fromarray(np.round(scaled(levels, white or most)).astype(np.uint8)).convert("RGB")
    image = upright(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def white_of(dtype: np.dtype[Any]) -> float:
    """The value of white in numbers of a type, where nothing says otherwise: 255, 65535, 1 for floating-point."""
    return 1.0 if dtype.kind == "f" else 255.0 if dtype.itemsize == 1 else 65535.0


def upright_levels(image: Image.Image) -> tuple[np.ndarray, float]:
    """The stored levels (H, W) of a grey picture of more than 8 bits, upright, black 0; and the value of white."""
    tags = getattr(image, "tag_v2", {})
    white = 1.0 if image.mode == "F" else 4095.0 if tags.get(_BITS) == (12,) else 65535.0
    levels = np.asarray(upright(image), dtype=np.float64)
    if tags.get(_PHOTOMETRIC) == 0:  # white is stored as 0; Pillow turns that round in 8 bits only
        levels = white - levels
    transparent = image.info.get("transparency")
    return np.where(levels == transparent, white, levels) if isinstance(transparent, int) else levels, white


def scaled(levels: np.ndarray, white: float) -> np.ndarray:
    """Levels 0..white as float64 in 0..255.

    Raises:
        ValueError: if they are not in there.
    """
    low, high = float(levels.min()), float(levels.max())
    if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high > white:
        raise ValueError(
            f"its values go from {low:g} to {high:g}, and white is {white:g}: set data.white to the value of white, or "
            f"scale them to 0..{white:g}"
        )
    return levels * (255 / white)


def dark(high: float, white: float) -> str | None:
    """The line that says that pictures stay far below white, as those of 12 bits in files of 16 do; None: they do not."""
    if high >= DARK * white:
        return None
    guess = f", such as data.white = {2 ** math.ceil(math.log2(high + 1)) - 1}" if high > 1 else ""
    return (
        f"the brightest value of these images is {high:g} where white is {white:g}, so that they are nearly black: set "
        f"data.white to the value of white{guess}"
    )


def deep_colour(image: Image.Image) -> bool:
    """Whether a file holds 16 bits of colour, of which Pillow reads 8; known until its pixels are decoded."""
    return image.mode not in DEEP and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def read_image(path: str | Path, *, white: float | None = None) -> Image.Image:
    """A picture file as an upright 8-bit RGB image.

    Args:
        white: the value of white in a file of more than 8 bits; none: the largest of its type. A picture far below it is
            warned of.

    Raises:
        ValueError: broken, truncated, empty, animated or enormous file; the message names it.
        FileNotFoundError: no such file.
    """
    with open_image(path) as image:
        if image.mode in DEEP:
            levels, most = upright_levels(image)
            if line := dark(float(levels.max()), white or most):
                logger.warning("%s: %s", printable(path), line)
        return convert_rgb(image, white)


def convert_labels(image: Image.Image) -> np.ndarray:
    """A label picture's class ids, int32 (H, W), upright: the stored numbers, never a palette's colours.

    Raises:
        ValueError: if the picture holds colours, alpha, fractions, or numbers that are not stored as they are.
    """
    if image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        raise ValueError("JPEG blurs class ids: label maps must be PNG")
    if image.format == "GIF":
        raise ValueError("programs that write GIF renumber class ids: label maps must be PNG")
    if image.mode not in ("1", "L", "P", *_SIXTEEN_BIT):
        kind = {"F": "a floating-point picture", "LA": "a picture with alpha"}.get(
            image.mode, "a colour picture"
        )
        raise ValueError(f"label maps hold one class id per pixel, this is {kind} (mode {image.mode})")
    factor = _id_factor(image)
    return np.array(upright(image)).astype(np.int32) // factor


def _id_factor(image: Image.Image) -> int:
    """By what to divide Pillow's numbers for the stored ones; known from the file until its pixels are decoded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return 1
    arguments = tiles[0][3]
    layout = arguments[0] if isinstance(arguments, tuple) else arguments
    whole = isinstance(layout, str) and layout.split(";")[0] == "I" and layout != "I;12"
    scaled = tiles[0][0].startswith("ppm")  # a PGM whose largest number is not 255
    inverted = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    if scaled or inverted or not (whole or layout in _ID_LAYOUTS):
        raise ValueError("its numbers are scaled or inverted, not plain class ids: save it as an 8-bit PNG")
    return _ID_LAYOUTS.get(layout, 1)


def read_labels(path: str | Path) -> np.ndarray:
    """The class ids in a label PNG (modes 1, L, P, I;16), int32 (H, W). Raises as `read_image`."""
    with open_image(path) as image:
        return convert_labels(image)


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the upright picture, mostly from the file's header alone. Raises as `read_image`."""
    if Path(path).suffix.lower() == ".npy":
        shape = load_array(path).shape
        return shape[1:] if len(shape) == 3 and shape[0] < shape[2] else shape[:2]
    with open_image(path, whole=False) as image:
        width, height = image.size
        turned = _orientation(image) in (5, 6, 7, 8)
        if turned and image.format == "TIFF":
            # Pillow's versions disagree on whether `size` is upright before the pixels are read.
            height, width = upright(image).size
    return (width, height) if turned else (height, width)


def load_array(path: str | Path) -> np.ndarray:
    """The numbers of a .npy file, (H, W), (H, W, C) or (C, H, W), mapped from the disk. Raises as `read_image`."""
    try:
        _check_file(Path(path))
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"cannot use image {printable(path)}: {_reason(error)}") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "uif" or 0 in array.shape:
        raise ValueError(
            f"cannot use image {printable(path)}: an image is a (H, W, C) array of numbers, this is {array.dtype} "
            f"{array.shape}"
        )
    return array


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write pixels as a PNG, uint8 (H, W), (H, W, 3) or (H, W, 4), or uint16 (H, W); the folder is made where missing."""
    with replacing(Path(path)) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG")


def write_pixels(path: str | Path, pixels: np.ndarray) -> None:
    """Write pixels as `write_png`, or where the path's ending says so as a JPEG or WebP of high quality, uint8."""
    path = Path(path)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(path.suffix.lower())
    if kind is None:
        write_png(path, pixels)
        return
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = image.convert("RGB") if kind == "WEBP" and image.mode == "L" else image
    sampling = {"subsampling": 0} if kind == "JPEG" else {}
    with replacing(path) as temporary:
        image.save(temporary, format=kind, quality=QUALITY, **sampling)


def to_tensor(image: Image.Image | np.ndarray) -> torch.Tensor:
    """Pixels (H, W, C) in 0..255 as float32 (C, H, W) in [-1, 1]."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Images (..., C, H, W) in [-1, 1] as uint8 (..., H, W, C); values outside are clipped."""
    pixels = torch.nan_to_num(images.detach().float()).add(1).mul(127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).movedim(-3, -1).cpu().numpy()
