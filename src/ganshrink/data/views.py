"""Resize, random crop and random mirror, the same for both halves of a pair (Pix2Pix, section 6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ganshrink.data.config import DataConfig
from ganshrink.data.pixels import resize

Size = tuple[int, int]


@dataclass(frozen=True)
class View:
    """Cut `middle` (H, W) out of the middle, if there is one; resize to `load` (H, W), cut `size` (H, W) out at (top, left),
    then mirror or not."""

    load: Size
    size: Size
    top: int = 0
    left: int = 0
    mirrored: bool = False
    middle: Size | None = None

    def at(self, size: Size) -> "View":
        """The same part of a picture where the cut has another size, for the target of super-resolution.

        Sides are whole multiples or parts of each other, and so are places: see `draw_view`.
        """
        if size == self.size:
            return self
        (load_h, load_w), (top, left) = (
            tuple(part * new // old for part, new, old in zip(pair, size, self.size, strict=True))
            for pair in (self.load, (self.top, self.left))
        )
        return replace(self, load=(load_h, load_w), size=size, top=top, left=left)


def draw_view(
    size: Size,
    load: Size,
    *,
    flip: bool,
    rng: np.random.Generator | None,
    step: Size = (1, 1),
    whole: bool = False,
) -> View:
    """A random view for training; without `rng` that of evaluation (straight to `size`, no mirror).

    Args:
        step: of the places where a cut may begin, where that of the target has fewer pixels.
        whole: the picture is not to be resized: evaluation cuts out its middle.
    """
    if rng is None:
        if not whole:
            return View(size, size)
        top, left = ((have - want) // 2 // by * by for have, want, by in zip(load, size, step, strict=True))
        return View(load, size, top, left)
    top, left = (
        int(rng.integers((have - want) // by + 1)) * by
        for have, want, by in zip(load, size, step, strict=True)
    )
    return View(load, size, top, left, bool(rng.random() < 0.5) and flip)


def view_of(config: DataConfig, shape: Sequence[int], rng: np.random.Generator | None) -> View:
    """The view of an input whose pixels have that shape (H, W, ...), as the settings say."""
    load = (shape[0], shape[1]) if config.native else config.load_height_width
    view = draw_view(
        config.height_width, load, flip=config.flip, rng=rng, step=config.step, whole=config.native
    )
    return replace(view, middle=config.crop_height_width)


def middle_of(pixels: np.ndarray, size: Size | None) -> np.ndarray:
    """(H, W) in the middle of pixels (H, W, ...); all of them where there is no such size."""
    if size is None:
        return pixels
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def crop(pixels: np.ndarray, view: View) -> np.ndarray:
    """Cut and mirror pixels (H, W, ...) that already have the view's `load` size."""
    height, width = view.size
    cut = pixels[view.top : view.top + height, view.left : view.left + width]
    return cut[:, ::-1] if view.mirrored else cut


def view_image(image: Image.Image | np.ndarray, view: View) -> np.ndarray:
    """Pixels (H, W, C) of a picture, resized by bicubic interpolation."""
    return crop(resize(middle_of(np.asarray(image), view.middle), view.load), view)


def view_labels(ids: np.ndarray, view: View) -> np.ndarray:
    """int32 (H, W) of class ids, resized by nearest neighbour: no id appears that was not there."""
    (height, width), ids = view.load, middle_of(ids, view.middle)
    if ids.shape != (height, width):
        image = Image.fromarray(ids.astype(np.int32))
        ids = np.asarray(image.resize((width, height), Image.Resampling.NEAREST))
    return crop(ids, view)
