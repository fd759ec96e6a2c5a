"""Pairs of pictures in the folders of pytorch-CycleGAN-and-pix2pix: A|B side by side, or two folders."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ganshrink.data.config import DataConfig
from ganshrink.data.folders import (
    examine_all,
    examine_pairs,
    hash_files,
    open_folder,
    open_pairs,
    sample_name,
)
from ganshrink.data.inputs import input_spec, preview_input
from ganshrink.data.pictures import printable, read_image, to_tensor
from ganshrink.data.views import draw_view, view_image


class PairedImages:
    """Pairs of pictures: two folders, or files of (H, 2W) pixels that hold A on the left and B on the right."""

    out_channels = 3

    def __init__(self, config: DataConfig, split: str) -> None:
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        # key, A, B; no B where both stand side by side in one file
        self._pairs: list[tuple[str, Path, Path | None]]
        if config.root is not None:
            inside = "" if "{split}" in config.root else "{split}"
            _, files, self._problems = open_folder(config.root, split, setting="root", inside=inside)
            self._pairs = [(key, path, None) for key, path in files.items()]
            return
        assert config.a is not None and config.b is not None
        pairs, self._problems = open_pairs((config.a, config.b), split, settings=("a", "b"))
        self._pairs = [*pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One pair: "input" and "target" float32 (3, H, W) in [-1, 1], "name"; no `rng`, no augmentation."""
        key, path_a, path_b = self._pairs[index]
        view = draw_view(self.size, self.config.load_height_width, flip=self.config.flip, rng=rng)
        images = _halves(path_a) if path_b is None else (read_image(path_a), read_image(path_b))
        a, b = (to_tensor(view_image(image, view)) for image in images)
        if self.config.direction == "BtoA":
            a, b = b, a
        return {"input": a, "target": b, "name": sample_name(key)}

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; images are decoded unless over 3000."""
        pairs = [(a, b) for _, a, b in self._pairs if b is not None]
        whole = [a for _, a, b in self._pairs if b is None]
        return (
            self._problems
            + examine_all(whole, read_image, flaw=_odd_width)
            + examine_pairs(pairs, (read_image, read_image), partner="partner")
        )

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        files = [
            (f"{side}/{key}", path) for key, *pair in self._pairs for side, path in enumerate(pair) if path
        ]
        return hash_files({"split": self.split, **self.config.relevant()}, files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as uint8 (H, W, 3)."""
        return preview_input(input, self.spec)


def _halves(path: Path) -> tuple[Image.Image, Image.Image]:
    both = read_image(path)
    width, height = both.size
    return both.crop((0, 0, width // 2, height)), both.crop((width // 2, 0, width, height))


def _odd_width(path: Path, size: tuple[int, int]) -> str | None:
    if size[1] % 2 == 0:
        return None
    return f"{printable(path)} is {size[1]} pixels wide: an odd width has no A and B halves"
