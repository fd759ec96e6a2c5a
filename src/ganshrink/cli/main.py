"""The command line: verbs to functions. Everything heavy is imported inside the verbs, so that `--help` answers at once."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from ganshrink.cli import terminal
from ganshrink.cli.exit import FOLLOWS, MANY, run_app

MAKE, USE, LOOK = "Make a student", "Use and check a finished run", "Look things up"  # parts of --help

app = typer.Typer(
    help="Make image-to-image generators small and fast enough to ship.\n\n"
    "A recipe (a TOML file) names a generator, images and a budget; `compress` makes a small generator that meets the "
    "budget, in a run folder with a report. The other verbs work on such a folder, or look things up.",
    epilog="`ganshrink VERB --help` explains a verb. First steps: docs/quickstart.md; every setting: docs/reference.md.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe: a TOML file")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="values to change, such as `data.size=128` or `run=runs/mine`; `--explain` lists the keys",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run, such as `runs/mine`")]
OwnNet = Annotated[
    str | None,
    typer.Option(
        "--net",
        metavar="MODULE:NAME",
        help="for a student of your own network: that network uncut, a function or class to import and call",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only warnings")]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="print every value, where it comes from and what it means, then stop"),
]
Retrain = Annotated[
    bool, typer.Option("--retrain", help="make again what an earlier version made in the run's folder")
]


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="show the trace of an error")] = False,
) -> None:
    # --debug is read in main(), before and after any verb
    if MANY and context.invoked_subcommand not in ("train", "compress"):
        raise ValueError(f"{context.invoked_subcommand} works in one process: start it without torchrun")


@app.command(
    rich_help_panel=MAKE,
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
    _start_logging(quiet)
    summary = compress.train_recipe(resolved, retrain=retrain, progress=not quiet)
    _answer(summary, json_, f"teacher: {summary['weights']}")


@app.command(
    rich_help_panel=MAKE,
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

    resolved = _recipe(recipe, overrides, explain)
    _start_logging(quiet)
    outcome = compress.compress_recipe(resolved, retrain=retrain, progress=not quiet)
    folders = [outcome.path]
    if resolved.data is not None and resolved.data.direction == "both":
        folders = [outcome.path.parent / way for way in ("AtoB", "BtoA")]
    lines = [f"student: {path / 'student.safetensors'}\nreport:  {path / 'report.html'}" for path in folders]
    _answer(outcome.cost, json_, "\n".join(lines))


@app.command(
    rich_help_panel=USE,
    epilog="Example: `ganshrink evaluate runs/mine metrics.names=['psnr'] metrics.split=val`",
)
def evaluate(
    run: RunFolder,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="values of `[metrics]` and `[data]` to change, such as `metrics.split=val`",
            show_default=False,
        ),
    ] = None,
    net: OwnNet = None,
    json_: Json = False,
) -> None:
    """Score the networks of a run again, on other images or by other metrics, and renew its report."""
    from ganshrink.workflow import verbs

    metrics = verbs.evaluate_run(run, overrides or (), net=net)
    if json_:
        _answer(metrics, json_, "")
        return
    terminal.show_scores(metrics)


@app.command(
    rich_help_panel=USE, epilog="Example: `ganshrink export runs/mine --dynamic-size --image-io uint8`"
)
def export(
    run: RunFolder,
    dynamic_size: Annotated[
        bool | None, typer.Option(help="let height and width vary; as in the recipe if not given")
    ] = None,
    image_io: Annotated[
        str | None, typer.Option(metavar="uint8|float32", help="take and give 0..255 images of this type")
    ] = None,
    net: OwnNet = None,
    json_: Json = False,
) -> None:
    """Write the student of a run as ONNX and check it against torch."""
    from ganshrink.workflow import verbs

    parity = verbs.export_run(run, dynamic_size=dynamic_size, image_io=image_io, net=net)
    found = parity["student.onnx"]
    _answer(
        parity,
        json_,
        f"{run / 'student.onnx'}: at most {found['max_abs_diff']:.2g} from torch, {found['psnr_db']:.1f} dB",
    )


@app.command(
    rich_help_panel=USE,
    epilog="Examples: `ganshrink quantize runs/mine`, or `ganshrink quantize runs/mine quantization.mode=finetune`",
)
def quantize(
    run: RunFolder,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="values of `[quantization]` to change, such as `quantization.images=200`",
            show_default=False,
        ),
    ] = None,
    net: OwnNet = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make the INT8 file of a run's student, compare it with torch, score and time it beside the others."""
    from ganshrink.workflow import verbs

    _start_logging(quiet)
    found = verbs.quantize_run(run, overrides or (), net=net, progress=not quiet)
    sizes, psnr = found["bytes"], found["psnr_db"]
    _answer(
        found,
        json_,
        f"{run / 'student-int8.onnx'}: {sizes['file'] / 1e6:.2f} MB, weights of {sizes['float32'] / sizes['integers']:.1f} "
        f"times fewer bytes; {psnr['deployed']:.1f} dB from the student in float",
    )


