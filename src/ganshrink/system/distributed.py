"""Several processes at one command, as torchrun starts them: which is the main one, how they agree and add up.

Every process runs the same program. The main one, of rank 0, alone writes files and talks; before the others read
what it wrote they meet it in `barrier` or `broadcast`. With a single process all of this does nothing.
"""

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")
S = TypeVar("S")

# The others wait while the main process evaluates, exports and times. A process that ends is noticed at once, without this.
PATIENCE = timedelta(days=30)


class LostProcess(RuntimeError):
    """Another process of this command has ended, so that this one cannot go on."""


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun says; (0, 1) without it."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if "RANK" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", 1))


def is_main_process() -> bool:
    """Whether this process is the one that writes files and talks."""
    return rank_and_world()[0] == 0


def init_distributed() -> None:
    """Meet the other processes, unless that is done or there are none.

    Raises:
        LostProcess: if they cannot be reached.
        ValueError: if the port to meet at is taken.
    """
    if rank_and_world()[1] > 1 and not distributed.is_initialized():
        with _talking():
            try:
                distributed.init_process_group(timeout=PATIENCE)  # gloo for tensors on the CPU, NCCL on GPUs
            except distributed.DistNetworkError as error:
                if "EADDRINUSE" not in str(error):
                    raise
                raise ValueError(
                    f"port {os.environ.get('MASTER_PORT')} of this machine is in use, by another command of several "
                    "processes perhaps: set MASTER_PORT to a free one, or start with torchrun --standalone"
                ) from error
        atexit.register(_leave)


def barrier() -> None:
    """Until every process is here."""
    if rank_and_world()[1] > 1:
        _reduced(torch.zeros(()), distributed.ReduceOp.SUM)


def broadcast(value: T) -> T:
    """The main process's value, which is pickled on its way. Every process waits for it."""
    if rank_and_world()[1] == 1:
        return value
    box = [value]
    with _talking():
        distributed.broadcast_object_list(box, src=0)
    return box[0]


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of equally shaped tensors, one from each process; not differentiable."""
    world = rank_and_world()[1]
    return values if world == 1 else _reduced(values, distributed.ReduceOp.SUM) / world


def max_over_processes(values: Tensor) -> Tensor:
    """The largest of equally shaped tensors, one from each process, place by place; not differentiable."""
    return values if rank_and_world()[1] == 1 else _reduced(values, distributed.ReduceOp.MAX)


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of equally shaped tensors, one from each process, with gradients.

    The backward pass adds over processes, too: what comes out is the gradient of the sum of all processes' losses.
    Averaging the parameters' gradients afterwards, as `fit` does, makes it that of their mean. So a statistic summed
    here has the gradients that it has in one process with all of the batch, whether each process goes on to a loss
    of its own images (batch norm) or all come to the same loss (kernel alignment).
    """
    if rank_and_world()[1] == 1:
        return values
    return torch.compiler.disable(_Sum.apply)(
        values
    )  # not above: it imports torch.compile, which takes seconds


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return _reduced(values, distributed.ReduceOp.SUM)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _reduced(gradient, distributed.ReduceOp.SUM)


def spread(score: Callable[[S], float], items: Sequence[S]) -> list[float]:
    """`score` of every item, each computed by one process; all get all. Without others this one computes them all."""
    rank, world = rank_and_world()
    scores = torch.zeros(len(items), dtype=torch.float64)
    for place in range(rank, len(items), world):
        scores[place] = score(items[place])
    return (scores if world == 1 else _reduced(scores, distributed.ReduceOp.SUM)).tolist()


def speaks_first() -> bool:
    """Whether this process is the first to report an end. Where one fails, the rest fail after it for lack of it.

    It asks torchrun's own store, which is there before the processes have met and after one is gone.
    """
    if rank_and_world()[1] == 1:
        return True
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"ganshrink/spoken/{attempt}", 1) == 1
    except (KeyError, RuntimeError):
        return True  # better said twice than not at all


def _reduced(values: Tensor, operation: Any) -> Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    with _talking():
        distributed.all_reduce(total, operation)
    return total


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcess(
            "another process of this command was killed or cannot be reached: the same command goes on from what is saved"
        ) from error


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
