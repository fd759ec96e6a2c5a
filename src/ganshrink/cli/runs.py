"""Verbs that use and check a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from ganshrink.cli.options import Json, OwnNet, OwnParts, Quiet, RunFolder
from ganshrink.cli.terminal import answer, show_scores, show_table, start_logging, verdict_on

PANEL = "Use and check a finished run"  # in --help

app = typer.Typer()


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: `ganshrink evaluate runs/mine \"metrics.names=['psnr']\" metrics.split=val`",
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
    own: OwnParts = None,
    json_: Json = False,
) -> None:
    """Score the networks of a run again, on other images or by other metrics, and renew its report."""
    from ganshrink.workflow import verbs

    metrics = verbs.evaluate_run(run, overrides or (), net=net, own=own or ())
    if json_:
        answer(metrics, json_, "")
        return
    show_scores(metrics)
    typer.echo(verdict_on(run))


@app.command(
    rich_help_panel=PANEL, epilog="Example: `ganshrink export runs/mine --dynamic-size --image-io uint8`"
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
    own: OwnParts = None,
    json_: Json = False,
) -> None:
    """Write the student of a run as ONNX and check it against torch."""
    from ganshrink.workflow import verbs

    parity = verbs.export_run(run, dynamic_size=dynamic_size, image_io=image_io, net=net, own=own or ())
    found = parity["student.onnx"]
    step = found.get("size_multiple", 1)
    sizes = f", for multiples of {step} pixels from {found['size_least']} on" if step > 1 else ""
    answer(
        parity,
        json_,
        f"{run / 'student.onnx'}: at most {found['max_abs_diff']:.2g} from torch, {found['psnr_db']:.1f} dB{sizes}",
    )


@app.command(
    rich_help_panel=PANEL,
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
    own: OwnParts = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make the INT8 file of a run's student, compare it with torch, score and time it beside the others."""
    from ganshrink.workflow import verbs

    start_logging(quiet)
    found = verbs.quantize_run(run, overrides or (), net=net, own=own or (), progress=not quiet)
    sizes, psnr = found["bytes"], found["psnr_db"]
    answer(
        found,
        json_,
        f"{run / 'student-int8.onnx'}: {sizes['file'] / 1e6:.2f} MB, weights of {sizes['float32'] / sizes['integers']:.1f} "
        f"times fewer bytes; {psnr['deployed']:.1f} dB from the student in float\n{verdict_on(run)}",
    )


@app.command(
    rich_help_panel=PANEL,
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
        start_logging(quiet=json_)
        found = verbs.profile_device(
            run, device_profile, overrides or (), device=device, runtime=runtime, threads=threads, net=net
        )
        answer(found.model_dump(mode="json"), json_, f"{device_profile}: {found.summary()}")
        return
    if runtime is not None or device != "cpu" or overrides:
        raise ValueError(
            "--runtime, --device and KEY=VALUE say how a device profile is measured: give --device-profile OUT.toml"
        )
    latency = verbs.measure_run(run, threads=threads, seconds=seconds, net=net)
    if json_:
        answer(latency, json_, "")
        return
    rows = (
        (row["network"], row["runtime"], str(row["threads"]), f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}")
        for row in latency["rows"]
    )
    show_table(("network", "runtime", "threads", "p50 ms", "p95 ms"), rows, title=latency["device"])
    typer.echo(verdict_on(run))


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `ganshrink predict runs/mine photo.jpg out.png`, or `ganshrink predict runs/mine photos out`",
)
def predict(
    student: Annotated[
        Path, typer.Argument(metavar="STUDENT", help="student.safetensors, or the folder of a run")
    ],
    source: Annotated[Path, typer.Argument(metavar="IN", help="an image, or a folder of images")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the image or folder to write")],
    net: OwnNet = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|trained",
            help="resize pictures to this height and width, or to the size that the student was trained at; if not given "
            "they keep their own, where the student takes that",
        ),
    ] = None,
) -> None:
    """Run a student on an image, or on every image of a folder."""
    from ganshrink.data.pictures import printable
    from ganshrink.workflow import predict

    wanted = predict.parse_size(size)
    written = predict.predict(student, source, target, original=net, size=wanted)
    typer.echo(f"{len(written)} image{'s' if len(written) != 1 else ''} -> {printable(target)}")


@app.command(rich_help_panel=PANEL)
def report(run: RunFolder) -> None:
    """Write report.html anew from the files of a run."""
    from ganshrink.reports import write_report
    from ganshrink.system.lock import lock_folder

    is_run = (run / ".lock").exists()  # else `write_report` says what it is
    _lock = lock_folder(run) if is_run else None
    typer.echo(f"report: {write_report(run)}\n{verdict_on(run)}")
