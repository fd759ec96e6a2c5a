"""Image files to pixels and back: whatever a user's file holds, the same RGB or class ids come out of it.

Colour is 8-bit RGB; a file that cannot be used is one ValueError naming it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ganshrink.atomic import replacing

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_478_485  # Pillow's own limit for a picture that is not an attack
_ORIENTATION = 0x0112  # EXIF
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are over the limit of {MAX_PIXELS}")
            # A phone's MPO is a JPEG with a second view behind it; others with frames are films or books.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise ValueError(f"it has {image.n_frames} frames: one still picture is needed")  # type: ignore
            yield image
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise anything at all on a hostile file
        reason = " ".join(str(error).split()) or type(error).__name__
        if Path(path).is_file() and Path(path).stat().st_size == 0:
            reason = "the file is empty"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = "it is not an image in a known format"
        raise ValueError(f"cannot use image {path}: {reason}") from error


def convert_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB, upright (EXIF), alpha laid on white, 16 bits scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT:
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it has floating-point pixels: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def read_image(path: str | Path) -> Image.Image:
    """A picture file as an upright 8-bit RGB image.

    Raises:
        ValueError: broken, truncated, empty, animated or enormous file; the message names it.
        FileNotFoundError: no such file.
    """
    with _opened(path) as image:
        return convert_rgb(image)


def convert_labels(image: Image.Image) -> np.ndarray:
    """A label picture's class ids, int32 (H, W): the stored numbers, never a palette's colours."""
    if image.format in ("JPEG", "MPO"):
        raise ValueError("JPEG blurs class ids: label maps must be PNG")
    if image.mode not in ("1", "L", "P", *_SIXTEEN_BIT):
        raise ValueError(
            f"label maps hold one class id per pixel, this is a colour picture (mode {image.mode})"
        )
    upright = ImageOps.exif_transpose(image)
    return np.array(upright).astype(np.int32)


def read_labels(path: str | Path) -> np.ndarray:
    """The class ids in a label PNG (modes 1, L, P, I;16), int32 (H, W). Raises as `read_image`."""
    with _opened(path) as image:
        return convert_labels(image)


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the upright picture, from the file's header alone. Raises as `read_image`."""
    with _opened(path) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
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
