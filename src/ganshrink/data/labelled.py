"""Label maps and their photos (label -> photo, as CamVid): one-hot input, void its own channel."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink.data.cityscapes import VOID
from ganshrink.data.config import DataConfig
from ganshrink.data.folders import examine_pairs, hash_files, open_pairs, sample_name
from ganshrink.data.inputs import (
    InputSpec,
    class_ids,
    input_spec,
    label_input,
    preview_input,
    scored_ids,
)
from ganshrink.data.instance_features import encoder_path, features_of, instance_numbers
from ganshrink.data.pictures import printable, read_labels, to_tensor
from ganshrink.data.pixels import readers, warn_dark
from ganshrink.data.splits import share
from ganshrink.data.views import View, middle_of, view_image, view_labels, view_of


class LabelledImages:
    """Label-id PNGs and their photos, with equal names in two folders."""

    def __init__(self, config: DataConfig, split: str) -> None:
        assert isinstance(config.photos, str) and config.labels is not None
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self.out_channels, self._reader = config.out_channels or 3, readers(config)[1]
        names = (config.photos, config.labels)
        pairs, self._problems = open_pairs(names, split, settings=("photos", "labels"))
        self._pairs = share(pairs, names, split, config)

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One pair: "input" float32 (channels, H, W), one-hot classes first, "target" float32 (C, H, W) in [-1, 1],
        "labels" int64, "name"; with features also "instances" int64 (1, H, W), numbers from 0 on. Without `rng` there is no
        augmentation, and the labels have the size they are scored at (`label_size`), which may be finer than what the
        generator sees."""
        key, photo, label = self._pairs[index]
        pixels = self._reader(photo)
        view = view_of(self.config, pixels.shape, rng)
        numbers = read_labels(label)
        maps = label_maps(numbers, view, self.config, augmented=rng is not None, where=label)
        target = to_tensor(view_image(pixels, view))
        if (many := self.spec.num_features) > 0:
            instances = instance_numbers(view_labels(numbers, view), where=printable(label))
            maps["instances"] = instances
            if self.config.encoder is not None:
                maps["input"][-many:] = features_of(self.config.encoder, target, instances)
        return {**maps, "target": target, "name": sample_name(key)}

    def stored_target(self, index: int) -> torch.Tensor:
        """A target (C, H, W) in [-1, 1], not resized."""
        return to_tensor(middle_of(self._reader(self._pairs[index][1]), self.config.crop_height_width))

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; at most 3000 pairs are decoded."""
        pairs = [(photo, label) for _, photo, label in self._pairs]
        least = self.config.least, self.config.least
        labels = LabelReader(self.spec)
        found = examine_pairs(pairs, (self._reader, labels), partner="label map", least=least)
        warn_dark([self._reader])
        return self._problems + (found or labels.problems())

    def files(self) -> list[tuple[Path, ...]]:
        """The photo of each sample: label maps of two photos may be alike."""
        return [(photo,) for _, photo, _ in self._pairs]

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        files = [(f"{side}/{key}", path) for key, *pair in self._pairs for side, path in enumerate(pair)]
        if self.config.encoder is not None:
            files.append(("encoder", encoder_path(self.config.encoder)))
        return hash_files({"split": self.split, **self.config.relevant()}, files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as uint8 (H, W, 3), a colour per class."""
        return preview_input(input, self.spec)


class LabelReader:
    """Reads label maps to see whether they can be used, and whether any of their pixels has a class."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec, self.read, self.classes = spec, 0, False

    def __call__(self, path: Path) -> np.ndarray:
        """The numbers (H, W) of a map. Raises as `map_ids`."""
        numbers = read_labels(path)
        ids = scored_ids(numbers, self.spec, where=printable(path))
        class_ids(numbers, self.spec, where=printable(path))
        void = VOID if self.spec.label_ids else self.spec.void
        self.read, self.classes = self.read + 1, self.classes or bool((ids != void).any())
        return numbers

    def problems(self) -> list[str]:
        """The line that says that no map has a class, as where labels of a test set are not published."""
        if self.classes or not self.read:
            return []
        return [
            f"no pixel of the {self.read} label maps has a class: where labels of a test set are not published, set "
            "metrics.split = 'val'"
        ]


def label_maps(
    numbers: np.ndarray, view: View, config: DataConfig, *, augmented: bool, where: Path
) -> dict[str, torch.Tensor]:
    """ "input" and "labels" of a label map's numbers (H, W), as in `LabelledImages.sample`."""
    spec, named = input_spec(config), printable(where)
    seen = view_labels(numbers, view)
    scored = seen
    if not augmented and not config.native:
        size = config.label_height_width
        scored = view_labels(numbers, View(size, size, middle=config.crop_height_width))
    labels = torch.from_numpy(scored_ids(scored, spec, where=named))
    return {"input": label_input(seen, spec, where=named), "labels": labels}
