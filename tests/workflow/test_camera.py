"""A camera: which one is meant, and what is written of its frames. FFmpeg's own test picture stands for the device."""

import logging
import signal
import sys

import numpy as np
import pytest
from torch import nn

from ganshrink.data import InputSpec
from ganshrink.workflow.camera import Camera, camera_of, film_camera
from ganshrink.workflow.predict import predict
from ganshrink.workflow.saved_networks import NetworkSpec, save_network

RATE = 10


def shown(seconds: float, size: str = "64x48") -> Camera:
    return Camera("lavfi", f"testsrc=size={size}:rate={RATE}:duration={seconds}")


def frames_of(film):
    av = pytest.importorskip("av")
    with av.open(str(film)) as given:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in given.decode(video=0)]


@pytest.mark.parametrize(
    ("source", "platform", "camera"),
    [
        ("camera", "linux", Camera("v4l2", "/dev/video0")),
        ("camera:2", "linux", Camera("v4l2", "/dev/video2")),
        ("camera:/dev/v4l/by-id/mine", "linux", Camera("v4l2", "/dev/v4l/by-id/mine")),
        ("camera:1", "darwin", Camera("avfoundation", "1")),
        ("camera:My Webcam", "win32", Camera("dshow", "video=My Webcam")),
        ("cameras", "linux", None),
        ("photos/camera", "linux", None),
    ],
)
def test_which_camera_is_meant(source, platform, camera):
    assert camera_of(source, platform) == camera


def test_a_file_of_that_name_is_the_file(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camera").mkdir()
    assert camera_of("camera", "linux") is None
    assert "the camera is camera:0" in caplog.text
    assert camera_of("camera:0", "linux") == Camera("v4l2", "/dev/video0")


@pytest.mark.parametrize(
    ("source", "platform", "words"), [("camera:1", "win32", "has a name"), ("camera", "aix", "aix")]
)
def test_what_no_system_opens_is_refused(source, platform, words):
    with pytest.raises(ValueError, match=words):
        camera_of(source, platform)


@pytest.mark.formats
def test_every_frame_is_written_at_its_time_or_counted_as_left_out(tmp_path, caplog):
    caplog.set_level("INFO")
    film_camera(shown(3), tmp_path / "out.webm", lambda frame: 255 - frame)
    frames = frames_of(tmp_path / "out.webm")
    times = [time for time, _ in frames]
    assert times[0] == 0 and times == sorted(set(times))
    [said] = [record.message for record in caplog.records if "left out" in record.message]
    written, missed = int(said.split()[0]), int(said.split(",")[1].split()[0])
    assert written == len(frames) and written + missed == 3 * RATE


@pytest.mark.formats
def test_a_frame_is_what_is_made_of_it(tmp_path):
    seen = []

    def negative(frame: np.ndarray) -> np.ndarray:
        seen.append(frame)
        return 255 - frame

    film_camera(shown(0.5, "65x49"), tmp_path / "out.mkv", negative)
    frames = frames_of(tmp_path / "out.mkv")
    assert len(frames) == len(seen) and frames[0][1].shape == (50, 66, 3)
    for given, (_, written) in zip(seen, frames, strict=True):
        distance = [
            np.abs(written[:49, :65].astype(float) - wanted).mean() for wanted in (255 - given, given)
        ]
        assert distance[0] < 30 < 100 < distance[1]  # colours have half the size there


@pytest.mark.formats
def test_it_ends_after_so_many_seconds(tmp_path):
    endless = Camera("lavfi", f"testsrc=size=64x48:rate={RATE}")
    film_camera(endless, tmp_path / "out.webm", lambda frame: frame, seconds=0.5)
    assert max(time for time, _ in frames_of(tmp_path / "out.webm")) < 0.5


@pytest.mark.formats
def test_a_frame_is_shown_at_the_time_at_which_it_was_taken(tmp_path):
    # grey tells the number of the frame; the clock is a camera's: microseconds since long ago
    levels = f"color=size=64x48:rate={RATE}:duration=1,format=gray,geq=lum=20*N"
    clock = "settb=1/1000000,setpts=PTS+1700000000000000,realtime"
    film_camera(Camera("lavfi", f"{levels},{clock}"), tmp_path / "out.webm", lambda frame: frame)
    frames = [(time, picture.mean() / 20) for time, picture in frames_of(tmp_path / "out.webm")]
    for time, number in frames:
        assert abs(number - frames[0][1] - time * RATE) < 0.3


@pytest.mark.formats
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_film_and_keeps_it(tmp_path, number):
    count = 0

    def interrupted(frame: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        if count == 3:
            signal.raise_signal(number)
        return frame

    film_camera(Camera("lavfi", f"testsrc=size=64x48:rate={RATE}"), tmp_path / "out.webm", interrupted)
    assert len(frames_of(tmp_path / "out.webm")) == 3


# The second frame comes after a quarter of an hour.
HANGING = Camera("lavfi", "testsrc=size=64x48:rate=1/1000,realtime=limit=100000")


@pytest.mark.formats
def test_ctrl_c_ends_the_film_of_a_camera_that_hangs(tmp_path):
    def interrupted(frame: np.ndarray) -> np.ndarray:
        signal.raise_signal(signal.SIGINT)
        return frame

    film_camera(HANGING, tmp_path / "out.webm", interrupted)
    assert len(frames_of(tmp_path / "out.webm")) == 1


@pytest.mark.formats
def test_a_camera_that_hangs_is_filmed_no_longer_than_was_said(tmp_path):
    film_camera(HANGING, tmp_path / "out.webm", lambda frame: frame, seconds=0.3)
    assert len(frames_of(tmp_path / "out.webm")) == 1


@pytest.mark.formats
@pytest.mark.parametrize("back", [1, 5])
def test_a_frame_that_is_no_later_than_the_last_is_passed_over(tmp_path, back):
    stumbling = f"testsrc=size=64x48:rate={RATE}:duration=2,realtime,setpts=if(lt(N\\,10)\\,PTS\\,PTS-{back})"
    film_camera(Camera("lavfi", stumbling), tmp_path / "out.mp4", lambda frame: frame)
    times = [time for time, _ in frames_of(tmp_path / "out.mp4")]
    assert times == sorted(set(times)) and times[-1] == (19 - back) / RATE


@pytest.mark.formats
def test_ctrl_c_before_the_first_frame_leaves_no_film(tmp_path, caplog):
    caplog.set_level("INFO")

    def interrupting(record: logging.LogRecord) -> bool:
        if record.msg.startswith("filming"):
            signal.raise_signal(signal.SIGINT)
        return True

    log = logging.getLogger("ganshrink.workflow.camera")
    log.addFilter(interrupting)
    try:
        with pytest.raises(KeyboardInterrupt, match="stopped before the first frame; no film is written"):
            film_camera(shown(1), tmp_path / "out.webm", lambda frame: frame)
    finally:
        log.removeFilter(interrupting)
    assert not list(tmp_path.iterdir())


@pytest.mark.formats
def test_a_damaged_frame_is_passed_over(tmp_path, caplog):
    av = pytest.importorskip("av")
    caplog.set_level("INFO")
    with av.open(str(tmp_path / "in.mkv"), "w") as made:
        out = made.add_stream("mjpeg", rate=RATE)
        out.height, out.width, out.pix_fmt = 48, 64, "yuvj420p"
        for place in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * place, np.uint8), format="rgb24")
            frame.pts = place
            for good in out.encode(frame):
                packet = good if place != 4 else av.Packet(b"no picture")
                packet.pts, packet.dts, packet.time_base = good.pts, good.dts, good.time_base
                packet.stream = out
                made.mux(packet)
        made.mux(out.encode())
    film_camera(Camera("matroska", str(tmp_path / "in.mkv")), tmp_path / "out.webm", lambda frame: frame)
    said = caplog.records[-1].args
    assert said[0] + said[2] == 9 and "ended early" not in caplog.text