@app.command(
    rich_help_panel=USE,
    epilog="Examples: `ganshrink measure runs/mine --threads 1 --seconds 5`, or, to make widths and budgets in milliseconds "
    "count on another machine, there: `ganshrink measure recipes/cat/quick.toml --device-profile phone.toml`",
)
def measure(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN|RECIPE", help="the folder of a run; or, for --device-profile, a recipe"),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="values of a recipe to change, such as `net.ngf=32`",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; as torch has it if not given")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="at most about how long to measure a run")] = 20,
    device_profile: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.toml",
            help="time the layers of the whole network at many widths instead, for budget=latency=30ms@OUT.toml",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="onnxruntime|openvino|torch", help="what a device profile is measured in"),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda", help="where a device profile is measured")
    ] = "cpu",
    net: OwnNet = None,
    json_: Json = False,
) -> None:
    """Time teacher, student and INT8 file of a run here, interleaved, in torch, ONNX Runtime and OpenVINO."""
    from ganshrink.workflow import verbs

    if device_profile is not None:
        _start_logging(quiet=json_)
        found = verbs.profile_device(
            run, device_profile, overrides or (), device=device, runtime=runtime, threads=threads, net=net
        )
        _answer(found.model_dump(mode="json"), json_, f"{device_profile}: {found.summary()}")
        return
    if runtime is not None or device != "cpu" or overrides:
        raise ValueError(
            "--runtime, --device and KEY=VALUE say how a device profile is measured: give --device-profile OUT.toml"
        )
    latency = verbs.measure_run(run, threads=threads, seconds=seconds, net=net)
    if json_:
        _answer(latency, json_, "")
        return
    rows = (
        (row["network"], row["runtime"], str(row["threads"]), f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}")
        for row in latency["rows"]
    )
    terminal.show_table(("network", "runtime", "threads", "p50 ms", "p95 ms"), rows, title=latency["device"])


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `ganshrink profile resnet9 ngf=32 --input 3x256x256`, or `ganshrink profile my_pkg.nets:make`",
)
def profile(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET",
            help="a network, as `ganshrink nets` lists them, or MODULE:NAME of your own, such as my_pkg.nets:make: "
            "a function or class, imported from the installed packages or the working directory and called",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OPTION=VALUE]...", help="options of the network, such as ngf=32", show_default=False
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="CxHxW",
            help="the size of one input, `3x256x256` if not given; again for each further input of the network",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Count a network's parameters and multiply-accumulates (MACs), in both conventions."""
    from ganshrink.workflow import profile

    found = profile.profile(net, overrides or (), inputs or ("3x256x256",))
    macs = found["macs"]
    _answer(
        found,
        json_,
        f"{found['params']:,} parameters, {found['bytes'] / 1e6:.2f} MB as float32\n"
        f"{macs['exact']:,} MACs (exact)\n{macs['paper']:,} MACs (paper: transposed convolutions at output resolution)\n"
        f"{found['prunable']} of {found['groups']} groups of channels can be pruned",
    )


@app.command(
    rich_help_panel=USE,
    epilog="Examples: `ganshrink predict runs/mine photo.jpg out.png`, or `ganshrink predict runs/mine photos out`",
)
def predict(
    student: Annotated[
        Path, typer.Argument(metavar="STUDENT", help="student.safetensors, or the folder of a run")
    ],
    source: Annotated[Path, typer.Argument(metavar="IN", help="an image, or a folder of images")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the image or folder to write")],
    net: OwnNet = None,
) -> None:
    """Run a student on an image, or on every image of a folder."""
    from ganshrink.data.pictures import printable
    from ganshrink.workflow import predict

    written = predict.predict(student, source, target, net=net)
    typer.echo(f"{len(written)} image{'s' if len(written) != 1 else ''} -> {printable(target)}")


@app.command(rich_help_panel=USE)
def report(run: RunFolder) -> None:
    """Write report.html anew from the files of a run."""
    from ganshrink.reports import write_report
    from ganshrink.system.lock import lock_folder

    is_run = (run / ".lock").exists()  # else `write_report` says what it is
    _lock = lock_folder(run) if is_run else None
    typer.echo(f"report: {write_report(run)}")


@app.command(rich_help_panel=LOOK)
def nets(json_: Json = False) -> None:
    """List the built-in networks and their options."""
    from ganshrink.nets import NETS, net_options

    listing = {name: net_options(name) for name in NETS}
    lines = (
        f"{name:14} {' '.join(f'{k}={v}' for k, v in options.items())}" for name, options in listing.items()
    )
    _answer(listing, json_, "\n".join(lines))


@app.command(rich_help_panel=LOOK)
def methods(json_: Json = False) -> None:
    """List the methods."""
    from ganshrink.methods import METHODS

    listing = {name: (method.__doc__ or "").strip().splitlines()[0] for name, method in METHODS.items()}
    _answer(listing, json_, "\n".join(f"{name:10} {text}" for name, text in listing.items()))


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


def _start_logging(quiet: bool) -> None:
    terminal.start_logging(logging.ERROR if FOLLOWS else logging.WARNING if quiet else logging.INFO)


def _answer(value: Any, as_json: bool, text: str) -> None:
    if FOLLOWS:
        return
    typer.echo(json.dumps(value, indent=2) if as_json else text)


if __name__ == "__main__":
    main()
