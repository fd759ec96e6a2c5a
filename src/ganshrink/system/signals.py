"""Being told to stop, by SIGTERM or Ctrl-C, at a moment when work can still be saved."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The work was stopped from outside; the message says what was saved.

    Args:
        message: for the user, one line.
        number: the signal's.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


@dataclass
class StopRequest:
    """`number` is that of the signal that asked, None until one does."""

    number: int | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block the first SIGTERM or SIGINT is only noted; a second one does what it did before the block.

    Signals that are ignored stay so. Outside of the main thread, where Python allows no handlers, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    owner = os.getpid()
    before: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            put_back()
            request.number = number
        elif number == signal.SIGTERM:  # a data worker was forked with this handler; who ends it means it
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if handler not in (
                signal.SIG_IGN,
                None,
            ):  # None: a handler of C code, which could not be put back
                before[number] = handler
                signal.signal(number, note)
        yield request
    finally:
        put_back()
