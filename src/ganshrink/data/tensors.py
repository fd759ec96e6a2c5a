"""Data sets made of what a user already holds in memory, and parts of data sets."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ganshrink.data.inputs import input_spec, preview_input
from ganshrink.data.opening import Images


class TensorPairs:
    """Pairs of input (C, H, W) and target (3, H, W), both in [-1, 1] (or a one-hot input), as a data set.

    Raises:
        ValueError: if there is no pair, or the shapes differ between pairs.
    """

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        if not pairs:
            raise ValueError("there are no pairs: give at least one (input, target)")
        first = pairs[0]
        for index, pair in enumerate(pairs):
            if [t.shape for t in pair] != [t.shape for t in first] or any(t.ndim != 3 for t in pair):
                shapes = " and ".join(str(tuple(t.shape)) for t in pair)
                raise ValueError(
                    f"pair {index} has shapes {shapes}: every pair must be (C, H, W) and (3, H, W) of one size"
                )
        self.pairs = pairs
        self.in_channels, self.out_channels = first[0].shape[0], first[1].shape[0]
        self.size = (first[0].shape[1], first[0].shape[2])

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        source, target = self.pairs[index]
        return {"input": source.float(), "target": target.float(), "name": f"{index:04d}"}

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for pair in self.pairs:
            for tensor in pair:
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def preview(self, tensor: Tensor) -> np.ndarray:
        return preview_input(tensor, input_spec(self))


class Part:
    """Some samples of a data set, by index."""

    def __init__(self, whole: Images, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)
        self.in_channels, self.out_channels, self.size = whole.in_channels, whole.out_channels, whole.size
        self.spec = input_spec(whole)

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        return self.whole.sample(self.indices[index], rng)

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.whole.fingerprint()} {self.indices}".encode()).hexdigest()[:16]

    def preview(self, tensor: Tensor) -> np.ndarray:
        return self.whole.preview(tensor)


def hold_out(dataset: Images, *, every: int = 10) -> tuple[Part, Part]:
    """The data set without every tenth sample, and those samples.

    Raises:
        ValueError: if fewer than two samples are there.
    """
    if len(dataset) < 2:
        raise ValueError("at least two samples are needed: one to train on, one to score")
    held = range(0, len(dataset), every)
    return Part(dataset, [i for i in range(len(dataset)) if i % every]), Part(dataset, held)
