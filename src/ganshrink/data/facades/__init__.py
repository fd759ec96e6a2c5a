"""A procedural stand-in for the CMP facades of Pix2Pix: label maps of street fronts and their photos.

No real photo may travel with the package; these are drawn, the same by (seed, split, index) at any size.
"""

import hashlib
import json
from typing import Any

import numpy as np
import torch

from ganshrink.data.config import DataConfig
from ganshrink.data.facades.layout import Building, design
from ganshrink.data.facades.painting import draw
from ganshrink.data.inputs import input_spec, preview_input
from ganshrink.data.pictures import to_tensor
from ganshrink.data.views import View, crop, draw_view

RENDERER_VERSION = 1  # part of the fingerprint: raise it whenever a picture changes
_SPLITS = {"train": 0, "val": 1, "test": 2}
_CACHE_BYTES = 256 * 2**20  # of drawn pictures kept in memory


class SyntheticFacades:
    """House fronts drawn by the package: A is the label map, B the photo, which is a function of the map."""

    out_channels = 3

    def __init__(self, config: DataConfig, split: str) -> None:
        self.config, self.split = config, split
        self.spec = input_spec(config)
        self.in_channels, self.size = self.spec.channels, self.spec.size
        self._cache: dict[tuple[int, tuple[int, int], bool], tuple[np.ndarray, np.ndarray]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return int(getattr(self.config.counts, self.split))

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """One pair: "input" and "target" float32 (3, H, W) in [-1, 1], "name"; no `rng`, no augmentation."""
        config = self.config
        view = draw_view(self.size, config.load_height_width, flip=config.flip, rng=rng)
        # The building is mirrored before it is drawn, so that the light keeps its side.
        a, b = self.pictures(index, view.load, mirrored=view.mirrored)
        cut = View(view.load, view.size, view.top, view.left)
        input, target = to_tensor(crop(a, cut)), to_tensor(crop(b, cut))
        if config.direction == "BtoA":
            input, target = target, input
        return {"input": input, "target": target, "name": f"{self.split}_{index:04d}"}

    def pictures(
        self, index: int, size: tuple[int, int], *, mirrored: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Label map and photo of a building, uint8 (H, W, 3) each, at any size (H, W)."""
        if not 0 <= index < len(self):
            raise IndexError(f"building {index} is outside the {len(self)} of {self.split}")
        key = (index, size, mirrored)
        if key not in self._cache:
            pair = self._draw(index, size, mirrored)
            if self._cached_bytes > _CACHE_BYTES:
                return pair
            self._cache[key] = pair
            self._cached_bytes += 2 * pair[0].nbytes
        return self._cache[key]

    def _draw(self, index: int, size: tuple[int, int], mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        height, width = size
        key = (self.config.seed, _SPLITS[self.split], index)
        structure, texture = np.random.SeedSequence(key).spawn(2)
        aspect = width / height
        building: Building = design(np.random.Generator(np.random.Philox(structure)), aspect)
        if mirrored:
            building = building.mirrored(aspect)
        return draw(building, height, width, rng=np.random.Generator(np.random.Philox(texture)))

    def fingerprint(self) -> str:
        """A hash of the settings and the version of the drawing."""
        settings = {
            "renderer": RENDERER_VERSION,
            "split": self.split,
            **self.config.relevant(),
            "counts": len(self),
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]

    def preview(self, input: torch.Tensor) -> np.ndarray:
        """An input as uint8 (H, W, 3)."""
        return preview_input(input, self.spec)
