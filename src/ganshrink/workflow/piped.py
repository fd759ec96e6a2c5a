"""`predict` in a pipe: `-` as a picture is standard input, as the place to write standard output."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from ganshrink.workflow.predict import predict

PIPE = "-"


def predict_piped(
    student: str | Path,
    sources: Sequence[str],
    target: str | Path,
    *,
    given: BinaryIO,
    out: BinaryIO,
    format: str | None = None,
    **options: Any,
) -> list[Path]:
    """`predict`, where `-` among the sources is the picture in `given`, and as the target what is written to `out`.

    Raises:
        ValueError: as `predict`; or for several pictures, or a terminal, as what is written to.
    """
    piped = str(target) == PIPE
    if sources.count(PIPE) > 1 or (piped and len(sources) != 1):
        raise ValueError(f"{PIPE} stands for one picture: name one")
    if piped and out.isatty():
        raise ValueError(
            f"{PIPE} as OUT writes a picture, and this is a terminal: send it on, as by `> out.png`"
        )
    with TemporaryDirectory() as folder:
        held, made = Path(folder) / "stdin", Path(folder) / f"stdout.{format or 'png'}"
        if PIPE in sources:
            held.write_bytes(given.read())
        paths = [str(held) if source == PIPE else source for source in sources]
        try:
            # of a folder there would be no single picture
            if piped and Path(paths[0]).is_dir():
                raise ValueError(f"{PIPE} stands for one picture, and {paths[0]} is a folder")
            written = predict(student, paths, made if piped else target, format=format, **options)
        except ValueError as error:
            raise ValueError(str(error).replace(str(held), PIPE).replace(str(made), PIPE)) from error
        if piped:
            out.write(made.read_bytes())
            out.flush()
            return []
        return written
