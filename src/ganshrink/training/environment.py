"""Where the numbers of a run come from: versions, machine, command, and a hash of the code."""

import hashlib
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

import ganshrink
from ganshrink.system.machine import cpu_name

PACKAGE = Path(ganshrink.__file__).parent

FORMAT = 2  # of a run's folder, written into env.json; earlier folders, of 1, do not say


def environment(seed: int) -> dict[str, Any]:
    """What a reader needs to know about where the numbers of a run come from."""
    return {
        "ganshrink": _version(),
        "format": FORMAT,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "command": f"{_program()} {shlex.join(sys.argv[1:])}".rstrip(),
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_hash(),
    }


def _program() -> str:
    """What was called; of `python -m ganshrink` the file is __main__.py, which nobody types."""
    path = Path(sys.argv[0])
    return f"python -m {path.parent.name}" if path.name == "__main__.py" else path.name


@cache
def code_hash() -> str:
    """A hash of this package's source files."""
    return source_hash(PACKAGE)


def source_hash(root: Path) -> str:
    """A hash of the Python files in a folder: of their names from there on, and of what is in them."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _version() -> str:
    from importlib.metadata import version

    return version("ganshrink")
