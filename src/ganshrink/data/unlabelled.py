"""Few labels: which training pairs keep their targets, and inputs that have none (UGC, section 3)."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink.data.batches import LABELS, counter_rng
from ganshrink.data.config import DataConfig
from ganshrink.data.folders import examine_all, hash_files, open_folder, sample_name, too_small
from ganshrink.data.images import Images, files_of, num_inputs
from ganshrink.data.inputs import input_spec, preview_input
from ganshrink.data.labelled import LabelReader, label_maps
from ganshrink.data.pictures import read_labels, to_tensor
from ganshrink.data.pixels import readers, warn_dark
from ganshrink.data.views import view_image, view_of


def labelled_indices(count: int, fraction: float, *, seed: int = 0) -> list[int]:
    """The indices, rising, of those of `count` pairs that keep their targets: floor(fraction * count + 1/2) of them.

    Of one seed they are the first ones of one permutation, so that a smaller fraction's are among a larger one's.

    Raises:
        ValueError: if the fraction leaves none.
    """
    share = Decimal(str(fraction))  # as written: 0.29 of 50 are 14.5, in binary less
    many = int(share * count + Decimal("0.5"))
    if count and not many:
        least = ceil(50e4 / count) / 1e4
        raise ValueError(
            f"data.label_fraction = {100 * fraction:g}% leaves none of the {count} training pairs its target: "
            f"give at least {least:g}%"
        )
    return sorted(counter_rng(seed, LABELS).permutation(count)[:many].tolist())


class InputsAlone:
    """A data set without its targets: whoever trains on it cannot look at them."""

    def __init__(self, whole: Images) -> None:
        self.whole = whole
        self.in_channels, self.out_channels, self.size = whole.in_channels, whole.out_channels, whole.size
        self.spec, self.num_inputs = getattr(whole, "spec", None), num_inputs(whole)

    def __len__(self) -> int:
        return len(self.whole)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """ "input" and "name" of the sample, and where it has them the input's "labels"."""
        sample = self.whole.sample(index, rng)
        return {key: sample[key] for key in ("input", "labels", "name") if key in sample}

    def files(self) -> list[tuple[Path, ...]] | None:
        return files_of(self.whole)

    def fingerprint(self) -> str:
        return self.whole.fingerprint()

    def preview(self, input: torch.Tensor) -> np.ndarray:
        return self.whole.preview(input)


class InputFolder:
    """The folder of `data.unlabelled`: pictures of the input side of pairs, or label-id PNGs for labelled data."""

    def __init__(self, config: DataConfig) -> None:
        assert config.unlabelled is not None
        self.config, self.spec = config, input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self.out_channels, self._reader = config.out_channels or 3, readers(config)[0]
        _, files, self._problems = open_folder(config.unlabelled, "train", setting="unlabelled")
        self._files = list(files.items())

    def __len__(self) -> int:
        return len(self._files)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """All but the target of what a pair's sample holds; cropped and mirrored as pairs are, not at all without `rng`."""
        key, path = self._files[index]
        pixels = self._read(path)
        view = view_of(self.config, pixels.shape, rng)
        if self.spec.kind == "labels":
            maps = label_maps(pixels, view, self.config, augmented=rng is not None, where=path)
            return {**maps, "name": sample_name(key)}
        return {"input": to_tensor(view_image(pixels, view)), "name": sample_name(key)}

    def _read(self, path: Path) -> np.ndarray:
        """The numbers of a label map (H, W), or pixels (H, W, C)."""
        return read_labels(path) if self.spec.kind == "labels" else self._reader(path)

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; at most 3000 images are decoded."""
        files = [path for _, path in self._files]
        read = LabelReader(self.spec) if self.spec.kind == "labels" else self._reader
        problems = self._problems + examine_all(files, read, flaw=too_small(self.config.least))
        warn_dark([self._reader])
        return problems

    def files(self) -> list[tuple[Path, ...]]:
        """The file of each sample."""
        return [(path,) for _, path in self._files]

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        return hash_files({"unlabelled": True, **self.config.relevant()}, self._files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as a picture, uint8."""
        return preview_input(input, self.spec)


class Joined:
    """Several data sets of inputs that are alike, one after the other. A sample holds what there is in all of them."""

    def __init__(self, parts: Sequence[Images]) -> None:
        first, self.parts = parts[0], list(parts)
        self.in_channels, self.out_channels, self.size = first.in_channels, first.out_channels, first.size
        self.spec = getattr(first, "spec", None)
        self._ends = list(accumulate(map(len, self.parts)))
        self._keys = set.intersection(*(set(part.sample(0, None)) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        place = bisect_right(self._ends, index)
        part = self.parts[place]
        sample = part.sample(index - self._ends[place] + len(part), rng)
        return {key: value for key, value in sample.items() if key in self._keys}

    def files(self) -> list[tuple[Path, ...]] | None:
        found = [files_of(part) for part in self.parts]
        return None if None in found else [sample for files in found if files for sample in files]

    def fingerprint(self) -> str:
        prints = " ".join(part.fingerprint() for part in self.parts)
        return hashlib.sha256(prints.encode()).hexdigest()[:16]

    def preview(self, input: torch.Tensor) -> np.ndarray:
        return self.parts[0].preview(input)


def joined(*parts: Images | None) -> Images | None:
    """Data sets as one; those that are None count for nothing."""
    present = [part for part in parts if part is not None]
    return Joined(present) if len(present) > 1 else next(iter(present), None)
