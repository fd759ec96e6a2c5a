"""Verbs that use and check a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from ganshrink.cli.options import FINISHED, Json, OwnNet, OwnParts, Quiet, RunFolder
from ganshrink.cli.terminal import answer, show_scores, show_table, start_logging, verdict_on, verified

app = typer.Typer()


@app.command(
    rich_help_panel=FINISHED,
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
    rich_help_panel=FINISHED,
    epilog="Examples: `ganshrink export runs/mine --dynamic-size --image-io uint8`, or `ganshrink export runs/mine --format "
    "onnx,ncnn --time`",
)
def export(
    run: RunFolder,
    dynamic_size: Annotated[
        bool | None, typer.Option(help="let height and width vary; as in the recipe if not given")
    ] = None,
    image_io: Annotated[
        str | None, typer.Option(metavar="uint8|float32", help="take and give 0..255 images of this type")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME,...",
            help="onnx, onnx-fp16, onnx-int8, openvino, ncnn, executorch, coreml, or MODULE:NAME; as in the recipe if not "
            "given",
        ),
    ] = None,
    time: Annotated[
        bool, typer.Option("--time", help="time each file beside the teacher's in the same format")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="of the student, for the files' metadata")
    ] = None,
    net: OwnNet = None,
    own: OwnParts = None,
    json_: Json = False,
) -> None:
    """Write the student of a run for other runtimes and check each file against torch."""
    from ganshrink.workflow import verbs
    from ganshrink.workflow.formats import in_words

    asked = None if format_ is None else [name.strip() for name in format_.split(",") if name.strip()]
    parity = verbs.export_run(
        run,
        dynamic_size=dynamic_size,
        image_io=image_io,
        formats=asked,
        timed=time,
        licence=licence,
        net=net,
        own=own or (),
    )
    answer(parity, json_, "\n".join(in_words(run, parity, asked)))


@app.command(
    rich_help_panel=FINISHED,
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
    rich_help_panel=FINISHED,
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
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="MEASURED.json",
            help="keep what the page of `demo` measured on another device in the run and its report; nothing is timed here",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE", help="what that device is called, such as `Pixel 8`", show_default=False
        ),
    ] = None,
    net: OwnNet = None,
    json_: Json = False,
) -> None:
    """Time teacher, student and INT8 file of a run here, interleaved, in torch, ONNX Runtime and OpenVINO."""
    from ganshrink.workflow import verbs

    if page is not None:
        from ganshrink.workflow.measured_devices import add_device

        entry = add_device(run, page, name=name)
        times = ", ".join(f"{of} {row['p50_ms']:.1f} ms" for of, row in entry["networks"].items())
        answer(entry, json_, f"{entry['name']}, {entry['place']}: {times}\nreport: {run / 'report.html'}")
        return
    if name is not None:
        raise ValueError("--name is of a device that a page measured: give --page MEASURED.json")
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
    rich_help_panel=FINISHED,
    epilog="Examples: `ganshrink verify runs/mine`, `ganshrink verify copied --runtime openvino`, or for what a phone made "
    "of goldens.npz: `ganshrink verify copied --outputs made.npy --levels 4`",
)
def verify(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="a run, or a folder with goldens.npz and exported files out of it"
        ),
    ],
    runtime: Annotated[
        str,
        typer.Option(metavar="onnxruntime|openvino|ncnn|executorch", help="what runs its files here"),
    ] = "onnxruntime",
    levels: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="of 255, by which a pixel may be off; 1 if not given, and of INT8 files at least 40 dB instead",
            show_default=False,
        ),
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option(
            metavar="MADE.npy",
            help="what another runtime made of the goldens elsewhere: (3, C, H, W), in [-1, 1] or uint8 levels",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Replay the goldens of an exported student on this device, and say how far it is from what was exported."""
    from ganshrink.deploy.goldens import verify as replay

    found = replay(folder, runtime=runtime, levels=levels, outputs=outputs)
    answer(found, json_, verified(found))
    if not found["passed"]:
        raise typer.Exit(1)


@app.command(rich_help_panel=FINISHED)
def report(run: RunFolder) -> None:
    """Write report.html anew from the files of a run, also of one that is still at work."""
    from ganshrink.reports import write_report

    typer.echo(f"report: {write_report(run)}\n{verdict_on(run)}")


@app.command(
    rich_help_panel=FINISHED,
    epilog="Examples: `ganshrink demo runs/mine --serve`, or `ganshrink demo runs/mine --single-file -o mine.html`, which "
    "works from a double click. The first one fetches onnxruntime-web by npm, into `GANSHRINK_CACHE` or `~/.cache`.",
)
def demo(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="OUT", help="what to write, RUN/demo if not given", show_default=False
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="one HTML file with everything inside")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="serve the folder on this machine until Ctrl-C, with threads")
    ] = False,
    port: Annotated[int, typer.Option(min=0, help="of --serve; 0 takes a free one")] = 0,
    net: OwnNet = None,
) -> None:
    """Write a page that runs teacher and student in the browser, side by side, and measures them there."""
    from ganshrink.workflow.demo import demo_run

    if serve and single_file:
        raise ValueError("--single-file makes a page that needs no server: leave --serve out")
    page = demo_run(run, out, single_file=single_file, original=net)
    if not serve:
        typer.echo(
            f"page: {page}"
            + ("" if single_file else "\nopen it with --serve, or put the folder on a web server")
        )
        return
    from ganshrink.browser import open_server

    with open_server(page.parent, port) as server:
        typer.echo(f"page: http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")
