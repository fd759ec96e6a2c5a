"""Tracing and cutting run thousands of tiny operators: on a busy machine, waking a second thread for each of them takes
ten times as long as the work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """One CPU thread for torch inside, as many as before afterwards. Also a decorator."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