@pytest.mark.formats
def test_a_failing_student_leaves_no_film(tmp_path):
    def broken(frame: np.ndarray) -> np.ndarray:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        film_camera(shown(1), tmp_path / "out.webm", broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.formats
@pytest.mark.parametrize(
    ("camera", "words"),
    [
        (Camera("v4l2", "/dev/video97"), r"there is no camera /dev/video97"),
        (Camera("lavfi", "sine=duration=1"), r"has no picture"),
        (Camera("nothing", "0"), r"cannot use camera 0: no container format"),
    ],
)
def test_what_cannot_be_opened_says_why(camera, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        film_camera(camera, tmp_path / "out.webm", lambda frame: frame)
    assert not list(tmp_path.iterdir())


@pytest.mark.formats
@pytest.mark.skipif(sys.platform != "linux", reason="devices have other names elsewhere")
def test_predict_films_a_camera_alone(tmp_path):
    spec = NetworkSpec(net=None, example=[[1, 3, 32, 32]], input=InputSpec(channels=3, size=(32, 32)))
    network, file = nn.Conv2d(3, 3, 1).eval(), tmp_path / "student.safetensors"
    save_network(file, network, spec)
    (tmp_path / "one.png").touch()
    for sources, target, options, words in (
        (["camera:97"], "out.webm", {}, "there is no camera /dev/video97"),
        (["camera:97"], "out.png", {}, "films are written as WEBM, MKV, MP4, MOV; name a .webm file"),
        (["camera:97", "camera:98"], "out", {}, "filmed alone"),
        ([tmp_path / "one.png", "camera"], "out", {}, "filmed alone"),
        ([tmp_path / "one.png"], "out.png", {"seconds": 3}, "--seconds is for a camera alone"),
        (["camera:97"], "out.webm", {"seconds": 0}, "--seconds 0: a number above 0"),
        (["camera:97"], "out.webm", {"format": "png"}, "--format png is for pictures"),
    ):
        with pytest.raises(ValueError, match=words):
            predict(file, sources, tmp_path / target, original=network, **options)
