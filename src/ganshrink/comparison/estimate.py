"""What a matrix will take: a trial of each cell that is not like another but for its seed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ganshrink.comparison.matrix import Cell
from ganshrink.comparison.results import NO_SEARCH
from ganshrink.comparison.running import command
from ganshrink.reports.numbers import duration, file_size
from ganshrink.system.atomic import write_json

KEPT = "estimate.json"


def estimate(
    left: Sequence[Cell],
    folder: Path,
    jobs: int,
    threads: int | None,
    *,
    trained: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Hours, disk and memory of the cells that are left, told line by line and kept in the folder.

    Args:
        trained: the teacher of all is there; else its training is counted, once.

    Raises:
        ValueError: if students would not see the same number of images, before anything is trained.
    """
    file = folder / KEPT
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    told: dict[str, dict[str, Any]] = {}
    for cell in left:
        kind = cell.kind
        if kind not in told:
            found = known.get(kind, {})
            key = f"{cell.kind_key()} {threads}"
            if found.get("key") != key:
                found = {"key": key, "label_fraction": cell.label_fraction, **_trial(cell, threads)}
                if "error" not in found:
                    known[kind] = found
                    write_json(file, known)
            told[kind] = found
            tell(f"{kind}: {_said(found)}")
    _check_equal(told)
    trials = [told[cell.kind] for cell in left]
    teacher = 0.0 if trained else max(map(_of_teacher, trials), default=0.0)
    seconds = sum(trial.get("seconds", 0.0) - _of_teacher(trial) for trial in trials)
    memory = sorted((trial.get("memory", {}).get("cpu", 0) for trial in trials), reverse=True)
    whole = {
        "cells": len(left),
        "teacher_seconds": teacher,
        "seconds": teacher + seconds,
        "wall_seconds": teacher + seconds / max(1, min(jobs, len(left))),
        "disk": sum(trial.get("disk", 0) for trial in trials),
        "memory": sum(memory[:jobs]),
        "kinds": told,
    }
    tell(
        f"{len(left)} cells: {duration(whole['seconds'])} in all, {duration(whole['wall_seconds'])} by {jobs} at a time, "
        f"{file_size(whole['disk'])} of disk, {file_size(whole['memory'])} of memory"
    )
    return whole


def _trial(cell: Cell, threads: int | None) -> dict[str, Any]:
    task = command(cell, threads=threads)
    flags = ("--dry-run", "--json", "--quiet")
    words = [sys.executable, "-m", "ganshrink", "compress", task.recipe, *task.words, *flags]
    environment = {**os.environ, **task.environment}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1].removeprefix("error: ")}
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _of_teacher(trial: dict[str, Any]) -> float:
    return sum(stage["seconds"] for stage in trial.get("stages", ()) if stage["name"] == "teacher")


def _said(found: dict[str, Any]) -> str:
    if "error" in found:
        return f"fails: {found['error']}"
    parts = [stage for stage in found["stages"] if stage["name"] != "teacher"]
    stages = [f"{stage['name']} {duration(stage['seconds'])}" for stage in parts]
    return f"{duration(found['seconds'] - _of_teacher(found))} ({', '.join(stages)})"


def _check_equal(told: dict[str, dict[str, Any]]) -> None:
    """Refuse students that would be trained for longer than others of the same labels, by which an epoch is as long."""
    seen: dict[float, dict[str, tuple[int, int]]] = {}
    for kind, found in told.items():
        stages = found.get("stages", ())
        trained = [stage for stage in stages if "images" in stage and stage["name"] not in NO_SEARCH]
        if trained:
            length = (int(trained[-1]["images"]), int(trained[-1]["steps"]))
            seen.setdefault(found["label_fraction"], {})[kind] = length
    for lengths in seen.values():
        usual = max(lengths.values(), key=list(lengths.values()).count)
        for kind, (images, steps) in lengths.items():
            if (images, steps) != usual:
                raise ValueError(
                    f"the student of {kind} would see {images} images in {steps} steps, the others {usual[0]} in "
                    f"{usual[1]}: remove what its method says of batch_size and epochs"
                )
