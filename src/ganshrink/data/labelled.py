"""Label maps and their photos (label -> photo, as CamVid): one-hot input, void its own channel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from ganshrink.data.inputs import input_spec, map_ids, one_hot, preview_input
from ganshrink.data.pictures import printable, read_image, read_labels, to_tensor
from ganshrink.data.views import View, draw_view, view_image, view_labels


class LabelledImages:
    """A data set of (label-id PNG, photo) pairs with equal names in two folders."""

    out_channels = 3

    def __init__(self, config: DataConfig, split: str) -> None:
        assert isinstance(config.photos, str) and config.labels is not None
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        folders = (
            find_folder(config.photos, split, setting="photos"),
            find_folder(config.labels, split, setting="labels"),
        )
        (photos, double_photos), (labels, double_labels) = list_images(folders[0]), list_images(folders[1])
        keys, missing = match_pairs(photos, labels, folders=folders)
        self._pairs = [(key, photos[key], labels[key]) for key in keys]
        empty = [
            empty_folder(folder) for folder, files in zip(folders, (photos, labels), strict=True) if not files
        ]
        self._problems = empty or double_photos + double_labels + missing

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One pair: "input" float32 one-hot (classes, H, W), "target" float32 (3, H, W) in [-1, 1],
        "labels" int64, "name". Without `rng` there is no augmentation, and the labels have the size they are
        scored at (`label_size`), which may be finer than what the generator sees."""
        key, photo, label = self._pairs[index]
        view = draw_view(self.size, self.config.load_height_width, flip=self.config.flip, rng=rng)
        ids = self._read_ids(label)
        seen = torch.from_numpy(view_labels(ids, view).astype(np.int64))
        target = to_tensor(view_image(read_image(photo), view))
        if rng is None:
            scored = self.config.label_height_width
            labels = torch.from_numpy(view_labels(ids, View(scored, scored)).astype(np.int64))
        else:
            labels = seen
        return {
            "input": one_hot(seen, self.in_channels),
            "target": target,
            "labels": labels,
            "name": sample_name(key),
        }

    def _read_ids(self, path: Path) -> np.ndarray:
        return map_ids(read_labels(path), self.in_channels, void=self.spec.void, where=printable(path))

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; images are decoded unless over 3000."""
        found = list(self._problems)
        decode_all = len(self) <= DECODE_LIMIT
        readers: tuple[Callable[[Path], Any], ...] = (read_image, self._read_ids)
        for _, *paths in self._pairs:
            sizes = []
            for path, decode in zip(paths, readers, strict=True):
                size, problem = examine(path, decode if decode_all else None)
                sizes.append(size)
                if problem is not None:
                    found.append(problem)
            if None not in sizes and sizes[0] != sizes[1]:
                (height, width), (label_height, label_width) = sizes  # type: ignore[misc]
                found.append(
                    f"{printable(paths[0])} is {width} x {height} pixels, its label map {printable(paths[1])} "
                    f"{label_width} x {label_height}"
                )
        return found

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        files = [(f"{side}/{key}", path) for key, *pair in self._pairs for side, path in enumerate(pair)]
        return hash_files({"split": self.split, **self.config.relevant()}, files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as uint8 (H, W, 3), a colour per class."""
        return preview_input(input, self.spec)
