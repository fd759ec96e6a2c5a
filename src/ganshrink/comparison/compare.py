"""A comparison from its matrix, or from runs that exist, to compare.json and compare.html."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ganshrink.comparison.cluster import carry_out_there, load_distributed
from ganshrink.comparison.estimate import estimate
from ganshrink.comparison.joining import members_of
from ganshrink.comparison.matrix import Cell, Matrix, cells, read_matrix, shared_recipe
from ganshrink.comparison.results import Member, teacher_key
from ganshrink.comparison.running import Command, Outcome, carry_out_here, command, outcome
from ganshrink.comparison.table import tabulate
from ganshrink.reports.comparison import write_comparison
from ganshrink.reports.page import load_extra
from ganshrink.reports.words import in_a_sentence
from ganshrink.system.atomic import write_json
from ganshrink.system.lock import lock_folder
from ganshrink.workflow.compress import train_recipe
from ganshrink.workflow.recipe import resolve

logger = logging.getLogger(__name__)

RESULT, PAGE, TEACHER = "compare.json", "compare.html", "teacher"


@dataclass(frozen=True)
class Workers:
    """Where cells are carried out.

    Attributes:
        jobs: how many at a time on this machine.
        threads: of each; none: as torch has it.
        cluster: the address of a dask scheduler, whose workers take them instead.
        resources: what of these a cell takes of a worker there.
    """

    jobs: int = 1
    threads: int | None = None
    cluster: str | None = None
    resources: Mapping[str, float] | None = None


def compare(
    matrix: str | Path | Matrix,
    *overrides: str,
    workers: Workers | None = None,
    only: str = "*",
    dry_run: bool = False,
    estimated: bool = True,
    tell: Callable[[str], None] = logger.info,
) -> dict[str, Any]:
    """Carry out a matrix and say what its results allow to say. The same call goes on where an earlier one was stopped;
    cells that failed are tried again.

    Args:
        matrix: its TOML file, or itself.
        overrides: `key=value` to change in the file.
        only: carry out the cells whose names are like this pattern, such as `*seed=0`; all that have a result are shown.
        dry_run: stop after the estimate.
        estimated: try a few steps of each cell first, and say what all takes.
        tell: hears how it goes, line by line.

    Returns:
        What compare.json holds; of a dry run the estimate.

    Raises:
        ValueError: for anything that cannot work; or at the end if no cell has a result.
    """
    if not isinstance(matrix, Matrix):
        matrix = read_matrix(matrix, overrides)
    workers = workers or Workers()
    load_extra()
    if workers.cluster is not None:
        load_distributed()
    made = cells(matrix)  # what is wrong in any of them is said before a teacher is trained
    matrix.run.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(matrix.run)
    try:
        write_json(matrix.run / "matrix.json", matrix.model_dump(mode="json"))
        taught_by = matrix.run / TEACHER
        undone = [cell for cell in made if not _is_done(cell, taught_by)]
        left = [cell for cell in undone if fnmatch(cell.name, only)]
        tell(f"{len(made)} cells, {len(made) - len(undone)} done, {len(left)} to do")
        found: dict[str, Any] = {}
        if estimated or dry_run:
            trained = bool(teacher_key(taught_by))
            given = (left, matrix.run, workers.jobs, workers.threads)
            found = estimate(*given, trained=trained, tell=tell)
        if dry_run:
            return found
        if left:
            made = cells(
                matrix, _teacher(matrix, workers.threads, tell)
            )  # maybe another one than cells were taught by
            left = [cell for cell in made if fnmatch(cell.name, only) and not _is_done(cell, taught_by)]
        try:
            _carry_out(left, workers, tell)
        except BaseException:
            with suppress(ValueError):  # nothing is done yet
                _write(matrix.run, made, matrix)
            raise
        return _write(matrix.run, made, matrix)
    finally:
        lock.release()


def compare_runs(
    runs: Sequence[str | Path], out: str | Path, *, rank_by: str | None = None
) -> dict[str, Any]:
    """Compare finished runs, whatever made them; those whose recipes differ in the seed alone are one entry.

    Args:
        runs: their folders.
        out: the folder that gets compare.json and compare.html.

    Raises:
        ValueError: if a folder is no finished run, or nothing can be compared.
    """
    load_extra()
    members = members_of(dict.fromkeys(Path(run).resolve() for run in runs))
    result = tabulate(members, rank_by=rank_by)
    return _finish(Path(out), result, members)


def said(result: Mapping[str, Any]) -> str:
    """A result in a few lines: a table of places for each budget, and what is not there."""
    lines = []
    for ranking in result["ranking"]:
        rows = {
            row["entry"]: row
            for row in result["rows"]
            if (row["budget"], row["label_fraction"]) == (ranking["budget"], ranking["label_fraction"])
        }
        lines.append(
            f"{ranking['budget']}, {ranking['label_fraction']:.0%} of the labels, by "
            f"{in_a_sentence(result['rank_by'])}:"
        )
        place = 1
        for names in ranking["places"]:
            for name in names:
                value = rows[name]["metrics"][result["rank_by"]]
                between = "" if value["low"] is None else f" ({value['low']:.4g} to {value['high']:.4g})"
                tied = " tied" if len(names) > 1 else ""
                remarks = "".join(f"; {remark}" for remark in rows[name]["said"])
                lines.append(f"  {place}{tied}: {name} {value['value']:.4g}{between}{remarks}")
                if told := rows[name]["cells"][0].get("verdict"):
                    lines.append(f"     verdict: {told['grade']}. {told['sentence']}")
            place += len(names)
    lines += [f"failed: {cell['name']}: {cell['error']}" for cell in result["failed"]]
    if result["unfinished"]:
        lines.append(f"not finished: {len(result['unfinished'])} cells")
    return "\n".join(lines)


def _teacher(matrix: Matrix, threads: int | None, tell: Callable[[str], None]) -> Path | None:
    """The folder of the teacher that all cells take: trained here unless the recipe names one."""
    shared = shared_recipe(matrix)
    if shared.get("teacher", {}).get("weights") is not None:
        return None
    folder = matrix.run / TEACHER
    tell(f"the teacher: {folder}")
    if threads is not None:
        shared["teacher"] = {**shared.get("teacher", {}), "threads": threads}
    train_recipe(resolve({**shared, "run": str(folder)}, source="recipe"), progress=False)
    return folder


def _is_done(cell: Cell, taught_by: Path) -> bool:
    """Whether a cell has its result, of the teacher in that folder if there is one."""
    found, present = outcome(cell), teacher_key(taught_by)
    if found is None or found.state != "done":
        return False
    return not present or teacher_key(cell.run) in ("", present)


def _carry_out(left: Sequence[Cell], workers: Workers, tell: Callable[[str], None]) -> None:
    done = 0

    def heard(task: Command, found: Outcome) -> None:
        nonlocal done
        done += 1
        said = f"failed: {found.error}" if found.error else f"done in {found.seconds / 60:.1f} min"
        tell(f"{done}/{len(left)} {task.name}: {said}")

    tasks = [command(cell, threads=workers.threads) for cell in left]
    if not tasks:
        return
    if workers.cluster is None:
        carry_out_here(tasks, jobs=workers.jobs, tell=heard)
    else:
        carry_out_there(tasks, address=workers.cluster, resources=workers.resources or {}, tell=heard)


def _write(folder: Path, made: Sequence[Cell], matrix: Matrix) -> dict[str, Any]:
    members, unfinished = [], []
    for cell in made:
        found = outcome(cell)
        if found is None:
            unfinished.append(cell.name)
            continue
        where = (cell.name, cell.entry, cell.budget, cell.seed, cell.label_fraction)
        members.append(Member(*where, cell.run, found.error, found.seconds))
    result = tabulate(members, unfinished=unfinished, rank_by=matrix.rank_by, margin=matrix.margin)
    return _finish(folder, result, members)


def _finish(folder: Path, result: dict[str, Any], members: Sequence[Member]) -> dict[str, Any]:
    for row in result["rows"]:  # folders as seen from where the result lies: both may move together
        for cell in row["cells"]:
            cell["folder"] = Path(os.path.relpath(cell["folder"], folder)).as_posix()
    write_json(folder / RESULT, result)
    write_comparison(folder / PAGE, result, {m.name: m.run for m in members if m.error is None})
    return result
