"""A student on what a camera sees, written as a film, by PyAV (the extra `video`)."""

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganshrink.data.pictures import printable
from ganshrink.system.atomic import replacing
from ganshrink.system.spelling import one_line
from ganshrink.workflow.films import begin_picture, encoded, load_av, upright

logger = logging.getLogger(__name__)

CAMERA = "camera"
KINDS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}  # FFmpeg's devices
OPTIONS = {"avfoundation": {"framerate": "30"}}  # most cameras of a Mac refuse its default


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
    if word != CAMERA or Path(source).exists():
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
    av = load_av()
    with _opened(av, camera) as given, replacing(target) as part, av.open(str(part), "w") as made:
        stream = given.streams.video[0]
        newest = _Newest(av, given)
        out, first, last, count = None, None, 0.0, 0
        logger.info("filming %s", "until Ctrl-C" if seconds is None else f"for {seconds:g} s")
        try:
            while (frame := newest.take()) is not None:
                first = frame if first is None else first
                last = float((frame.pts - first.pts) * frame.time_base)
                if seconds is not None and last >= seconds:
                    break
                picture = change(upright(frame))
                if out is None:
                    out = begin_picture(made, target, picture, stream)
                made.mux(encoded(av, out, picture, frame.pts - first.pts, frame.time_base))
                count += 1
                told(int(10 * last), int(10 * (seconds or 0)))
        except KeyboardInterrupt:
            logger.info("stopped")
        finally:
            newest.stop()
        if out is None:
            raise ValueError(f"cannot use camera {camera.name}: {newest.failed or 'it gave no frames'}")
        made.mux(out.encode())
    if newest.failed:
        logger.warning("camera %s ended early: %s", camera.name, newest.failed)
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
    """The newest frame of a device, which a thread of its own reads.

    Attributes:
        missed: how many frames nobody took.
        failed: why the device ended; empty where it just did.
    """

    def __init__(self, av: Any, given: Any) -> None:
        self.missed, self.failed = 0, ""
        self._av, self._given = av, given
        self._frame: Any = None
        self._ended = self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def take(self) -> Any:
        """The newest frame that nobody has taken, waited for; none after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended)
            frame, self._frame = self._frame, None
            return frame

    def stop(self) -> None:
        """Read no more. The device may be closed then."""
        self._stopped = True
        self._thread.join()

    def _read(self) -> None:
        try:
            for frame in self._given.decode(video=0):
                if self._stopped:
                    break
                if frame.pts is None:
                    continue
                with self._changed:
                    self.missed += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except self._av.FFmpegError as error:
            self.failed = one_line(error)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
