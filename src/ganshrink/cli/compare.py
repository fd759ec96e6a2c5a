"""The verb that compares methods, or finished runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ganshrink.cli.options import Json, Quiet
from ganshrink.cli.terminal import answer, start_logging

PANEL = "Use and check a finished run"  # in --help

app = typer.Typer()


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `ganshrink compare matrix.toml --jobs 2 --threads 1`, `ganshrink compare matrix.toml --dry-run`, or "
    "of runs that exist `ganshrink compare runs/one runs/other`\n\nWhat a matrix holds, and how to read what comes out: "
    "docs/compare.md.",
)
def compare(
    matrix: Annotated[
        list[str],
        typer.Argument(
            metavar="MATRIX [KEY=VALUE]... | RUN RUN...",
            help="a TOML file, and values of it to change; or the folders of finished runs",
        ),
    ],
    jobs: Annotated[int, typer.Option(min=1, help="cells at a time on this machine")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of a cell")] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="a dask scheduler whose workers take the cells"),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AMOUNT", help="what of a worker's resources a cell takes, such as `GPU=1`"
        ),
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="PATTERN", help="carry out the cells of these names, such as `*seed=0`")
    ] = "*",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what it would take, by a few steps of each cell, then stop")
    ] = False,
    estimate: Annotated[
        bool, typer.Option(help="try a few steps of each cell first, and say what all takes")
    ] = True,
    rank_by: Annotated[
        str | None, typer.Option(metavar="METRIC", help="of runs that exist: the metric that decides")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="of runs that exist: the folder to write")] = Path(
        "runs/compare"
    ),
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Compare methods like for like: a matrix of runs with baselines, seeds and intervals, on one page."""
    from ganshrink.comparison import compare as comparing

    start_logging(quiet)
    first, rest = matrix[0], matrix[1:]
    if not first.endswith(".toml"):
        asked = {"--cluster": cluster, "--threads": threads, "--dry-run": dry_run, "--resource": resource}
        asked |= {"--jobs": jobs > 1, "--only": only != "*"}
        if given := [name for name, value in asked.items() if value]:
            raise ValueError(f"{given[0]} is for a matrix, and {first} is no TOML file: leave it out")
        result, folder = comparing.compare_runs(matrix, out, rank_by=rank_by), out
    else:
        if rank_by is not None:
            raise ValueError("--rank-by is for runs that exist: of a matrix write rank_by=METRIC")
        workers = comparing.Workers(jobs, threads, cluster, _resources(resource or ()))
        told = _quiet if quiet or json_ else typer.echo
        options: dict[str, Any] = {"only": only, "dry_run": dry_run, "estimated": estimate, "tell": told}
        read = comparing.read_matrix(first, rest)
        result, folder = comparing.compare(read, workers=workers, **options), read.run
    page = "" if dry_run else f"{comparing.said(result)}\n{folder / comparing.PAGE}"
    answer(result, json_, page)


def _quiet(line: str) -> None:
    """Say nothing."""


def _resources(words: Any) -> dict[str, float]:
    found = {}
    for word in words:
        name, equals, amount = word.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise ValueError(f"--resource {word} is no NAME=AMOUNT, such as GPU=1") from None
    return found
