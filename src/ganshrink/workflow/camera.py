"""A student on what a camera sees, written as a film, by PyAV (the extra `video`)."""

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganshrink.data.pictures import printable
from ganshrink.system.atomic import replacing
from ganshrink.system.signals import Interrupted, stop_requests
from ganshrink.system.spelling import one_line
from ganshrink.workflow.films import begin_picture, encoded, load_av, upright

logger = logging.getLogger(__name__)

CAMERA = "camera"
KINDS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}  # FFmpeg's devices
OPTIONS = {"avfoundation": {"framerate": "30"}}  # most cameras of a Mac refuse its default
START = 10.0  # seconds that a camera has for its first frame, where somebody says how long to film
POLL = 0.1  # seconds between looks for Ctrl-C while a camera gives nothing
LEAVE = 1.0  # seconds in which the reading thread ends; one that takes longer hangs in the device


@dataclass(frozen=True)
class Camera:
    """A device as FFmpeg opens it: its kind, such as v4l2, and its name among these."""

    kind: str
    name: str


def camera_of(source: str | Path, platform: str = sys.platform) -> Camera | None:
    """The camera that a source names: `camera` is the first, `camera:1` the second, `camera:NAME` any; none where the source
    names no camera, or a file of this name is there.

    Raises:
        ValueError: FFmpeg has no cameras on this system, or wants a name.
    """
    word, _, which = str(source).partition(":")
    if word != CAMERA:
        return None
    if Path(source).exists():
        if source == CAMERA:
            other = "camera:NAME" if platform == "win32" else "camera:0"
            logger.warning("there is a file or folder named camera, which is taken: the camera is %s", other)
        return None
    kind = KINDS.get(platform)
    if kind is None:
        raise ValueError(f"{source}: cameras are opened on Linux, macOS and Windows, and this is {platform}")
    if kind == "dshow":
        if not which or which.isdigit():
            raise ValueError(
                f'{source}: on Windows a camera has a name: write "camera:NAME", as its settings show it'
            )
        return Camera(kind, f"video={which}")
    number = which or "0"
    return Camera(kind, f"/dev/video{number}" if kind == "v4l2" and number.isdigit() else number)


def film_camera(
    camera: Camera,
    target: Path,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    seconds: float | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a film of what `change` makes of a camera's frames, at the times at which they were taken.

    A camera does not wait: where `change` takes longer than a frame lasts, it gets the newest one, and the frames between
    are left out. Ctrl-C ends the film, and what there is of it is kept.

    Args:
        target: its ending, of `CODECS`, says what is written.
        change: a frame to a picture, both uint8 (H, W, 3); always to the same size.
        seconds: how long; none: until Ctrl-C, or until the device ends.
        told: called with how many tenths of a second are done, and of how many (0 where there is no end).

    Raises:
        ValueError: the camera cannot be opened, or gives no picture.
    """
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--seconds {seconds:g}: a number above 0, such as 20")
    av = load_av()
    given = _opened(av, camera)
    # signals are noted, so that none comes between a picture's encoder and the file
    with stop_requests() as stop, replacing(target) as part, av.open(str(part), "w") as made:
        out, first, last, count = None, None, 0.0, 0
        limit = math.inf if seconds is None else seconds
        ends = time.monotonic() + START + limit

        def over() -> bool:  # by the clock, too: a device that hangs gives no frame that would be too late
            return stop.number is not None or time.monotonic() >= ends

        logger.info("filming %s", "until Ctrl-C" if seconds is None else f"for {seconds:g} s")
        with _Newest(av, given) as newest:
            while (frame := newest.take(over)) is not None:
                if first is None:
                    first, ends = frame, time.monotonic() + limit
                last = float((frame.pts - first.pts) * frame.time_base)
                if last >= limit:
                    break
                picture = change(upright(frame))
                if out is None:
                    out = begin_picture(made, target, picture, newest.stream)
                made.mux(encoded(av, out, picture, frame.pts - first.pts, frame.time_base))
                count += 1
                told(int(10 * last), int(10 * (seconds or 0)))
        if out is None and stop.number is not None:
            raise Interrupted("stopped before the first frame; no film is written", stop.number)
        if out is None:
            why = newest.failed or "it gave no frames"
            raise ValueError(f"cannot use camera {printable(camera.name)}: {why}")
        made.mux(out.encode())
    if newest.failed:
        logger.warning("camera %s ended early: %s", printable(camera.name), newest.failed)
    logger.info("%d frames in %.1f s, %d left out since the student was busy", count, last, newest.missed)


def _opened(av: Any, camera: Camera) -> Any:
    """The device.

    Raises:
        ValueError: why not.
    """
    try:
        given = av.open(camera.name, format=camera.kind, options=OPTIONS.get(camera.kind, {}))
    except FileNotFoundError:
        raise ValueError(f"there is no camera {printable(camera.name)}") from None
    except PermissionError:
        raise ValueError(
            f"camera {printable(camera.name)} may not be opened by you: on Linux that takes the group video"
        ) from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"cannot use camera {printable(camera.name)}: {one_line(error)}") from None
    if not given.streams.video:
        given.close()
        raise ValueError(f"cannot use camera {printable(camera.name)}: it has no picture")
    return given


class _Newest:
    """The newest frame of a device, which a thread of its own reads, and which is closed at the end of the block.

    Attributes:
        stream: the device's picture.
        missed: how many frames nobody took.
        failed: why the device ended; empty where it just did.
    """

    def __init__(self, av: Any, given: Any) -> None:
        self.missed, self.failed = 0, ""
        self.stream = given.streams.video[0]
        self._av, self._given = av, given
        self._frame: Any = None
        self._time = -math.inf
        self._ended = self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "_Newest":
        self._thread.start()
        return self

    def take(self, stopped: Callable[[], bool]) -> Any:
        """The newest frame that nobody has taken, waited for; none after the last, or once `stopped`."""
        with self._changed:
            # in short waits: a device that hangs gives no frame after which Ctrl-C would be seen
            while self._frame is None and not (self._ended or stopped()):
                self._changed.wait(POLL)
            frame, self._frame = self._frame, None
            return None if stopped() else frame

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join(LEAVE)
        if not self._thread.is_alive():  # else it hangs in the device, which must not be closed under it
            self._given.close()

    def _read(self) -> None:
        try:
            while not self._stopped and self._read_on():
                time.sleep(0.005)
        except self._av.FFmpegError as error:
            self.failed = one_line(error)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _read_on(self) -> bool:
        """Read until there is no frame yet, and say whether there may be one later: AVFoundation does not wait for any."""
        try:
            for packet in self._given.demux(self.stream):
                if self._stopped:
                    break
                for frame in self._frames(packet):
                    with self._changed:
                        self.missed += self._frame is not None
                        self._frame = frame
                        self._changed.notify()
        except self._av.BlockingIOError:
            return True
        return False

    def _frames(self, packet: Any) -> Iterator[Any]:
        """The frames of a packet that are later than those before; none of a damaged one, such as a webcam's first.

        No film holds two frames of one time, and a device that stumbles gives such.
        """
        try:
            frames = packet.decode()
        except self._av.InvalidDataError:
            return
        for frame in frames:
            if frame.pts is not None and frame.pts > self._time:
                self._time = frame.pts
                yield frame
