"""The verb that uses a student: pictures, films or a camera in, pictures or a film out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganshrink.cli.options import FINISHED, OwnNet, Quiet
from ganshrink.cli.terminal import start_logging

app = typer.Typer()


@app.command(
    rich_help_panel=FINISHED,
    epilog="Examples: `ganshrink predict runs/mine photo.jpg out.png`, `ganshrink predict runs/mine photos out --format "
    "webp --side-by-side`, `ganshrink predict student.onnx huge.png out.png --tile 1024`, `ganshrink predict runs/mine "
    "camera out.webm --seconds 20`, or of latent vectors `ganshrink predict runs/faces out --count 64 --seed 1`",
)
def predict(
    student: Annotated[
        Path,
        typer.Argument(
            metavar="STUDENT", help="student.safetensors, an exported student.onnx, or the folder of a run"
        ),
    ],
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="images, folders of images, patterns such as `photos/*.jpg`, or films; or camera, camera:1 alone. "
            "Then the image or folder to write. - is standard input or output. Of a student that takes latent vectors OUT "
            "alone",
        ),
    ],
    net: OwnNet = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|trained",
            help="resize pictures to this height and width, or to the size that the student was trained at; if not given "
            "they keep their own, where the student takes that",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="run pictures larger than N pixels in overlapping tiles of N; refused where the student looks at the "
            "whole picture",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="torch|onnxruntime|openvino", help="what runs it; of a run, its student.onnx"),
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="png|jpg|webp", help="what to write into a folder")
    ] = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="write each picture beside what is made of it")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="of latent vectors: how many pictures; 16 if not given")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="of latent vectors: which ones; 0 if not given")
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option(min=0.01, help="of latent vectors: numbers farther than this from 0 are drawn again"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="of a camera: how long to film; if not given until Ctrl-C")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a student on images, on every image of a folder, on a film or on what a camera sees."""
    from ganshrink.data.pictures import printable
    from ganshrink.workflow.piped import PIPE, predict_piped
    from ganshrink.workflow.predict import parse_size

    start_logging(quiet)
    *sources, target = source
    written = predict_piped(
        student,
        sources,
        target,
        given=sys.stdin.buffer,
        out=sys.stdout.buffer,
        original=net,
        size=parse_size(size),
        tile=tile,
        runtime=runtime,
        format=format,
        side_by_side=side_by_side,
        count=count,
        seed=seed,
        truncation=truncation,
        seconds=seconds,
        progress=not quiet,
    )
    if str(target) != PIPE:
        typer.echo(f"{len(written)} image{'s' if len(written) != 1 else ''} -> {printable(target)}")
