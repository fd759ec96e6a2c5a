"""Files of a finished run that could not be made: told in the report and at the end, and no reason to lose the rest."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganshrink.system.spelling import first_line
from ganshrink.training.stages import Run

logger = logging.getLogger(__name__)

MISSING = "missing.json"


def missing(folder: Path) -> dict[str, str]:
    """The files of a finished run that could not be made, with the reasons."""
    file = folder / MISSING
    return json.loads(file.read_bytes()) if file.is_file() else {}


@contextmanager
def losing(run: Run, name: str) -> Iterator[None]:
    """Make one file of a finished run: where that fails, it is noted in missing.json, and the rest is made."""
    try:
        yield
    except Exception as error:  # whatever a network, a metric or a runtime raises
        logger.error("%s is missing: %s", name, first_line(error))
        run.write(MISSING, {**missing(run.path), name: first_line(error)})


def found(run: Run, name: str) -> None:
    """A file that was missing has been made."""
    left = {file: reason for file, reason in missing(run.path).items() if file != name}
    if left:
        run.write(MISSING, left)
    else:
        (run.path / MISSING).unlink(missing_ok=True)
