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
# Sound is copied where the film that is written holds its codec, else written in another.
KEPT = {".webm": {"opus", "vorbis"}, ".mp4": {"aac", "mp3"}, ".mov": {"aac", "mp3"}}
SOUND = {".webm": "libopus", ".mp4": "aac", ".mov": "aac"}
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
    """Write a film of the frames that `change` makes, at the times of the given ones, with the first sound track.

    Args:
        target: its ending, of `CODECS`, says what is written.
        change: a frame, upright, to a picture, both uint8 (H, W, 3); always to the same size.
        told: called with how many frames are done, and of how many as far as the film tells (else 0).

    Raises:
        ValueError: the film cannot be read, or has no picture.
    """
    av = load_av()
    try:
        given = av.open(str(source))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"cannot use film {printable(source)}: {one_line(error)}") from None
    with given, replacing(target) as part, av.open(str(part), "w") as made:
        if not given.streams.video:
            raise ValueError(f"cannot use film {printable(source)}: it has no picture")
        stream, out, done = given.streams.video[0], None, 0
        stream.thread_type = "AUTO"
        sound = _Sound(av, given, made, target.suffix.lower())
        for part_of in _parts(av, given, stream, sound.stream, source):
            if isinstance(part_of, av.Packet):
                sound.take(part_of)
                continue
            frame, done = part_of, done + 1
            picture = change(upright(frame))
            if out is None:
                out = begin_picture(made, target, picture, stream)
                sound.begin()
            made.mux(encoded(av, out, picture, frame.pts, frame.time_base))
            told(done, stream.frames)
        if out is None:
            raise ValueError(f"cannot use film {printable(source)}: it has no frames")
        made.mux(out.encode())
        sound.end()


def begin_picture(made: Any, target: Path, picture: np.ndarray, source: Any) -> Any:
    """The stream of pictures like this one (H, W, 3) in a film that is made, at the rate and in the units of a source's."""
    codec = CODECS[target.suffix.lower()]
    out = made.add_stream(codec, rate=source.average_rate or 25, options=OPTIONS[codec])
    out.height, out.width = _even(picture).shape[:2]
    out.pix_fmt = "yuv420p"
    out.codec_context.time_base = source.time_base
    return out


def encoded(av: Any, out: Any, picture: np.ndarray, pts: int, time_base: Any) -> Any:
    """The packets of a picture (H, W, 3) at its time."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_even(picture)), format="rgb24")
    frame.pts, frame.time_base = pts, time_base
    return out.encode(frame)


class _Sound:
    """The first sound track of a film on its way into another; nothing where there is none.

    Args:
        ending: of the film that is written.
    """

    def __init__(self, av: Any, given: Any, made: Any, ending: str) -> None:
        self.made, self.waiting, self.begun = made, list[Any](), False
        self.stream = given.streams.audio[0] if given.streams.audio else None
        self.out: Any = None
        if self.stream is None:
            return
        self.copied = self.stream.codec_context.name in KEPT.get(ending, {self.stream.codec_context.name})
        if self.copied:
            self.out = made.add_stream_from_template(self.stream)
        else:
            self.out = made.add_stream(SOUND[ending], rate=48000)
            self.resampler = av.AudioResampler(format=self.out.format, layout="stereo", rate=48000)

    def take(self, packet: Any) -> None:
        """A packet of the track; kept until the film has begun."""
        if not self.begun:
            self.waiting.append(packet)
        elif self.copied:
            if packet.dts is not None:  # the last, empty one
                packet.stream = self.out
                self.made.mux(packet)
        else:
            for frame in packet.decode():
                self._write(frame)

    def begin(self) -> None:
        """From here on there is a picture, so that the film can be written."""
        self.begun = True
        for packet in self.waiting:
            self.take(packet)
        self.waiting.clear()

    def end(self) -> None:
        if self.out is not None and not self.copied:
            self._write(None)
            self.made.mux(self.out.encode(None))

    def _write(self, frame: Any) -> None:
        for part in self.resampler.resample(frame):
            self.made.mux(self.out.encode(part))


def _parts(av: Any, given: Any, stream: Any, sound: Any, source: Path) -> Any:
    """Frames of the picture and packets of the sound, in the film's order."""
    try:
        for packet in given.demux([one for one in (stream, sound) if one is not None]):
            if packet.stream is sound:
                yield packet
            else:
                yield from packet.decode()
    except av.FFmpegError as error:
        raise ValueError(f"cannot use film {printable(source)}: {one_line(error)}") from None


def upright(frame: Any) -> np.ndarray:
    """A frame's pixels, turned as a phone's film says."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)


def _even(picture: np.ndarray) -> np.ndarray:
    """A picture whose last row or column is there twice where the codecs want even sides."""
    rows, columns = (side % 2 for side in picture.shape[:2])
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else picture
