"""Pictures alone, from one folder or several: inputs for a generator whose own outputs are the target."""

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
from ganshrink.data.views import view_image, view_of


class Photos:
    """Inputs alone, from one folder or several, for a generator that is its own teacher."""

    def __init__(self, config: DataConfig, split: str) -> None:
        assert config.photos is not None
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self.out_channels, self._reader = config.out_channels or 3, readers(config)[0]
        names = (config.photos,) if isinstance(config.photos, str) else config.photos
        self._files: list[tuple[str, Path]] = []
        self._problems: list[str] = []
        for number, name in enumerate(names):
            _, files, problems = open_folder(name, split, setting="photos")
            self._problems += problems
            prefix = f"{number}/" if len(names) > 1 else ""  # two folders may hold the same name
            mine = share(list(files.items()), (name,), split, config)
            self._files += [(prefix + key, path) for key, path in mine]

    def __len__(self) -> int:
        return len(self._files)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One picture: "input" float32 (C, H, W) in [-1, 1], "name"; no `rng`, no augmentation."""
        key, path = self._files[index]
        pixels = self._reader(path)
        view = view_of(self.config, pixels.shape, rng)
        return {"input": to_tensor(view_image(pixels, view)), "name": sample_name(key)}

    def problems(self) -> list[str]:
        """One line for each thing that would break a run; at most 3000 images are decoded."""
        files = [path for _, path in self._files]
        problems = self._problems + examine_all(files, self._reader, flaw=too_small(self.config.least))
        warn_dark([self._reader])
        return problems

    def files(self) -> list[tuple[Path, ...]]:
        """The files of each sample in evaluation."""
        return [(path,) for _, path in self._files]

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        return hash_files({"split": self.split, **self.config.relevant()}, self._files)

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as a picture, uint8."""
        return preview_input(input, self.spec)
