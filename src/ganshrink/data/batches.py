"""An endless stream of full batches, a pure function of the step: to resume, the step is enough."""

import itertools
import math
import queue
import threading
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ganshrink.data.opening import Images

_AHEAD = 2  # batches prepared before they are asked for, per worker
_ORDER, _AUGMENTATION = 0, 1  # keeps the two kinds of random numbers apart


def counter_rng(*key: int) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@lru_cache(maxsize=16)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return counter_rng(seed, _ORDER, epoch).permutation(count)


class Batches:
    """Batch b: positions [b*B, (b+1)*B) of the endless row of per-epoch permutations, B = batch_size * world.

    With `world` processes, process `rank` takes its consecutive `batch_size` of them. Augmentation draws from
    (seed, epoch, index) alone, so neither workers nor processes nor a restart change a sample.
    """

    def __init__(
        self,
        dataset: Images,
        *,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}: at least 1 is needed")
        if workers < 0:
            raise ValueError(f"workers = {workers}: 0 or more are needed")
        if not 0 <= rank < world:
            raise ValueError(f"rank = {rank} is outside a world of {world} processes")
        if len(dataset) == 0:
            raise ValueError("the data set has no samples")
        self.dataset, self.batch_size, self.seed, self.workers = dataset, batch_size, seed, workers
        self.rank, self.world = rank, world

    @property
    def global_batch(self) -> int:
        """Samples per step over all processes."""
        return self.batch_size * self.world

    def epoch(self, step: int) -> int:
        """The epoch in which the step begins."""
        return step * self.global_batch // len(self.dataset)

    def steps(self, epochs: float) -> int:
        """Steps that show every sample at least `epochs` times."""
        return math.ceil(epochs * len(self.dataset) / self.global_batch)

    def keys(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of each sample of this process's share of a step."""
        count = len(self.dataset)
        start = step * self.global_batch + self.rank * self.batch_size
        places = (divmod(position, count) for position in range(start, start + self.batch_size))
        return [(epoch, int(_permutation(self.seed, epoch, count)[offset])) for epoch, offset in places]

    def at(self, step: int) -> dict[str, Any]:
        """The batch of a step: tensors stacked on a new first axis, tuples of tensors each, everything else in lists."""
        samples = [
            self.dataset.sample(index, counter_rng(self.seed, _AUGMENTATION, epoch, index))
            for epoch, index in self.keys(step)
        ]
        return {key: stack([sample[key] for sample in samples]) for key in samples[0]}

    def stream(self, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Batches `start_step`, `start_step` + 1, ... without end, prepared ahead by `workers` processes,
        or by one thread where there are none. Closing the iterator ends them."""
        return self._from_workers(start_step) if self.workers else self._from_thread(start_step)

    def _from_workers(self, start_step: int) -> Iterator[dict[str, Any]]:
        loader = DataLoader(
            _Steps(self),
            sampler=itertools.count(start_step),  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=self.workers,
            prefetch_factor=_AHEAD,
            generator=torch.Generator(),  # otherwise the loader draws from the run's own random numbers
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*worker processes in total.*")
            warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
            batches = iter(loader)
        try:
            for batch in batches:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            del batches, loader  # the workers end with their iterator, which a traceback would keep alive

    def _from_thread(self, start_step: int) -> Iterator[dict[str, Any]]:
        ready: queue.Queue[dict[str, Any] | Exception] = queue.Queue(maxsize=_AHEAD)
        closing = threading.Event()

        def produce() -> None:
            steps = _Steps(self)
            for step in itertools.count(start_step):
                batch = steps[step]
                while not closing.is_set():
                    try:
                        ready.put(batch, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if closing.is_set() or isinstance(batch, Exception):
                    return

        thread = threading.Thread(target=produce, name="batches", daemon=True)
        thread.start()
        try:
            while True:
                batch = ready.get()
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            closing.set()
            thread.join()


class _Steps(Dataset[dict[str, Any] | Exception]):
    """Whole batches by step; an error travels as a value, so that its one line arrives as it was written."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> dict[str, Any] | Exception:
        try:
            return self.batches.at(step)
        except Exception as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def stack(values: list[Any]) -> Any:
    """One entry of several samples as that of a batch."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(values)
    if isinstance(first, tuple) and all(isinstance(part, torch.Tensor) for part in first):
        return tuple(torch.stack(parts) for parts in zip(*values, strict=True))
    return values
