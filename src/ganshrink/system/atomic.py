"""Files that are whole or not there: written beside their place, then moved into it."""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ganshrink.system.lock import try_lock

WINDOWS = os.name == "nt"  # neither renames nor removes an open file, and lets nobody else write a locked one


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in `path`'s folder; it replaces `path` if the block succeeds and is removed if it fails.

    Raises:
        OSError: one line with path and reason if it cannot be written; what was there before still is.
    """
    handle, temporary = None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
        temporary = Path(name)
        if not WINDOWS:
            try_lock(handle)  # tells other processes that this one is not left over
        yield temporary
        with temporary.open("r+b") as written:
            os.fsync(written.fileno())  # the rename must never overtake the contents
        temporary.chmod(0o644)  # mkstemp makes it private; results are to be read
        if WINDOWS:
            os.close(handle)
            handle = None
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        kept = "; the one from before is untouched" if path.is_file() else ""
        raise OSError(f"cannot write {path}: {error.strerror or error}{kept}") from error
    finally:
        if handle is not None:
            os.close(handle)
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def _prefix(path: Path) -> str:
    """How its temporaries begin; `path` may be as long as a name can be, and they have more to say."""
    return f".{os.fsdecode(os.fsencode(path.name)[:200])}."


def _remove_leftovers(path: Path) -> None:
    """Remove temporaries of processes that were killed while they wrote `path`; who is still writing holds a lock."""
    for left in path.parent.glob(f"{glob.escape(_prefix(path))}????????{glob.escape(path.suffix)}"):
        abandoned = None
        with suppress(OSError), left.open("r+b") as file:
            abandoned = try_lock(file.fileno())
        if abandoned:
            with suppress(OSError):
                left.unlink()
