"""Resize, random crop and random mirror, the same for both halves of a pair (Pix2Pix, section 6.2)."""

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class View:
    """Resize to `load` (H, W), cut `size` (H, W) out at (top, left), then mirror or not."""

    load: tuple[int, int]
    size: tuple[int, int]
    top: int = 0
    left: int = 0
    mirrored: bool = False


def draw_view(
    size: tuple[int, int], load: tuple[int, int], *, flip: bool, rng: np.random.Generator | None
) -> View:
    """A random view for training; without `rng` that of evaluation (straight to `size`, no mirror)."""
    if rng is None:
        return View(size, size)
    top = int(rng.integers(load[0] - size[0] + 1))
    left = int(rng.integers(load[1] - size[1] + 1))
    return View(load, size, top, left, bool(rng.random() < 0.5) and flip)


def crop(pixels: np.ndarray, view: View) -> np.ndarray:
    """Cut and mirror pixels (H, W, ...) that already have the view's `load` size."""
    height, width = view.size
    cut = pixels[view.top : view.top + height, view.left : view.left + width]
    return cut[:, ::-1] if view.mirrored else cut


def view_image(image: Image.Image, view: View) -> np.ndarray:
    """uint8 (H, W, 3) of an RGB picture, resized by bicubic interpolation."""
    height, width = view.load
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return crop(np.asarray(image), view)


def view_labels(ids: np.ndarray, view: View) -> np.ndarray:
    """int32 (H, W) of class ids, resized by nearest neighbour: no id appears that was not there."""
    height, width = view.load
    if ids.shape != (height, width):
        image = Image.fromarray(ids.astype(np.int32))
        ids = np.asarray(image.resize((width, height), Image.Resampling.NEAREST))
    return crop(ids, view)
