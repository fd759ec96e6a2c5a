"""What a run leaves behind, file by file; whole runs are in test_pipeline.py."""

import json
import sys

import onnxruntime
import pytest
import torch
from torch import nn

from ganshrink.training.stages import Run
from ganshrink.workflow import outputs
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import resolve
from tiny_recipe import tiny

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
def test_the_teacher_is_exported_once_for_all_timings_until_it_is_another(tmp_path):
    teacher, student = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
    run, file = Run(tmp_path), tmp_path / "teacher.onnx"

    def timed(height: int = 8) -> int:
        networks, example = {"teacher": teacher, "student": student}, torch.zeros(1, 3, height, 8)
        rows = outputs.write_latency(run, networks, example, threads=1, seconds=0.01)["rows"]
        assert {"teacher", "student"} == {row["network"] for row in rows if row["runtime"] == "onnxruntime"}
        return file.stat().st_mtime_ns

    first = timed()
    assert timed() == first
    with torch.no_grad():
        teacher.weight += 1
    second = timed()
    assert second > first
    assert timed(height=12) > second
    image = torch.rand(1, 3, 12, 8)
    [made] = onnxruntime.InferenceSession(str(file)).run(None, {"input": image.numpy()})
    assert torch.allclose(torch.from_numpy(made), teacher(image), atol=1e-5)
    entry = json.loads((tmp_path / "parity.json").read_text())["teacher.onnx"]
    assert entry["made_from"]["example"] == [[1, 3, 12, 8]] and entry["bytes"] == file.stat().st_size


def test_another_student_begins_without_the_files_of_the_first(tmp_path):
    files = [tmp_path / name for name in (*outputs.FILES, "teacher.onnx", "samples/000_input.png")]
    (tmp_path / "samples").mkdir()
    for path in files:
        path.write_text("{}")
    outputs.clear(Run(tmp_path))
    assert [path for path in files if path.exists()] == []
    assert {"student.onnx", "parity.json"} <= set(outputs.FILES)
    (tmp_path / "teacher.onnx").write_text("of which it is known whose it is")
    (tmp_path / "parity.json").write_text('{"teacher.onnx": {"bytes": 1}, "student.onnx": {}}')
    outputs.clear(Run(tmp_path))
    assert (tmp_path / "teacher.onnx").exists()
    assert json.loads((tmp_path / "parity.json").read_text()) == {"teacher.onnx": {"bytes": 1}}


def test_without_onnx_there_is_no_teacher_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    networks = {name: nn.Conv2d(3, 3, 1) for name in ("teacher", "student")}
    rows = outputs.write_latency(Run(tmp_path), networks, torch.zeros(1, 3, 8, 8), threads=1, seconds=0.01)[
        "rows"
    ]
    assert {row["runtime"] for row in rows} == {"torch"}
    assert not (tmp_path / "teacher.onnx").exists()


@pytest.mark.parametrize("missing", ["onnxscript", "matplotlib"])
def test_an_extra_that_is_missing_is_told_before_anything_is_trained(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    extra = {"onnxscript": "onnx", "matplotlib": "report"}[missing]
    with pytest.raises(ValueError, match=rf'needs {missing} .*: pip install "ganshrink\[{extra}\]"'):
        compress_recipe(resolve(tiny(tmp_path, export={"onnx": True})), progress=False)
    assert not list(tmp_path.glob("stages/*"))
