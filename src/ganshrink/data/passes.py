"""Whole sets of images in order, without augmentation: to score networks on, to calibrate them, to count statistics."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ganshrink.data.batches import stack
from ganshrink.data.images import Images, is_paired, num_inputs
from ganshrink.system.generator import as_tuple

B = TypeVar("B")

REMEMBERED = 2**30  # bytes of batches that are read from disk once


def spread_indices(available: int, count: int) -> list[int]:
    """The places of `count` things spread evenly over so many, rising; all of them where there are no more."""
    count = min(count, available)
    return [index * available // count for index in range(count)]


def spread_inputs(images: Images, count: int, *, batch_size: int = 8) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of at most `count` images spread over a set, in batches."""
    places = spread_indices(num_inputs(images), count)
    for start in range(0, len(places), batch_size):
        chunk = [images.sample(place, None)["input"] for place in places[start : start + batch_size]]
        yield as_tuple(stack(chunk))


def all_batches(images: Images, batch_size: int) -> Iterator[dict[str, Any]]:
    """All images once, as `evaluate` takes them, and the names of the inputs."""
    for start in range(0, len(images), batch_size):
        samples = [images.sample(i, None) for i in range(start, min(start + batch_size, len(images)))]
        names = [sample["name"] for sample in samples if "input" in sample]
        batch: dict[str, Any] = {"paired": is_paired(images), "name": names}
        for key in ("input", "target", "labels"):
            present = [sample[key] for sample in samples if key in sample]  # unpaired sides differ in length
            if present:
                batch[key] = stack(present)
        yield batch


def remembered(batches: Callable[[], Iterator[B]]) -> Callable[[], Iterator[B]]:
    """Batches that are gone through often, kept in memory if they are small enough, else read again each time."""
    kept: list[B] = []
    room = REMEMBERED
    for batch in batches():
        room -= sum(tensor.nbytes for tensor in tree_leaves(batch) if isinstance(tensor, torch.Tensor))
        if room < 0:
            return batches
        kept.append(batch)
    return lambda: iter(kept)
