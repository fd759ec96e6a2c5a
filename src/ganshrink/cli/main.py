"""The command line: verbs to functions. Everything heavy is imported inside the verbs, so that `--help` answers at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

import ganshrink
from ganshrink.cli import compare as comparing
from ganshrink.cli import look, predict, runs, terminal
from ganshrink.cli.exit import MANY, run_app
from ganshrink.cli.options import AsNet, Explain, Json, Overrides, Quiet, RecipeFile, Retime, Retrain

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
app.add_typer(predict.app)  # without a name: its verbs are ours
app.add_typer(runs.app)
app.add_typer(comparing.app)
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
    epilog="Examples: `ganshrink compress recipes/cat/quick.toml run=runs/mine budget=macs=30%,params=20k`, or without a "
    "recipe `ganshrink compress latest_net_G.pth photos --budget macs=10%`\n\n"
    "The same command goes on where it was stopped (Ctrl-C saves first). A budget is `KIND=AMOUNT`, several joined by "
    "commas: kinds macs, paper_macs, params, bytes, memory with amounts like 2.6G, 400k, 2MB or 10%; or a time on a device, "
    "latency=30ms@cpu, latency=40%@cpu, latency=30ms@phone.toml (see `measure --device-profile`).",
)
def compress(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|CHECKPOINT",
            help="a recipe; or a generator's weights, as `import` reads them, then a folder of pictures",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PICTURES] [KEY=VALUE]...",
            help="pictures for a checkpoint; values to change, such as `data.size=128`; `--explain` lists the keys",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="KIND=AMOUNT",
            help="what the student may cost; the same as budget=...",
            show_default=False,
        ),
    ] = None,
    as_: AsNet = None,
    explain: Explain = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="say what it would take, by a few steps of each training, then stop"),
    ] = False,
    retrain: Retrain = False,
    retime: Retime = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make a generator small: train or load the teacher, search, distil, evaluate, export, report."""
    from ganshrink.workflow import compress
    from ganshrink.workflow.missing import missing

    terminal.start_logging(quiet)
    words = [*(overrides or ()), *([f"budget={budget}"] if budget else [])]
    resolved = _recipe(recipe, words, explain, net=as_)
    if dry_run:
        from ganshrink.workflow.dry_run import dry_run as estimate

        found = estimate(resolved)
        terminal.answer(found, json_, terminal.estimated(found))
        return
    outcome = compress.compress_recipe(resolved, retrain=retrain, retime=retime, progress=not quiet)
    folders = [outcome.path]
    if resolved.data is not None and resolved.data.direction == "both":
        folders = [outcome.path.parent / way for way in ("AtoB", "BtoA")]
    lines = [
        f"student: {path / 'student.safetensors'}\nreport:  {path / 'report.html'}\n{terminal.verdict_on(path)}"
        for path in folders
    ]
    terminal.answer(outcome.cost | {"verdict": outcome.verdict}, json_, "\n".join(lines))
    lost = {str(path / name): reason for path in folders for name, reason in missing(path).items()}
    if lost:
        said = "; ".join(f"{name} ({reason})" for name, reason in lost.items())
        raise ValueError(f"the student is finished, but some files could not be made: {said}")


@app.command(
    "import",
    rich_help_panel=PANEL,
    epilog="Examples: `ganshrink import latest_net_G.pth`, or `ganshrink import cycle.pth:G_A norm=instance affine=true -o "
    "runs/horse`\n\nWhat is recognised, and how that is verified: docs/checkpoints.md.",
)
def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="a weights file of any layout, FILE:KEY for one of several networks in it, or a folder checkpoints/NAME",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OPTION=VALUE]...",
            help="options of the network over those that are recognised, such as norm=instance",
            show_default=False,
        ),
    ] = None,
    as_: AsNet = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="the folder to write, `imported/NAME` if not given",
            show_default=False,
        ),
    ] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="the generator takes and gives BGR: turn it to RGB")
    ] = False,
    json_: Json = False,
) -> None:
    """Recognise a generator in a checkpoint of any layout, and write its weights and a recipe that makes it small."""
    from ganshrink.workflow.checkpoints import import_checkpoint

    terminal.start_logging(quiet=True)
    found = import_checkpoint(checkpoint, out, net=as_, overrides=overrides or (), bgr=bgr)
    lines = [*found["said"], f"weights: {found['weights']}", f"recipe:  {found['recipe']}"]
    terminal.answer(found, json_, "\n".join(lines))


def main() -> None:
    """Run a verb. An error is one clear line and a non-zero exit code; `--debug` shows the trace."""
    run_app(app)


def _recipe(path: Path, overrides: list[str] | None, show: bool, *, net: str | None = None) -> Any:
    """The recipe of a file; or of a checkpoint, where the first word that is no KEY=VALUE is the folder of pictures."""
    from ganshrink.workflow.checkpoints import is_checkpoint, recipe_for
    from ganshrink.workflow.explain import explain
    from ganshrink.workflow.recipe import read_recipe

    words = list(overrides or ())
    written: Any = path
    if net is not None or is_checkpoint(path):
        pictures = words.pop(0) if words and "=" not in words[0] else None
        resolved, written = recipe_for(path, pictures, words, net=net)
    else:
        resolved = read_recipe(path, words)
    if show:
        terminal.show_settings(explain(resolved, written, words))
        raise typer.Exit
    return resolved


if __name__ == "__main__":
    main()
