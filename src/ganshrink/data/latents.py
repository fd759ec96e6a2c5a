"""Photos and no inputs: latent vectors are drawn for each, anew in training, by their number where networks are scored."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink.data.batches import LATENTS, counter_rng
from ganshrink.data.config import DataConfig
from ganshrink.data.inputs import InputSpec, input_spec
from ganshrink.data.photos import Photos

SPLITS = ("train", "val", "test")


def draw_latent(rng: np.random.Generator, size: int, truncation: float | None = None) -> torch.Tensor:
    """A latent vector (size,), float32, of independent normal numbers.

    Args:
        truncation: numbers farther than this from 0 are drawn again (Brock et al. 2019, "truncation trick").
    """
    numbers = rng.standard_normal(size)
    while truncation is not None and (far := np.abs(numbers) > truncation).any():
        numbers[far] = rng.standard_normal(int(far.sum()))
    return torch.from_numpy(numbers.astype(np.float32))


def seeded_latents(
    spec: InputSpec, count: int, *, seed: int, truncation: float | None = None
) -> torch.Tensor:
    """Latent vectors (count, size), each a function of the seed and its number alone."""
    return torch.stack(
        [
            draw_latent(counter_rng(seed, LATENTS, number), spec.channels, truncation)
            for number in range(count)
        ]
    )


class Latents:
    """A generator's latent vectors as inputs, and photos of what it should make as targets; the two do not belong together.

    In training each photo comes with a vector drawn anew. In evaluation the vectors are the same each time, `data.latents`
    of them, and `data.truncation` counts.

    Attributes:
        num_inputs: how many vectors there are in evaluation; samples beyond hold a photo alone.
        in_channels: 0, since no input is a picture.
    """

    paired = False

    def __init__(self, config: DataConfig, split: str) -> None:
        self.config, self.photos = config, Photos(config, split)
        self.spec, self.split = input_spec(config), SPLITS.index(split)
        self.in_channels, self.out_channels, self.size = 0, config.out_channels or 3, self.spec.size
        self.num_inputs = config.latents or len(self.photos)

    def __len__(self) -> int:
        return max(self.num_inputs, len(self.photos))

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        """ "input" float32 (latent,), "target" float32 (C, H, W) in [-1, 1], "name"; without `rng` neither comes twice."""
        sample: dict[str, Any] = {"name": f"{index:06d}"}
        if rng is not None:
            index %= len(self.photos)
            sample["input"] = draw_latent(rng, self.spec.channels)
        elif index < self.num_inputs:
            drawn = counter_rng(self.config.latent_seed, LATENTS, index, self.split)
            sample["input"] = draw_latent(drawn, self.spec.channels, self.config.truncation)
        if index < len(self.photos):
            sample["target"] = self.photos.sample(index, rng)["input"]
        return sample

    def said(self) -> str:
        """Which vectors are scored, in words."""
        far = self.config.truncation
        return f"seed {self.config.latent_seed}" + (
            "" if far is None else f", none farther than {far:g} from 0"
        )

    def problems(self) -> list[str]:
        """As those of photos."""
        return self.photos.problems()

    def files(self) -> list[tuple[Path, ...]]:
        """The files of each sample in evaluation."""
        return self.photos.files() + [()] * (len(self) - len(self.photos))

    def fingerprint(self) -> str:
        """A hash of the settings and the files."""
        return self.photos.fingerprint()

    def preview(self, input: torch.Tensor) -> np.ndarray:
        raise ValueError("a latent vector is no picture")
