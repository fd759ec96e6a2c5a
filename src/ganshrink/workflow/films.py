"""A student on films, frame by frame, by PyAV (the extra `video`)."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ganshrink.data.pictures import printable
from ganshrink.system.atomic import replacing
from ganshrink.system.spelling import one_line

READ = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
# What is written, and by what; VP9 is free of licences, and every browser plays it.
CODECS = {".webm": "libvpx-vp9", ".mkv": "libvpx-vp9", ".mp4": "libx264", ".mov": "libx264"}
OPTIONS = {
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"},
    "libx264": {"crf": "18", "preset": "medium"},
}


def is_film(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in READ


def load_av() -> Any:
    """PyAV.

    Raises:
        ValueError: if it does not import, with the extra to install.
    """
    try:
        return importlib.import_module("av")
    except Exception as error:  # half-installed packages raise far more than ImportError
        raise ValueError(f'films need av ({one_line(error)}): pip install "ganshrink[video]"') from error


def rewrite_film(
    source: Path,
    target: Path,
    change: Callable[[np.ndarray], np.ndarray],
    told: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a film of the frames that `change` makes, at the times of the given ones; without sound.

    Args:
        target: its ending, of `CODECS`, says what is written.
        change: a frame, upright, to a picture, both uint8 (H, W, 3); always to the same size.
        told: called with how many frames are done, and of how many as far as the film tells (else 0).

    Raises:
        ValueError: the film cannot be read, or has no picture.
    """
    av = load_av()
    codec = CODECS[target.suffix.lower()]
    try:
        given = av.open(str(source))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"cannot use film {printable(source)}: {one_line(error)}") from None
    with given, replacing(target) as part, av.open(str(part), "w") as made:
        if not given.streams.video:
            raise ValueError(f"cannot use film {printable(source)}: it has no picture")
        stream, out = given.streams.video[0], None
        stream.thread_type = "AUTO"
        for done, frame in enumerate(_frames(av, given, stream, source), 1):
            picture = _even(change(_upright(frame)))
            if out is None:
                out = made.add_stream(codec, rate=stream.average_rate or 25, options=OPTIONS[codec])
                out.height, out.width = picture.shape[:2]
                out.pix_fmt = "yuv420p"
                out.codec_context.time_base = stream.time_base
            new = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            new.pts, new.time_base = frame.pts, frame.time_base
            made.mux(out.encode(new))
            told(done, stream.frames)
        if out is None:
            raise ValueError(f"cannot use film {printable(source)}: it has no frames")
        made.mux(out.encode())


def _frames(av: Any, given: Any, stream: Any, source: Path) -> Any:
    try:
        yield from given.decode(stream)
    except av.FFmpegError as error:
        raise ValueError(f"cannot use film {printable(source)}: {one_line(error)}") from None


def _upright(frame: Any) -> np.ndarray:
    """A frame's pixels, turned as a phone's film says."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)


def _even(picture: np.ndarray) -> np.ndarray:
    """A picture whose last row or column is there twice where the codecs want even sides."""
    rows, columns = (side % 2 for side in picture.shape[:2])
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else picture
