"""From settings to an open data set that has been checked, so that a run does not fail at image 4711."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ganshrink.data.config import DataConfig, Split
from ganshrink.data.facades import SyntheticFacades
from ganshrink.data.labelled import LabelledImages
from ganshrink.data.paired import PairedImages

_KINDS: dict[str, Any] = {
    "facades-synthetic": SyntheticFacades,
    "paired": PairedImages,
    "labelled": LabelledImages,
}
_SHOWN = 5  # problems quoted in the error; `check` gives all


@runtime_checkable
class Images(Protocol):
    """What every data set offers; a user's own class with these members works everywhere.

    `sample(index, rng)` gives "input": float32 (in_channels, H, W) in [-1, 1] or one-hot 0/1, "target":
    float32 (out_channels, H, W) in [-1, 1], "name": str, and for labelled sets "labels": int64 (H, W). All
    randomness comes from `rng`; None means evaluation, without augmentation.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, int]

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]: ...

    def fingerprint(self) -> str: ...

    def preview(self, input: torch.Tensor) -> np.ndarray: ...


def check(dataset: Images) -> list[str]:
    """Everything that would break a run on this data set, one line each; empty when it is sound.

    Folders: every image's header and size are read, and up to 3000 pairs every image is decoded whole and its
    class ids looked at; beyond that a broken body is found only when it is reached. Any data set: the first
    sample's shapes, types and range.
    """
    problems = list(dataset.problems()) if hasattr(dataset, "problems") else []
    if not problems and len(dataset) == 0:
        problems.append("the data set has no samples")
    return problems or _check_sample(dataset)


def _check_sample(dataset: Images) -> list[str]:
    sample = dataset.sample(0, None)
    problems = []
    for key, channels in (("input", dataset.in_channels), ("target", dataset.out_channels)):
        tensor, shape = sample.get(key), (channels, *dataset.size)
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32:
            problems.append(f"sample 0: {key!r} must be a float32 tensor")
        elif tuple(tensor.shape) != shape:
            problems.append(f"sample 0: {key!r} is {tuple(tensor.shape)}, in_channels and size say {shape}")
        elif not bool((tensor.abs() <= 1.001).all()):
            problems.append(f"sample 0: {key!r} reaches {float(tensor.abs().max()):.4g}: scale it to [-1, 1]")
    if not isinstance(sample.get("name"), str):
        problems.append('sample 0: "name" must be a string')
    return problems


def open_dataset(config: DataConfig, split: Split = "train") -> Images:
    """Open a data set and check it (see `check`).

    Raises:
        FileNotFoundError: a folder is missing; the message names the path tried and how to set it.
        ValueError: the data cannot be used; the message gives the first few problems and their count.
    """
    dataset: Images = _KINDS[config.name](config, split)
    problems = check(dataset)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        plural = "problem" if len(problems) == 1 else "problems"
        raise ValueError(
            f"{len(problems)} {plural} in the {split} images: {'; '.join(problems[:_SHOWN])}{more}"
        )
    return dataset
