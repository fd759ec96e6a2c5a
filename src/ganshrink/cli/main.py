"""The command line: verbs to functions. Everything heavy is imported inside the verbs, so that `--help` answers at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

import ganshrink
from ganshrink.cli import look, runs, terminal
from ganshrink.cli.exit import MANY, run_app
from ganshrink.cli.options import Explain, Json, Overrides, Quiet, RecipeFile, Retrain

PANEL = "Make a student"  # in --help

app = typer.Typer(
    help="Make image-to-image generators small and fast enough to ship.\n\n"
    "A recipe (a TOML file) names a generator, images and a budget; `compress` makes a small generator that meets the "
    "budget, in a run folder with a report. The other verbs work on such a folder, or look things up.",
    epilog="`ganshrink VERB --help` explains a verb. First steps: docs/quickstart.md; every setting: docs/reference.md.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(runs.app)  # without a name: its verbs are ours
app.add_typer(look.app)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ganshrink {ganshrink.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="show the trace of an error")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="print the version, then stop"),
    ] = False,
) -> None:
    # --debug is read in main(), before and after any verb
    if MANY and context.invoked_subcommand not in ("train", "compress"):
        raise ValueError(f"{context.invoked_subcommand} works in one process: start it without torchrun")


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: `ganshrink train recipes/cat/quick.toml run=runs/mine teacher.epochs=2`",
)
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    explain: Explain = False,
    retrain: Retrain = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Train the generator of a recipe: the teacher that `compress` would train, in the same run folder."""
    from ganshrink.workflow import compress

    resolved = _recipe(recipe, overrides, explain)
    terminal.start_logging(quiet)
    summary = compress.train_recipe(resolved, retrain=retrain, progress=not quiet)
    terminal.answer(summary, json_, f"teacher: {summary['weights']}")


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: `ganshrink compress recipes/cat/quick.toml run=runs/mine budget=macs=30%,params=20k`\n\n"
    "The same command goes on where it was stopped (Ctrl-C saves first). A budget is `KIND=AMOUNT`, several joined by "
    "commas: kinds macs, paper_macs, params, bytes with amounts like 2.6G, 400k, 2MB or 10%; or a time on a device, "
    "latency=30ms@cpu, latency=40%@cpu, latency=30ms@phone.toml (see `measure --device-profile`).",
)
def compress(
    recipe: RecipeFile,
    overrides: Overrides = None,
    explain: Explain = False,
    retrain: Retrain = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make a generator small: train or load the teacher, search, distil, evaluate, export, report."""
    from ganshrink.workflow import compress
    from ganshrink.workflow.missing import missing

    resolved = _recipe(recipe, overrides, explain)
    terminal.start_logging(quiet)
    outcome = compress.compress_recipe(resolved, retrain=retrain, progress=not quiet)
    folders = [outcome.path]
    if resolved.data is not None and resolved.data.direction == "both":
        folders = [outcome.path.parent / way for way in ("AtoB", "BtoA")]
    lines = [f"student: {path / 'student.safetensors'}\nreport:  {path / 'report.html'}" for path in folders]
    terminal.answer(outcome.cost, json_, "\n".join(lines))
    lost = {str(path / name): reason for path in folders for name, reason in missing(path).items()}
    if lost:
        said = "; ".join(f"{name} ({reason})" for name, reason in lost.items())
        raise ValueError(f"the student is finished, but some files could not be made: {said}")


def main() -> None:
    """Run a verb. An error is one clear line and a non-zero exit code; `--debug` shows the trace."""
    run_app(app)


def _recipe(path: Path, overrides: list[str] | None, show: bool) -> Any:
    from ganshrink.workflow.explain import explain
    from ganshrink.workflow.recipe import read_recipe

    resolved = read_recipe(path, overrides or ())
    if show:
        terminal.show_settings(explain(resolved, path, overrides or ()))
        raise typer.Exit
    return resolved


if __name__ == "__main__":
    main()
