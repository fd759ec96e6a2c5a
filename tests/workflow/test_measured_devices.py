"""What a page measured on another device: kept in the run, shown in the report, and no device profile."""

import json

import pytest

from ganshrink.latency.profiles import read_profile
from ganshrink.workflow.measured_devices import add_device, keep_current

MEASURED = {
    "kind": "ganshrink browser measurement", "run": "mine", "when": "2026-11-30T21:00:00.000Z",
    "runtime": "onnxruntime-web 1.30.0", "provider": "wasm", "threads": 4, "browser": "Mozilla/5.0 (Linux; Android 16)",
    "cores": 8, "input": [3, 64, 64], "ratio": 4.0,
    "networks": [
        {"name": "teacher", "bytes": 3, "p50_ms": 40.0, "ms": [39.0, 40.0, 80.0]},
        {"name": "student", "bytes": 2, "p50_ms": 10.0, "ms": [9.0, 10.0, 11.0]},
    ],
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    for name, content in (("teacher", b"abc"), ("student", b"ab")):
        (tmp_path / f"{name}.onnx").write_bytes(content)
    (tmp_path / "cost.json").write_text("{}")
    (tmp_path / "measured.json").write_text(json.dumps(MEASURED))
    return tmp_path


def test_a_measured_device_is_in_the_report_once(run):
    entry = add_device(run, run / "measured.json", name="Pixel <8>")
    assert entry["ratio"] == pytest.approx(39.5 / 9.5) and entry["place"] == "WebAssembly, 4 threads"
    add_device(run, run / "measured.json", name="Pixel <8>")
    kept = json.loads((run / "devices.json").read_text())["devices"]
    assert [one["networks"]["student"]["p50_ms"] for one in kept] == [10.0]
    page = (run / "report.html").read_text()
    assert "In a browser, Pixel &lt;8&gt;" in page and "40.0 ms" in page and "Pixel <8>" not in page


def test_the_command_says_what_was_measured(run, command):
    out, _ = command("measure", run, "--page", run / "measured.json", "--name", "Pixel 8")
    assert out.split("\nreport: ")[0] == "Pixel 8, WebAssembly, 4 threads: teacher 40.0 ms, student 10.0 ms"


def test_what_was_measured_otherwise_is_refused(run):
    (run / "student.onnx").write_bytes(b"another")
    with pytest.raises(ValueError, match="measured with a student.onnx of 2 bytes, that of .* has 7"):
        add_device(run, run / "measured.json")
    for change, message in (
        ({"kind": "other"}, "kind: "),
        ({"networks": []}, "networks: "),
        ({"provider": "x"}, "provider"),
    ):
        (run / "measured.json").write_text(json.dumps(MEASURED | change))
        with pytest.raises(ValueError, match=f"nothing that the page saved: {message}"):
            add_device(run, run / "measured.json")
    (run / "measured.json").write_text("<html>")
    with pytest.raises(ValueError, match="nothing that the page saved: Expecting value"):
        add_device(run, run / "measured.json")
    with pytest.raises(ValueError, match="times whole networks, and a budget needs the times of layers"):
        read_profile(run / "measured.json")
    assert not (run / "devices.json").exists()


def test_what_was_measured_of_files_that_changed_is_forgotten(run):
    add_device(run, run / "measured.json", name="Pixel 8")
    keep_current(run)
    assert len(json.loads((run / "devices.json").read_text())["devices"]) == 1
    (run / "student.onnx").write_bytes(b"bb")
    keep_current(run)
    assert json.loads((run / "devices.json").read_text()) == {"devices": []}
    (run / "student.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="holds no student.onnx, which .* was measured with"):
        add_device(run, run / "measured.json")
    with pytest.raises(FileNotFoundError, match="the page of `ganshrink demo RUN` saves one"):
        add_device(run, run / "none.json")
