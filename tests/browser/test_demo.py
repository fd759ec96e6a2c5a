"""The page of a run: what is served, and in a real browser what it computes."""

import base64
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from chromium import Tab, served
from PIL import Image
from torch import nn

from ganshrink.browser import write_page
from ganshrink.browser.runtime import runtime_files
from ganshrink.data import InputSpec, class_colours
from ganshrink.exporters import export_onnx
from ganshrink.system.values import ValueRange, Values, converting
from ganshrink.workflow.predict import predict

CLASSES = 5


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site" / "ort").mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text("page")
    (tmp_path / "site" / "ort" / "a.mjs").write_text("1")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site" / "link").symlink_to(tmp_path / "secret")
    yield from served(tmp_path / "site")


def test_the_folder_is_served_with_headers_and_nothing_outside_of_it(site: str) -> None:
    with urllib.request.urlopen(f"{site}/") as page:
        assert page.read() == b"page"
        assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert page.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    with urllib.request.urlopen(f"{site}/ort/a.mjs") as script:
        assert script.headers["Content-Type"] == "text/javascript"
    for path in (
        "../secret",
        "%2e%2e/secret",
        "ort/../../secret",
        "link",
        "ort/",
        "..%2fsecret",
        "//etc/passwd",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{site}/{path}")


def test_without_npm_or_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSHRINK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(FileNotFoundError, match="install npm, or unpack the files of its dist/ into .*cache"):
        runtime_files()
    npm = tmp_path / "bin" / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(
        ConnectionError, match=r"cannot fetch onnxruntime-web@.* \(npm error code ENOTFOUND\)"
    ):
        runtime_files()
    npm.write_text('#!/bin/sh\necho other > "$4/onnxruntime-web-1.30.0.tgz"\n')
    with pytest.raises(ValueError, match="another onnxruntime-web@1.30.0 than the one"):
        runtime_files()
    assert not (tmp_path / "cache").exists()


def conv(*sizes: int) -> nn.Module:
    """Convolutions of so many channels."""
    layers: list[nn.Module] = []
    for size, out in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Conv2d(size, out, 3, padding=1), nn.InstanceNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers[:-2]).eval()


def picture_of(tab: Tab, canvas: str) -> np.ndarray:
    uri = tab.value(f"document.getElementById('{canvas}').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"), int)


def check(tab: Tab, files: dict[str, Path], given: Path, folder: Path) -> None:
    """The page shows what ONNX Runtime makes, and complains of nothing."""
    for canvas, (name, file) in zip(("first", "second"), files.items(), strict=True):
        [made] = predict(file, given, folder / f"{name}-{given.stem}.png")
        wanted = np.asarray(Image.open(made).convert("RGB"), int)
        shown = picture_of(tab, canvas)
        assert shown.shape == wanted.shape and abs(shown - wanted).max() <= 2, name
        assert wanted.std() > 5
    assert tab.complaints == [] and tab.value("String(demo.error)") == "undefined"


@pytest.mark.formats
def test_a_page_runs_pictures_of_any_size_and_measures(tab: Tab, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unit = ValueRange(range=(0, 1), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    teacher = nn.Sequential(conv(3, 8, 3), nn.Tanh()).eval()
    student = converting(conv(3, 4, 3), Values(input=unit, output=unit))
    example, files = torch.zeros(1, 3, 32, 32), {}
    for name, network in (("teacher", teacher), ("student", student)):
        files[name] = tmp_path / f"{name}.onnx"
        export_onnx(network, example, files[name], dynamic_size=True)
    rng = np.random.default_rng(0)
    pictures = []
    for height, width in ((40, 56), (33, 24)):
        pictures.append(tmp_path / f"{height}.png")
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(pictures[-1])
    write_page(
        files, tmp_path / "site", samples=pictures[:1], name="</script> & co", sentence="10× <smaller>."
    )
    for address in served(tmp_path / "site"):
        tab.open(f"{address}/")
        tab.value("demo.ready")
        check(tab, files, pictures[0], tmp_path)
        assert tab.value("self.crossOriginIsolated") is True
        assert tab.value("document.querySelector('h1').textContent") == "10×\u00a0<smaller>."
        content = base64.b64encode(pictures[1].read_bytes()).decode()
        tab.value(
            f"""(async () => {{
                const blob = await (await fetch("data:image/png;base64,{content}")).blob(), given = new DataTransfer();
                given.items.add(new File([blob], "dropped.png", {{ type: "image/png" }}));
                document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer: given, bubbles: true }}));
                while (document.getElementById("input").height !== 33) await new Promise(done => setTimeout(done, 20));
                await run();
            }})()"""
        )
        check(tab, files, pictures[1], tmp_path)
        measured = tab.value("(async () => { await measure(); return demo.measured; })()")
        assert [row["name"] for row in measured["networks"]] == ["teacher", "student"]
        assert all(len(row["ms"]) == 20 and row["bytes"] for row in measured["networks"])
        assert measured["input"] == [3, 33, 24] and measured["ratio"] > 0
        assert tab.value("document.getElementById('save').disabled") is False
        seen = tab.value(
            """(async () => {
                const wait = () => new Promise(done => setTimeout(done, 20)), button = document.getElementById("camera");
                const frames = new Set();
                button.click();
                while (frames.size < 2 && !demo.error) {
                    await wait();
                    frames.add(document.getElementById("input").toDataURL());
                }
                const [running, canvas] = [button.textContent, document.getElementById("first")];
                button.click();
                await busy;
                return [running, button.textContent, canvas.width > 32, String(demo.error)];
            })()"""
        )
        assert seen == ["Stop the camera", "Use the camera", True, "undefined"] and tab.complaints == []


@pytest.mark.formats
def test_a_single_file_runs_label_maps_from_a_double_click(tab: Tab, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = InputSpec(kind="labels", channels=CLASSES, size=(32, 48), void=4)
    example, files = torch.zeros(1, CLASSES, 32, 48), {}
    example[:, 0] = 1
    for name, image_io in (("teacher", None), ("student", "uint8")):
        files[name] = tmp_path / f"{name}.onnx"
        network = nn.Sequential(conv(CLASSES, 6, 3), nn.Tanh()).eval()
        export_onnx(network, example, files[name], image_io=image_io, spec=spec)
    ids = np.random.default_rng(0).integers(0, CLASSES, (32, 48), np.uint8)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    Image.fromarray(class_colours(CLASSES, void=4)[ids]).save(tmp_path / "seen.png")
    page = write_page(files, tmp_path / "one.html", samples=[tmp_path / "seen.png"], single_file=True)
    assert page.stat().st_size < 8e6
    tab.open(page.as_uri())
    tab.value("demo.ready")
    check(tab, files, tmp_path / "ids.png", tmp_path)
    assert tab.value("document.getElementById('classes').children.length") == CLASSES
