"""One process at a time: locks that the operating system lets go of when their process ends, however it ends."""

import fcntl
import logging
import os
import secrets
import socket
import time
import weakref
from pathlib import Path

logger = logging.getLogger(__name__)

PROCESS = secrets.token_hex(8)  # process ids repeat, across containers that share a folder above all
PATIENCE = 10.0  # seconds; a killed run's data workers notice within five


class FolderInUse(RuntimeError):
    """Another process works in the folder."""


class FolderLock:
    """Keeps other processes out of a folder, from `take` until the object or the process is gone.

    The file `.lock` in the folder is what is locked; it stays there and says who locked it last. Within a process
    the lock keeps nobody out: whoever takes it second shares it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held = False

    def take(self) -> None:
        """Lock the folder, unless this object or this process has done so.

        Where the file system has no locks, a warning says so and the work goes on.

        Raises:
            FolderInUse: if another process has it; the message names it.
            OSError: if the folder cannot be written.
        """
        if self._held:
            return
        try:
            file = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OSError(f"cannot write in the run folder {self.folder}: {error.strerror}") from error
        locked = False
        try:
            locked = self._locked(file)
            if locked:
                os.ftruncate(file, 0)
                os.pwrite(file, _name().encode(), 0)
        except OSError as error:
            raise OSError(f"cannot write {self.folder / '.lock'}: {error.strerror}") from error
        finally:
            if not locked:
                os.close(file)
        if locked:
            weakref.finalize(self, os.close, file)
            self._held = True

    def _locked(self, file: int) -> bool:
        """Whether the lock is this object's now; False if it is this process's already."""
        deadline = time.monotonic() + PATIENCE
        while True:
            locked = try_lock(file)
            if locked is None:
                logger.warning("%s is on a file system without locks: run one command at a time", self.folder)
            if locked is not False:
                return True
            holder = os.pread(file, 200, 0).decode(errors="replace")
            if holder == _name():
                return False
            if not _ended(holder) or time.monotonic() > deadline:
                raise FolderInUse(
                    f"{self.folder} is in use by {_who(holder)}: wait until it is done, or use another folder"
                )
            time.sleep(0.1)  # it was killed, and the workers that it started have not noticed yet


def try_lock(file: int) -> bool | None:
    """Lock an open file until it is closed: whether that worked, None where there are no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _name() -> str:
    return f"{os.getpid()} {socket.gethostname()} {PROCESS}\n"


def _who(holder: str) -> str:
    words = holder.split()
    return f"process {words[0]} on {words[1]}" if len(words) == 3 else "another process"


def _ended(holder: str) -> bool:
    """Whether the process that wrote its name into a lock file is known to be gone."""
    words = holder.split()
    if len(words) != 3 or not words[0].isdecimal() or words[1] != socket.gethostname():
        return False
    try:
        os.kill(int(words[0]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, so it is there
        return False
    return False
