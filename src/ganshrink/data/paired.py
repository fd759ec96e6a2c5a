"""Pairs of pictures in the folders of pytorch-CycleGAN-and-pix2pix: A|B side by side, or two folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ganshrink.data.config import DataConfig, find_folder
from ganshrink.data.folders import (
    DECODE_LIMIT,
    empty_folder,
    examine,
    hash_files,
    list_images,
    match_pairs,
    sample_name,
)
from ganshrink.data.inputs import input_spec, preview_input
from ganshrink.data.pictures import printable, read_image, to_tensor
from ganshrink.data.views import draw_view, view_image


class PairedImages:
    """A data set of picture pairs; a file of (H, 2W) pixels holds A on the left and B on the right."""

    out_channels = 3

    def __init__(self, config: DataConfig, split: str) -> None:
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        # key, A, B; no B where both stand side by side in one file
        self._pairs: list[tuple[str, Path, Path | None]]
        if config.root is not None:
            root = config.root if "{split}" in config.root else str(Path(config.root) / "{split}")
            folder = find_folder(root, split, setting="root")
            files, self._problems = list_images(folder)
            self._pairs = [(key, path, None) for key, path in files.items()]
            self._problems += [] if files else [empty_folder(folder)]
            return
        assert config.a is not None and config.b is not None
        folders = find_folder(config.a, split, setting="a"), find_folder(config.b, split, setting="b")
        (first, doubles_a), (second, doubles_b) = list_images(folders[0]), list_images(folders[1])
        keys, missing = match_pairs(first, second, folders=folders)
        self._pairs = [(key, first[key], second[key]) for key in keys]
        empty = [
            empty_folder(folder) for folder, files in zip(folders, (first, second), strict=True) if not files
        ]
        self._problems = empty or doubles_a + doubles_b + missing

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
        found = list(self._problems)
        decode: Callable[[Path], Any] | None = read_image if len(self) <= DECODE_LIMIT else None
        for _, path_a, path_b in self._pairs:
            size_a, problem = examine(path_a, decode)
            if problem is not None:
                found.append(problem)
            if path_b is None:
                if size_a is not None and size_a[1] % 2:
                    found.append(
                        f"{printable(path_a)} is {size_a[1]} pixels wide: an odd width has no A and B halves"
                    )
                continue
            size_b, problem = examine(path_b, decode)
            if problem is not None:
                found.append(problem)
            if size_a and size_b and size_a != size_b:
                found.append(_unequal(path_a, size_a, path_b, size_b))
        return found

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


def _unequal(path_a: Path, size_a: tuple[int, int], path_b: Path, size_b: tuple[int, int]) -> str:
    sides = f"{size_a[1]} x {size_a[0]}", f"{size_b[1]} x {size_b[0]}"
    return f"{printable(path_a)} is {sides[0]} pixels, its partner {printable(path_b)} {sides[1]}"
