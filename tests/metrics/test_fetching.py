"""Downloading weights: from a real server on this machine, kept only with the right checksum."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext as does
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ganshrink.cli.main import app
from ganshrink.metrics import MetricsConfig, build, released
from ganshrink.metrics.inception import RELEASE, RELEASED_NAME, SHA256
from ganshrink.metrics.squeezenet import SqueezeNet, load_squeezenet
from ganshrink.metrics.weights import fetch_weights
from ganshrink.training.tasks.gaugan import GauGAN, GauGANConfig

CONTENT = bytes(range(256)) * 10_000  # more than one chunk
RIGHT = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/whole is the file, /cut loses its connection half way, /rest too and gives the rest to whoever asks for it,
    /other is another file, anything else is not there."""

    def do_GET(self) -> None:
        if self.path not in ("/whole", "/cut", "/rest", "/other"):
            self.send_error(404)
            return
        content, half = CONTENT if self.path != "/other" else b"no weights", len(CONTENT) // 2
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.path == "/rest" else 0
        if start == len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        broken = self.path == "/cut" or (self.path == "/rest" and not start)
        self.wfile.write(content[start : half if broken else None])

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
        ("gone", ConnectionError, "cannot download .*/gone: .*404"),
    ],
)
def test_nothing_else_is_kept(
    server: str, tmp_path: Path, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fetch_weights(f"{server}/{path}", tmp_path / "w.pth", sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_download_that_broke_off_goes_on(server: str, tmp_path: Path) -> None:
    target, part = tmp_path / "w.pth", tmp_path / "w.pth.part"
    for path in ("cut", "cut", "rest"):  # a server that starts over each time, and one that goes on
        with (
            pytest.raises(ConnectionError, match="broke off 1280000 bytes before its end")
            if path == "cut"
            else does()
        ):
            fetch_weights(f"{server}/{path}", target, sha256=RIGHT)
        assert path == "rest" or part.read_bytes() == CONTENT[: len(CONTENT) // 2]
    assert target.read_bytes() == CONTENT and not part.exists()


def test_a_download_that_was_whole_but_for_its_check(server: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    fetch_weights(f"{server}/rest", tmp_path / "w.pth", sha256=RIGHT[:8])
    (tmp_path / "w.pth").rename(tmp_path / "w.pth.part")
    with pytest.raises(ValueError, match="nothing was kept"):
        fetch_weights(f"{server}/rest", tmp_path / "w.pth", sha256="0" * 8)
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
        released.fetch("inception", source=f"{server}/whole")
    with pytest.raises(ConnectionError) as caught:
        released.fetch("inception", source=f"{server}/gone")
    for said in (f"{server}/gone", RELEASE, SHA256, str(tmp_path / RELEASED_NAME)):
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_released_weights_are_made_what_the_settings_read(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    trained = SqueezeNet().state_dict()
    torch.save(
        {k: v for k, v in trained.items() if k.startswith("features.")},
        tmp_path / "squeezenet1_1-b8a52dc0.pth",
    )
    digits = hashlib.sha256((tmp_path / "squeezenet1_1-b8a52dc0.pth").read_bytes()).hexdigest()
    known = replace(released.RELEASED["squeezenet"], sha256=digits[:8])  # the true file cannot be had here
    monkeypatch.setitem(released.RELEASED, "squeezenet", known)
    assert released.fetch("squeezenet") == tmp_path / "squeezenet11_features.safetensors"
    assert load_squeezenet("squeezenet11_features.safetensors").dim == 512
    assert [file.name for file in tmp_path.iterdir()] == ["squeezenet11_features.safetensors"]
    assert released.fetch(
        "squeezenet", source=f"{server}/gone"
    ).exists()  # what is there is not fetched again
    without = r"cannot download .*/gone.*vgg16-397923af.pth elsewhere .* begins with 397923af"
    with pytest.raises(ConnectionError, match=without):
        released.fetch("vgg16", source=f"{server}/gone")
    with pytest.raises(ValueError, match="expected 397923af: nothing was kept"):
        released.fetch("vgg16", source=f"{server}/other")
    with pytest.raises(ValueError, match="no released weights are called 'vgg'; did you mean 'vgg19'"):
        released.fetch("vgg")


@pytest.mark.parametrize("name", released.RELEASED)
def test_a_setting_names_the_file_and_a_missing_one_the_command(name: str, tmp_path: Path) -> None:
    known = released.RELEASED[name]
    table, _, setting = known.setting.partition(".")
    assert known.sha256[:8] in known.address
    if table == "task":
        with pytest.raises(FileNotFoundError, match=f"`ganshrink fetch {name}`"):
            _ = GauGAN(GauGANConfig(vgg=str(tmp_path / known.file))).vgg
        return
    assert setting in MetricsConfig.model_fields
    metric = {"inception": "fid", "squeezenet": "fd_squeezenet", "vgg": "perceptual_teacher"}[setting]
    config = MetricsConfig(names=(metric,), **{setting: tmp_path / known.file})
    with pytest.raises(FileNotFoundError, match=rf"no weights file .*{known.setting}.*") as caught:
        build(config)
    assert f"`ganshrink fetch {name}`" in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_says_what_it_got_and_what_there_is(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    listed = CliRunner().invoke(app, ["fetch"]).stdout.splitlines()
    assert len(listed) == len(released.RELEASED) and all("not tried" in line for line in listed)
    known = replace(released.RELEASED["vgg16"], sha256=RIGHT[:8])
    monkeypatch.setitem(released.RELEASED, "vgg16", known)
    said = CliRunner().invoke(app, ["fetch", "vgg16", "--source", f"{server}/whole"]).stdout
    assert said == f"{tmp_path}/{known.file}, for metrics.vgg = '{known.file}'\n"


def test_the_files_name_carries_its_checksum() -> None:
    digits = re.fullmatch(r"pt_inception-2015-12-05-([0-9a-f]{8})\.pth", RELEASED_NAME)
    assert digits is not None
    assert re.fullmatch(rf"{digits[1]}[0-9a-f]{{56}}", SHA256)
    assert RELEASE.endswith(f"/{RELEASED_NAME}")
