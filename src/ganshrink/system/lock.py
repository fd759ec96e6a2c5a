"""One process at a time: locks that the operating system lets go of when their process ends, however it ends."""

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout, lock_descriptor

logger = logging.getLogger(__name__)

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class FolderInUse(RuntimeError):
    """Another process works in the folder."""


def lock_folder(folder: Path) -> BaseFileLock:
    """Keep other processes out of a folder, as long as the lock that is returned or this process lives.

    The file `.lock` in the folder is what is locked; it stays there and says who locked it last. Within a process
    the lock keeps nobody out: whoever takes it second shares it. Processes that this one forks have no part in it.
    Where the file system has no locks, a warning says so and the work goes on.

    Raises:
        FolderInUse: if another process has it; the message names it.
        OSError: if the folder cannot be written.
    """
    path = folder.resolve() / ".lock"
    lock = FileLock(
        path,
        blocking=False,
        is_singleton=True,
        thread_local=False,
        preserve_lock_file=True,
        on_acquired=_sign,
    )
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(
            f"{folder} is in use by {_holder(path)}: wait until it is done, or use another folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OSError(f"cannot write in the run folder {folder}: {error.strerror}") from error
        logger.warning("%s is on a file system without locks: run one command at a time", folder)
    return lock


def try_lock(file: int) -> bool | None:
    """Lock an open file until it is closed: whether that worked, None where there are no locks."""
    try:
        return lock_descriptor(file, blocking=False)
    except OSError:
        return None


def _sign(file: int) -> None:
    """Write into a lock's file whose it is: after its first byte, which is what Windows locks, against readers too."""
    os.ftruncate(file, 0)
    os.write(file, f" {os.getpid()} {socket.gethostname()}\n".encode())


def _holder(path: Path) -> str:
    words: list[str] = []
    with suppress(OSError), path.open("rb", buffering=0) as file:
        file.seek(1)
        words = file.read(200).decode(errors="replace").split()
    return f"process {words[0]} on {words[1]}" if len(words) == 2 else "another process"
