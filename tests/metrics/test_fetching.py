"""Downloading weights: from a real server on this machine, kept only with the right checksum."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ganshrink.metrics.inception import RELEASE, RELEASED_NAME, SHA256, fetch_inception
from ganshrink.metrics.weights import fetch_weights

CONTENT = bytes(range(256)) * 10_000  # more than one chunk
RIGHT = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/whole is the file, /cut loses its connection half way, anything else is not there."""

    def do_GET(self) -> None:
        if self.path not in ("/whole", "/cut"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_the_right_file_arrives_once(server: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "w.pth"
    fetch_weights(f"{server}/whole", target, sha256=RIGHT)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    fetch_weights(f"{server}/gone", target, sha256=RIGHT)  # what is there is not fetched again


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("whole", ValueError, f"SHA-256 {RIGHT}, expected {'0' * 64}: nothing was kept"),
        ("cut", (ValueError, ConnectionError), "nothing was kept|cannot download"),
        ("gone", ConnectionError, "cannot download .*/gone: .*404"),
    ],
)
def test_nothing_else_is_kept(
    server: str, tmp_path: Path, path: str, error: type[Exception], message: str
) -> None:
    wanted = RIGHT if path == "cut" else "0" * 64
    with pytest.raises(error, match=message):
        fetch_weights(f"{server}/{path}", tmp_path / "w.pth", sha256=wanted)
    assert not list(tmp_path.iterdir())


def test_another_file_in_its_place_is_left_alone(server: str, tmp_path: Path) -> None:
    target = tmp_path / "w.pth"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="w.pth is another file than .*/whole: move it away"):
        fetch_weights(f"{server}/whole", target, sha256=RIGHT)
    assert target.read_bytes() == b"mine"


def test_inception_comes_from_its_release_or_not_at_all(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=f"expected {SHA256}"):
        fetch_inception(source=f"{server}/whole")
    with pytest.raises(ConnectionError) as caught:
        fetch_inception(source=f"{server}/gone")
    for said in (f"{server}/gone", RELEASE, SHA256, str(tmp_path / RELEASED_NAME)):
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_files_name_carries_its_checksum() -> None:
    digits = re.fullmatch(r"pt_inception-2015-12-05-([0-9a-f]{8})\.pth", RELEASED_NAME)
    assert digits is not None
    assert re.fullmatch(rf"{digits[1]}[0-9a-f]{{56}}", SHA256)
    assert RELEASE.endswith(f"/{RELEASED_NAME}")
