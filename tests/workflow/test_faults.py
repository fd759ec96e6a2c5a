"""What befalls a run from outside: a second one in its folder, a full disk, signals, kills."""

import errno
import fcntl
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ganshrink.exporters import export_onnx
from ganshrink.system.atomic import replacing, write_text
from ganshrink.system.lock import FolderInUse
from ganshrink.training.log import Events
from ganshrink.training.stages import Run, save_tensors
from ganshrink.workflow.compress import train_recipe
from ganshrink.workflow.recipe import read_recipe
from telling import rest_exhaustive

HOLD = "from ganshrink.system.lock import lock_folder; lock = lock_folder(Path(sys.argv[1]))"
SMALL = ["net.ngf=6", "net.blocks=1", "task.ndf=4", "teacher.max_steps=4", "teacher.checkpoint_steps=1"]


@contextmanager
def python(code: str, *words: object) -> Iterator[subprocess.Popen]:
    """A process that runs the code, says so and waits to be told to end."""
    code = f"import os, sys, time; from pathlib import Path; {code}; print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files stands in for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def small(folder: Path):
    return read_recipe(Path("recipes/cat/quick.toml"), [f"run={folder}", *SMALL])


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def turned_away(folder: Path) -> bool:
    """Whether somebody holds the folder's lock, as another process would see it."""
    with (folder / ".lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_second_process_is_turned_away_and_told_whose_the_folder_is(tmp_path):
    with python(HOLD, tmp_path) as holder:
        with pytest.raises(
            FolderInUse, match=f"{tmp_path} is in use by process {holder.pid} on .*: wait"
        ) as caught:
            Run(tmp_path)
        assert "\n" not in str(caught.value)
    Run(tmp_path)  # a killed process holds nothing


def test_a_forked_data_worker_has_no_part_in_the_lock(tmp_path):
    worker = "os.fork() or (Path(sys.argv[1], 'up').touch(), sys.stdin.read(), os._exit(0))"
    with python(f"{HOLD}; {worker}", tmp_path) as holder:
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        with pytest.raises(FolderInUse, match=f"process {holder.pid} on"):
            Run(tmp_path)
        holder.kill()
        holder.wait()
        Run(tmp_path)  # the worker is there until its standard input ends, which is after this


def test_a_process_may_open_its_run_again(tmp_path, monkeypatch):
    def fail(stage):
        raise ZeroDivisionError

    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    first = Run(tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        first.stage("search", fail, made_from={})
    monkeypatch.chdir(tmp_path)
    runs = [Run("run"), Run("link"), Run("./link/../run")]
    del first  # what it held the others hold on
    while runs:
        runs[0].stage("search", lambda stage: {}, made_from={})
        assert turned_away(tmp_path / "run")
        runs.pop()
    assert not turned_away(tmp_path / "run")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no such file system can be made here
    with caplog.at_level(logging.WARNING):
        Run(tmp_path).write("a.json", 1)
    assert "without locks" in caplog.text and json.loads((tmp_path / "a.json").read_text()) == 1


def test_leftovers_of_a_killed_writer_go_and_those_of_a_living_one_stay(tmp_path):
    path = tmp_path / "plan.json"
    write = "from ganshrink.system.atomic import replacing; block = replacing(Path(sys.argv[1])); block.__enter__()"
    with python(write, path):
        [other] = tmp_path.iterdir()
        write_text(path, "1")
        assert other.exists()
    assert other.exists()  # killed
    write_text(path, "2")
    assert visible(tmp_path) == ["plan.json"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.safetensors", "student.onnx", "plan.json"])
def test_a_full_disk_is_told_in_a_line_and_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    path.write_text("before")
    write = {
        ".safetensors": lambda: save_tensors(path, {"a": torch.zeros(5000)}),
        ".onnx": lambda: export_onnx(torch.nn.Conv2d(3, 3, 9), torch.zeros(1, 3, 16, 16), path),
        ".json": lambda: write_text(path, "0" * 5000),
    }
    reason = "cannot write .*: File too large; the one from before is untouched"
    with files_of_at_most(2000), pytest.raises(OSError, match=reason) as caught:
        write[path.suffix]()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert visible(tmp_path) == [name] and path.read_text() == "before"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_goes_on_when_the_disk_has_room_again(tmp_path):
    train_recipe(small(tmp_path / "whole"), progress=False)
    with (
        files_of_at_most(300_000),
        pytest.raises(OSError, match="cannot write .*checkpoint.pt: File too large"),
    ):
        train_recipe(small(tmp_path / "full"), progress=False)
    assert visible(tmp_path / "full/stages/teacher") == ["events.jsonl", "stamp.json"]
    train_recipe(small(tmp_path / "full"), progress=False)
    one, other = (load_file(tmp_path / run / "teacher.safetensors") for run in ("whole", "full"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_line_of_events_that_does_not_fit_is_told_and_dropped_later(tmp_path):
    path = tmp_path / "events.jsonl"
    events = Events(path, step=0)
    with files_of_at_most(100), pytest.raises(OSError, match="cannot write .*events.jsonl: File too large"):
        for step in range(1, 9):
            events.write({"step": step, "losses": {}})
    with files_of_at_most(100):
        events.close()
    assert not path.read_text().endswith("\n")
    Events(path, step=8).close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_folder_that_cannot_be_written_is_named():
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else for a moment")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Run(folder / "run")
        folder.chmod(0o755)
        try:
            os.seteuid(65534)
            with pytest.raises(
                OSError, match=f"cannot write in the run folder {folder}/run: Permission denied"
            ):
                Run(folder / "run")
            with pytest.raises(
                ValueError, match=f"cannot make the run folder {folder}/new: Permission denied"
            ):
                Run(folder / "new")
            with pytest.raises(OSError, match=f"cannot write {folder}/run/a.json: Permission denied"):
                write_text(folder / "run/a.json", "")
        finally:
            os.seteuid(0)


def test_a_path_through_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*file/a.json: (Not a directory|File exists)"):
        write_text(tmp_path / "file/a.json", "")


def test_what_fails_on_the_way_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.json"):
        raise ZeroDivisionError
    assert visible(tmp_path) == []


@pytest.mark.exhaustive
@pytest.mark.slow
def test_sigterm_saves_the_step_and_says_that_the_same_command_goes_on(tmp_path):
    words = ["train", "recipes/cat/quick.toml", f"run={tmp_path}", "--quiet", *SMALL, "teacher.max_steps=96"]
    command = [sys.executable, "-m", "ganshrink", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        checkpoint = tmp_path / "stages/teacher/checkpoint.pt"
        while not checkpoint.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        [line] = process.stderr.read().splitlines()
    assert process.returncode == 128 + signal.SIGTERM
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < step < 96
    assert line == (
        f"teacher: stopped by SIGTERM after step {step} of 96, which is saved in {checkpoint};"
        " the same command goes on from there"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", rest_exhaustive([signal.SIGTERM, signal.SIGINT], signal.SIGTERM.__eq__))
def test_a_signal_outside_of_training_ends_in_a_line(tmp_path, number):
    os.mkfifo(tmp_path / "cost.json")  # the report waits for it to be written
    command = [sys.executable, "-m", "ganshrink", "report", str(tmp_path)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
        (tmp_path / "cost.json").open("w"),
    ):
        process.send_signal(number)
        [line] = process.stderr.read().splitlines()
    assert process.returncode == 128 + number
    assert line.endswith("; the same command goes on from what is saved")


@pytest.mark.exhaustive  # stops of each method at each stage: tests/methods/test_contract.py
def test_kills_at_random_and_inside_of_writes_change_nothing():
    """The short form, of a seed that kills in six phases, both trainings among them; docs/reliability.md has the figures of
    the long one."""
    command = [sys.executable, "benchmarks/kills.py", "--kills", "6", "--seed", "1543", "--short"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n6 kills" in done.stdout
    for stage in ("teacher", "distill"):
        assert re.search(rf"^{stage} .*[1-9]", done.stdout, re.M), done.stdout
