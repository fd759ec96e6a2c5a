"""Label maps and their photos (label -> photo, as CamVid): one-hot input, void its own channel."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink.data.config import DataConfig
from ganshrink.data.folders import examine_pairs, hash_files, open_pairs, sample_name
from ganshrink.data.inputs import InputSpec, input_spec, map_ids, one_hot, preview_input
from ganshrink.data.pictures import printable, read_labels, to_tensor
from ganshrink.data.pixels import readers, warn_dark
from ganshrink.data.views import View, view_image, view_labels, view_of


class LabelledImages:
    """Label-id PNGs and their photos, with equal names in two folders."""

    def __init__(self, config: DataConfig, split: str) -> None:
        assert isinstance(config.photos, str) and config.labels is not None
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self.out_channels, self._reader = config.out_channels or 3, readers(config)[1]
        self._pairs, self._problems = open_pairs(
            (config.photos, config.labels), split, settings=("photos", "labels"), seed=config.split_seed
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One pair: "input" float32 one-hot (classes, H, W), "target" float32 (C, H, W) in [-1, 1],
        "labels" int64, "name". Without `rng` there is no augmentation, and the labels have the size they are
        scored at (`label_size`), which may be finer than what the generator sees."""
        key, photo, label = self._pairs[index]
        pixels = self._reader(photo)
        view = view_of(self.config, pixels.shape, rng)
        maps = label_maps(self._read_ids(label), view, self.config, augmented=rng is not None)
        target = to_tensor(view_image(pixels, view))
        return {**maps, "target": target, "name": sample_name(key)}

    def _read_ids(self, path: Path) -> np.ndarray:
        return read_ids(path, self.spec)

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; at most 3000 pairs are decoded."""
        pairs = [(photo, label) for _, photo, label in self._pairs]
        least = self.config.least, self.config.least
        found = examine_pairs(pairs, (self._reader, self._read_ids), partner="label map", least=least)
        warn_dark([self._reader])
        return self._problems + found

    def files(self) -> list[tuple[Path, ...]]:
        """The photo of each sample: label maps of two photos may be alike."""
        return [(photo,) for _, photo, _ in self._pairs]

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        files = [(f"{side}/{key}", path) for key, *pair in self._pairs for side, path in enumerate(pair)]
        return hash_files({"split": self.split, **self.config.relevant()}, files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as uint8 (H, W, 3), a colour per class."""
        return preview_input(input, self.spec)


def read_ids(path: Path, spec: InputSpec) -> np.ndarray:
    """The class ids of a label PNG as a generator's input knows them. Raises as `map_ids`."""
    return map_ids(read_labels(path), spec.channels, void=spec.void, where=printable(path))


def label_maps(
    ids: np.ndarray, view: View, config: DataConfig, *, augmented: bool
) -> dict[str, torch.Tensor]:
    """ "input" and "labels" of class ids, as in `LabelledImages.sample`."""
    assert config.num_classes is not None
    seen = scored = torch.from_numpy(view_labels(ids, view).astype(np.int64))
    if not augmented and not config.native:
        size = config.label_height_width
        scored = torch.from_numpy(view_labels(ids, View(size, size)).astype(np.int64))
    return {"input": one_hot(seen, config.num_classes), "labels": scored}
