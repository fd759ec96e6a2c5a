"""An endless stream of full batches, a pure function of the step: to resume, the step is enough."""

import itertools
import math
import queue
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ganshrink.data.images import Images

_AHEAD = 2  # batches prepared before they are asked for, per worker
# What keeps the kinds of random numbers of one seed apart.
_ORDER, _AUGMENTATION = 0, 1
_BESIDE = 2  # added to these two for batches beside others
LABELS = 4  # which pairs keep their targets
LATENTS = 5  # the vectors that unconditional generators are scored on


def counter_rng(*key: int) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@lru_cache(maxsize=16)
def _permutation(seed: int, kind: int, epoch: int, count: int) -> np.ndarray:
    return counter_rng(seed, kind, epoch).permutation(count)


class Batches:
    """Batch b: positions [b*B, (b+1)*B) of the endless row of per-epoch permutations, B = batch_size * world.

    With `world` processes, process `rank` takes its consecutive `batch_size` of them. Augmentation draws from
    (seed, epoch, index) alone, so neither workers nor processes nor a restart change a sample. Batches that run `beside`
    others of the same seed have random numbers of their own. An epoch has `epoch_length` samples: those of the data set, or
    of what it was cut out of, so that a training on a part is as long as one on the whole.
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
        beside: bool = False,
        epoch_length: int | None = None,
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
        self._shift = _BESIDE if beside else 0
        self.epoch_length = len(dataset) if epoch_length is None else epoch_length

    @property
    def global_batch(self) -> int:
        """Samples per step over all processes."""
        return self.batch_size * self.world

    def epoch(self, step: int) -> int:
        """The epoch in which the step begins."""
        return step * self.global_batch // self.epoch_length

    def steps(self, epochs: float) -> int:
        """Steps that show as many samples as so many epochs have: every one at least so often."""
        return math.ceil(epochs * self.epoch_length / self.global_batch)

    def keys(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of each sample of this process's share of a step."""
        count = len(self.dataset)
        start = step * self.global_batch + self.rank * self.batch_size
        places = (divmod(position, count) for position in range(start, start + self.batch_size))
        order = _ORDER + self._shift
        return [(epoch, int(_permutation(self.seed, order, epoch, count)[place])) for epoch, place in places]

    def at(self, step: int) -> dict[str, Any]:
        """The batch of a step: tensors stacked on a new first axis, tuples of tensors each, everything else in lists."""
        augmentation = _AUGMENTATION + self._shift
        samples = [
            self.dataset.sample(index, counter_rng(self.seed, augmentation, epoch, index))
            for epoch, index in self.keys(step)
        ]
        return {key: stack([sample[key] for sample in samples]) for key in samples[0]}

    def stream(self, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Batches `start_step`, `start_step` + 1, ... without end, prepared ahead by `workers` processes,
        or by one thread where there are none. Closing the iterator ends them."""
        return _prepared(self.at, start_step, self.workers)


class PairedWithUnlabelled:
    """Batches of pairs, each with inputs that have no target beside it: under "unlabelled", as "input" is.

    Steps and epochs are those of the pairs. One thread, or the pairs' workers, prepare both.

    Args:
        labelled: the pairs.
        unlabelled: the inputs, of as many processes; made with `beside`, for random numbers of their own.
    """

    def __init__(self, labelled: Batches, unlabelled: Batches) -> None:
        assert (labelled.rank, labelled.world) == (unlabelled.rank, unlabelled.world)
        self.labelled, self.unlabelled = labelled, unlabelled
        self.world, self.global_batch = labelled.world, labelled.global_batch
        self.steps, self.epoch = labelled.steps, labelled.epoch

    def at(self, step: int) -> dict[str, Any]:
        """The batch of a step: the labelled one, and the inputs of the unlabelled one."""
        return {**self.labelled.at(step), "unlabelled": self.unlabelled.at(step)["input"]}

    def stream(self, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """As `Batches.stream`."""
        return _prepared(self.at, start_step, self.labelled.workers)


At = Callable[[int], dict[str, Any]]


def _prepared(at: At, start_step: int, workers: int) -> Iterator[dict[str, Any]]:
    return _from_workers(at, start_step, workers) if workers else _from_thread(at, start_step)


def _from_workers(at: At, start_step: int, workers: int) -> Iterator[dict[str, Any]]:
    loader = DataLoader(
        _Steps(at),
        sampler=itertools.count(start_step),  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        generator=torch.Generator(),  # otherwise the loader draws from the run's own random numbers
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*worker processes in total.*")
        warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        del batches, loader  # the workers end with their iterator, which a traceback would keep alive


def _from_thread(at: At, start_step: int) -> Iterator[dict[str, Any]]:
    ready: queue.Queue[dict[str, Any] | BaseException] = queue.Queue(maxsize=_AHEAD)
    closing = threading.Event()

    def produce() -> None:
        steps = _Steps(at)
        for step in itertools.count(start_step):
            batch = steps[step]
            while not closing.is_set():
                try:
                    ready.put(batch, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if closing.is_set() or isinstance(batch, BaseException):
                return

    thread = threading.Thread(target=produce, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            batch = ready.get()
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        closing.set()
        thread.join()


class _Steps(Dataset[dict[str, Any] | BaseException]):
    """Whole batches by step; an error travels as a value, so that its one line arrives as it was written."""

    def __init__(self, at: At) -> None:
        self.at = at

    def __getitem__(self, step: int) -> dict[str, Any] | BaseException:
        try:
            return self.at(step)
        except BaseException as error:
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
