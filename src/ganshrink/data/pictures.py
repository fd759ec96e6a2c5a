"""Image files to pixels and back: whatever a user's file holds, the same RGB or class ids come out of it.

Colour is 8-bit RGB; a file that cannot be used is one ValueError naming it. Colour profiles (ICC) are ignored: the
stored numbers are the colours.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from ganshrink.system.atomic import replacing

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Only these decoders are tried, whatever the suffix says: Pillow knows others that start programs (EPS).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's own limit for a picture that is not an attack
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# How a file may store class ids, and the factor by which Pillow spreads small ones over 0..255.
_ID_LAYOUTS = {"1": 1, "L": 1, "L;2": 85, "L;4": 17, "P": 1, "P;1": 1, "P;2": 1, "P;4": 1}


def printable(path: str | Path) -> str:
    """A path on one line that every terminal, JSON and HTML file takes: control characters and bytes that are
    no UTF-8 become escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def _opened(path: str | Path, *, whole: bool = True) -> Iterator[Image.Image]:
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


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) if _orientation(image) in range(2, 9) else image


def convert_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB, upright (EXIF), alpha laid on white, 16 bits scaled to 8.

    Raises:
        ValueError: if the pixels are floating-point, or grey levels outside 16 bits.
    """
    if image.mode == "F":
        raise ValueError("it has floating-point pixels: convert it to 8 or 16 bits")
    if image.mode in _SIXTEEN_BIT:
        return _upright_grey(image).convert("RGB")
    image = _upright(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _upright_grey(image: Image.Image) -> Image.Image:
    """8 bits of a grey picture with up to 16 (TIFF also 12), for which Pillow's own conversion only clips."""
    tags = getattr(image, "tag_v2", {})
    white = 4095 if tags.get(_BITS) == (12,) else 65535
    levels = np.asarray(_upright(image), dtype=np.int64)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > white:
        raise ValueError(f"its grey levels go from {low} to {high}: scale them to 0..{white}")
    if tags.get(_PHOTOMETRIC) == 0:  # white is stored as 0; Pillow turns that round in 8 bits only
        levels = white - levels
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels = np.where(levels == transparent, white, levels)
    return Image.fromarray(np.round(levels * 255 / white).astype(np.uint8))


def read_image(path: str | Path) -> Image.Image:
    """A picture file as an upright 8-bit RGB image.

    Raises:
        ValueError: broken, truncated, empty, animated or enormous file; the message names it.
        FileNotFoundError: no such file.
    """
    with _opened(path) as image:
        return convert_rgb(image)


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
    return np.array(_upright(image)).astype(np.int32) // factor


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
    with _opened(path) as image:
        return convert_labels(image)


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the upright picture, mostly from the file's header alone. Raises as `read_image`."""
    with _opened(path, whole=False) as image:
        width, height = image.size
        turned = _orientation(image) in (5, 6, 7, 8)
        if turned and image.format == "TIFF":
            # Pillow's versions disagree on whether `size` is upright before the pixels are read.
            height, width = _upright(image).size
    return (width, height) if turned else (height, width)


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W, 3) or (H, W) pixels as a PNG; the folder is made where it is missing."""
    with replacing(Path(path)) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG")


def to_tensor(image: Image.Image | np.ndarray) -> torch.Tensor:
    """RGB pixels, 8-bit (H, W, 3), as float32 (3, H, W) in [-1, 1]."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Images (..., C, H, W) in [-1, 1] as uint8 (..., H, W, C); values outside are clipped."""
    pixels = torch.nan_to_num(images.detach().float()).add(1).mul(127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).movedim(-3, -1).cpu().numpy()
