"""Pairs of pictures in the folders of pytorch-CycleGAN-and-pix2pix: A|B side by side, or two folders."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink.data.config import DataConfig
from ganshrink.data.endings import by_number
from ganshrink.data.folders import (
    examine_all,
    examine_pairs,
    hash_files,
    open_folder,
    open_pairs,
    sample_name,
    too_small,
)
from ganshrink.data.inputs import InputSpec, input_spec, preview_input, scored_ids
from ganshrink.data.labelled import LabelReader
from ganshrink.data.pictures import printable, read_labels, to_tensor
from ganshrink.data.pixels import readers, warn_dark
from ganshrink.data.splits import folders_of, share
from ganshrink.data.views import View, middle_of, view_image, view_labels, view_of

_SEEN = 8  # pairs of which it is seen whether their label maps are theirs


class PairedImages:
    """Pairs of pictures: two folders, or files of (H, 2W) pixels that hold A on the left and B on the right.

    Attributes:
        target_size: (H, W) of the targets, which may be another than that of the inputs.
    """

    def __init__(self, config: DataConfig, split: str) -> None:
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self.out_channels, self.target_size = config.out_channels or 3, config.target_height_width
        self._readers = readers(config)
        # key, input, target; no target where both stand side by side in one file
        self._pairs: list[tuple[str, Path, Path | None]]
        first, *others = folders_of(config)
        if config.root is not None:
            inside = "" if first == config.root else "{split}"
            _, files, self._problems = open_folder(config.root, split, setting="root", inside=inside)
            self._pairs = [(key, path, None) for key, path in files.items()]
        else:
            pairs, self._problems = open_pairs((first, others[0]), split, settings=("a", "b"))
            self._pairs = [(key, b, a) if self._back else (key, a, b) for key, a, b in pairs]
        self._pairs = share(self._pairs, (first, *others), split, config)
        self._numbered = False  # whether label maps are matched by numbers alone
        self._labels = self._open_labels(first, split)

    def _open_labels(self, folder: str, split: str) -> dict[Path, Path]:
        """The label maps to score on, by their pairs' files in that folder."""
        if self.config.labels is None:
            return {}
        names, settings = (folder, self.config.labels), ("root" if self.config.root else "a", "labels")
        pictures, maps = (open_folder(n, split, setting=s)[1] for n, s in zip(names, settings, strict=True))
        if numbered := by_number(pictures, maps):
            self._numbered = True
            return numbered
        pairs, problems = open_pairs(names, split, settings=settings)
        self._problems += problems
        return {path: label for _, path, label in pairs}

    @property
    def _back(self) -> bool:
        return self.config.direction == "BtoA"

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One pair: "input" and "target" float32 (C, H, W) in [-1, 1], "name". Without `rng` there is no augmentation, and
        where there are label maps "labels", int64 (H, W), of the size they are scored at."""
        key, images = self._pairs[index][0], self._sides(index)
        view, input, target = view_of_pair(self.config, images[0], images[1], rng)
        sample = {
            "input": to_tensor(view_image(input, view)),
            "target": to_tensor(view_image(target, view.at(self.target_size))),
            "name": sample_name(key),
        }
        if self._labels and rng is None:
            sample["labels"] = self._scored(self._labels[self._first(index)], view.at(self.target_size))
        return sample

    def stored_target(self, index: int) -> torch.Tensor:
        """A target (C, H, W) in [-1, 1], not resized."""
        return to_tensor(middle_of(self._sides(index)[1], self.config.crop_height_width))

    def _sides(self, index: int) -> list[np.ndarray]:
        """The pixels (H, W, C) of a pair's input and target."""
        _, first, second = self._pairs[index]
        if second is not None:
            return [read(path) for read, path in zip(self._readers, (first, second), strict=True)]
        sides = [(0, 1), (1, 0)][self._back]
        return [_half(read(first), side) for read, side in zip(self._readers, sides, strict=True)]

    def _first(self, index: int) -> Path:
        """The file of a pair in `root`, or in `a`."""
        _, input, target = self._pairs[index]
        return target if self._back and target is not None else input

    def _scored(self, label: Path, view: View) -> torch.Tensor:
        numbers, size = read_labels(label), self.config.label_height_width
        whole = View(size, size, middle=self.config.crop_height_width)
        seen = view_labels(numbers, view if self.config.native else whole)
        return torch.from_numpy(scored_ids(seen, self._label_spec, where=printable(label)))

    @property
    def _label_spec(self) -> InputSpec:
        return input_spec(self.config.model_copy(update={"name": "labelled"}))

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; at most 3000 images are decoded."""
        pairs = [(a, b) for _, a, b in self._pairs if b is not None]
        whole = [a for _, a, b in self._pairs if b is None]
        (height, width), (tall, wide) = self.size, self.target_size
        least = (self.size, self.target_size) if self.config.native else (self.config.least,) * 2
        (least_height, least_width) = (max(sides) for sides in zip(*least, strict=True))
        flaw = too_small((least_height, 2 * least_width), _odd_width)
        problems = self._problems + examine_all(whole, self._readers[0], flaw=flaw)
        scale = Fraction(tall, height), Fraction(wide, width)
        problems += examine_pairs(pairs, self._readers, partner="partner", scale=scale, least=least)
        warn_dark(self._readers)
        if self._labels and not problems:
            labels = LabelReader(self._label_spec)
            files = [self._labels[self._first(index)] for index in range(len(self))]
            problems = examine_all(files, labels) or labels.problems() or self._out_of_order(files)
        return problems

    def _out_of_order(self, maps: list[Path]) -> list[str]:
        """The line that says that numbers are not in the order of the label maps' names: seen on a few pairs, whose own maps
        must explain their colours better than the next ones'."""
        places = range(0, len(maps), max(1, len(maps) // _SEEN)) if self._numbered and len(maps) > 1 else ()
        for place in places:
            sides, other = self._sides(place), maps[(place + 1) % len(maps)]
            own, next_one = (
                max(explained(side, read_labels(p)) for side in sides) for p in (maps[place], other)
            )
            if own < next_one:
                return [
                    f"pictures are numbered, and {printable(self._first(place))} does not show {printable(maps[place])}, "
                    "the label map at its place: name the maps of data.labels as the pictures are"
                ]
        return []

    def files(self) -> list[tuple[Path, ...]]:
        """The files of each sample in evaluation."""
        return [(first,) if second is None else (first, second) for _, first, second in self._pairs]

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        files = []
        for key, first, second in self._pairs:
            sides = [first] if second is None else [second, first] if self._back else [first, second]
            files += [(f"{side}/{key}", path) for side, path in enumerate(sides)]
        return hash_files({"split": self.split, **self.config.relevant()}, files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as a picture, uint8."""
        return preview_input(input, self.spec)


def view_of_pair(
    config: DataConfig, input: np.ndarray, target: np.ndarray, rng: np.random.Generator | None
) -> tuple[View, np.ndarray, np.ndarray]:
    """The view of an input, and both pictures, of which the target is seen at `view.at(config.target_height_width)`.

    Pictures that are not resized lose the rows and columns at their ends that have no whole pixel of the smaller one.
    """
    if not config.native:
        return view_of(config, input.shape, rng), input, target
    (height, width), (tall, wide), down = config.height_width, config.target_height_width, config.step
    up = (max(1, tall // height), max(1, wide // width))
    shapes = zip(input.shape, target.shape, down, up, strict=False)
    if input.shape[:2] == target.shape[:2]:  # the smaller one is made here
        cells = [have // max(by, times) for have, _, by, times in shapes]
        edges = [cell * max(by, times) for cell, by, times in zip(cells, down, up, strict=True)]
        input, target = (image[: edges[0], : edges[1]] for image in (input, target))
    else:
        cells = [min(have // by, other // times) for have, other, by, times in shapes]
        input = input[: cells[0] * down[0], : cells[1] * down[1]]
        target = target[: cells[0] * up[0], : cells[1] * up[1]]
    return view_of(config, (cells[0] * down[0], cells[1] * down[1]), rng), input, target


def explained(pixels: np.ndarray, ids: np.ndarray) -> float:
    """How much of the variance of pixels (H, W, C) the classes of a map (h, w) explain, 0 to 1."""
    height, width = pixels.shape[:2]
    seen = view_labels(ids, View((height, width), (height, width))).ravel()
    _, classes = np.unique(seen, return_inverse=True)
    counts, within, whole = np.bincount(classes), 0.0, 0.0
    for plane in np.moveaxis(pixels.astype(np.float64), -1, 0):
        means = np.bincount(classes, plane.ravel()) / counts
        within += float(np.square(plane.ravel() - means[classes]).sum())
        whole += float(np.square(plane - plane.mean()).sum())
    return 1 - within / whole if whole else 0.0


def _half(both: np.ndarray, side: int) -> np.ndarray:
    width = both.shape[1] // 2
    return both[:, side * width : (side + 1) * width]


def _odd_width(path: Path, size: tuple[int, int]) -> str | None:
    if size[1] % 2 == 0:
        return None
    return f"{printable(path)} is {size[1]} pixels wide: an odd width has no A and B halves"
