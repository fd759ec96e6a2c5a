"""Files that are whole or not there: written beside their place, then moved into it."""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in `path`'s folder; it replaces `path` if the block succeeds and is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(
        f".{glob.escape(path.name)}.*"
    ):  # by a process that was killed while it wrote
        left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # the rename must never overtake the contents
        temporary.chmod(0o644)  # mkstemp makes it private; results are to be read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
