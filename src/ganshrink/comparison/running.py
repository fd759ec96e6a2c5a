"""Cells made real: each an ordinary run in a process of its own, several at a time; one that fails ends alone."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ganshrink.comparison.matrix import Cell
from ganshrink.system.atomic import write_json, write_text
from ganshrink.system.lock import FolderInUse, lock_folder

RECORD, LOG = "cell.json", "cell.log"
PATIENCE = 120.0  # seconds to wait for a folder whose former process is still saving
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass(frozen=True)
class Outcome:
    """What became of the cell of that key. `error` is its own last line if it failed; `seconds` are of this attempt."""

    key: str
    state: Literal["done", "failed"]
    error: str | None
    seconds: float


@dataclass(frozen=True)
class Command:
    """A cell as any process can carry it out, on this machine or on another one that sees its folder."""

    name: str
    recipe: str
    run: str
    key: str
    words: tuple[str, ...]  # of the command line, after the recipe
    environment: dict[str, str]
    directory: str


def command(cell: Cell, *, threads: int | None = None) -> Command:
    """The command that carries a cell out; the recipe that it names is written."""
    write_text(cell.file, cell.text)
    passed = {name: value for name, value in os.environ.items() if name.startswith("GANSHRINK_")}
    words: tuple[str, ...] = ()
    if threads is not None:
        words = (f"student.threads={threads}",)
        passed["OMP_NUM_THREADS"] = str(threads)
    file, run = cell.file.resolve(), cell.run.resolve()
    return Command(cell.name, str(file), str(run), cell.key(), words, passed, str(Path.cwd()))


def outcome(cell: Cell) -> Outcome | None:
    """What became of a cell as the matrix has it now; None: it was not run to an end, or was another.

    Raises:
        ValueError: if the record is damaged.
    """
    file = cell.run / RECORD
    if not file.is_file():
        return None
    try:
        found = Outcome(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): delete it to make the cell again") from None
    return found if found.key == cell.key() else None


def carry_out(task: Command, watched: "Processes | None" = None) -> Outcome:
    """Carry a cell out, or go on with it, in a process of its own, and note in its folder what became of it.

    The process ends, once its step is saved, if this one does.
    """
    folder = Path(task.run)
    folder.mkdir(parents=True, exist_ok=True)
    _wait_for(folder)
    (folder / RECORD).unlink(missing_ok=True)  # what it says of is about to change
    started, began = time.monotonic(), time.time()
    with (folder / LOG).open("ab") as log:
        before = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "ganshrink", "compress", task.recipe, *task.words, "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **task.environment},
            cwd=task.directory,
            start_new_session=True,  # Ctrl-C reaches it from here alone: a second signal would end it unsaved
            preexec_fn=_end_with_parent() if sys.platform == "linux" else None,
        )
        if watched is not None:
            watched.add(process)
        code = process.wait()
    seconds = time.monotonic() - started
    if code == 0 or (code == 1 and _has_scores(folder, began)):
        done = Outcome(task.key, "done", None, seconds)
    else:
        done = Outcome(task.key, "failed", _error(folder / LOG, before, code), seconds)
    if watched is None or not watched.stopped:
        write_json(folder / RECORD, asdict(done))
    return done


def _has_scores(folder: Path, began: float) -> bool:
    """Whether a run that ended with an error has a student and its scores all the same, and lacks other files alone."""
    scores, lacking = folder / "metrics.json", folder / "missing.json"
    if not (scores.is_file() and lacking.is_file() and scores.stat().st_mtime >= began):
        return False
    return scores.name not in json.loads(lacking.read_text(encoding="utf-8"))


def carry_out_here(tasks: Iterable[Command], *, jobs: int, tell: Callable[[Command, Outcome], None]) -> None:
    """Carry cells out as processes of this machine, `jobs` at a time; `tell` hears of each as it ends.

    Ctrl-C and SIGTERM end them after the step at work, which is saved.
    """
    processes = Processes()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(carry_out, task, processes): task for task in tasks}
        try:
            for future in as_completed(waiting):
                task = waiting[future]
                try:
                    done = future.result()
                except Exception as error:  # a full disk, or a folder in use: the others go on
                    done = Outcome(task.key, "failed", str(error), 0.0)
                tell(task, done)
        except BaseException:
            for future in waiting:
                future.cancel()
            processes.stop()
            raise


class Processes:
    """The processes at work, to be stopped together."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self.stopped = False

    def add(self, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._all.append(process)
            if self.stopped:
                process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            for process in self._all:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)


def _wait_for(folder: Path) -> None:
    """Until nobody works in a run's folder.

    Raises:
        FolderInUse: if somebody still does after a while.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            lock_folder(folder).release()
            return
        except FolderInUse:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _end_with_parent() -> Callable[[], None]:
    libc = ctypes.CDLL(None)  # before the fork

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask


def _error(log: Path, start: int, code: int) -> str:
    """The last line that a process wrote about what went wrong."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    told = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in told if line.startswith("error: ")]
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return (errors or ([how] if code < 0 else told) or [how])[-1]
