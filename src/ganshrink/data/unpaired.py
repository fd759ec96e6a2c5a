"""Two folders of pictures that do not belong together, in the layout of CycleGAN: trainA, trainB, testA, testB."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink.data.config import DataConfig
from ganshrink.data.folders import examine_all, hash_files, open_folder, sample_name, too_small
from ganshrink.data.inputs import input_spec, preview_input
from ganshrink.data.pictures import to_tensor
from ganshrink.data.pixels import readers, warn_dark
from ganshrink.data.splits import share
from ganshrink.data.views import middle_of, view_image, view_of


class UnpairedImages:
    """Two folders of pictures that do not belong together.

    The set is as long as the larger one. In training each image of the larger domain comes once an epoch, with one of
    the other domain drawn at random; the two are cropped and mirrored each on its own. In evaluation every image of both
    comes exactly once: samples past the end of the smaller domain hold the other's image alone.

    Attributes:
        num_inputs: images of the input domain; samples 0 .. num_inputs - 1 hold an "input" in evaluation.
    """

    paired = False

    def __init__(self, config: DataConfig, split: str) -> None:
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self.out_channels, self._readers = config.out_channels or 3, readers(config)
        self._problems: list[str] = []
        sides = []
        for side, name in (("a", config.a), ("b", config.b)):
            if config.root is not None:
                opened = open_folder(config.root, split, setting="root", inside=f"{{split}}{side.upper()}")
            else:
                assert name is not None
                opened = open_folder(name, split, setting=side)
            _, files, problems = opened
            self._problems += problems
            found = list(files.items())
            sides.append(found if name is None else share(found, (name,), split, config))
        self._inputs, self._targets = sides if config.direction != "BtoA" else sides[::-1]
        self.num_inputs = len(self._inputs)

    def __len__(self) -> int:
        return max(len(self._inputs), len(self._targets))

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """ "input" and "target" float32 (C, H, W) in [-1, 1], "name"; without `rng` no augmentation, and no image twice."""
        sides = {"input": self._inputs, "target": self._targets}
        sample: dict[str, Any] = {}
        for (kind, files), read in zip(sides.items(), self._readers, strict=True):
            place = index
            if rng is not None:
                place = index if files is self._longer else int(rng.integers(len(files)))
            if place >= len(files):
                continue
            key, path = files[place]
            pixels = read(path)
            sample[kind] = to_tensor(view_image(pixels, view_of(self.config, pixels.shape, rng)))
            sample.setdefault("name", sample_name(key))
        return sample

    def stored_target(self, index: int) -> torch.Tensor | None:
        """A target (C, H, W) in [-1, 1], not resized; None past their end."""
        if index >= len(self._targets):
            return None
        return to_tensor(middle_of(self._readers[1](self._targets[index][1]), self.config.crop_height_width))

    @property
    def _longer(self) -> list[tuple[str, Path]]:
        return self._inputs if len(self._inputs) >= len(self._targets) else self._targets

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; at most 3000 images of a side are decoded."""
        problems, flaw = [*self._problems], too_small(self.config.least)
        for side, read in zip((self._inputs, self._targets), self._readers, strict=True):
            problems += examine_all([path for _, path in side], read, flaw=flaw)
        warn_dark(self._readers)
        return problems

    def files(self) -> list[tuple[Path, ...]]:
        """The files of each sample in evaluation."""
        sides = [[path for _, path in side] for side in (self._inputs, self._targets)]
        return [tuple(path for path in pair if path) for pair in zip_longest(*sides)]

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        sides = {"input": self._inputs, "target": self._targets}
        files = [(f"{side}/{key}", path) for side, pairs in sides.items() for key, path in pairs]
        return hash_files({"split": self.split, **self.config.relevant()}, files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as a picture, uint8."""
        return preview_input(input, self.spec)
