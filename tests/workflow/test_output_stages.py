"""Outputs of a finished run are stages: what is made again when something changed, and what is not."""

import json
from pathlib import Path

import pytest

from ganshrink.training.stages import Run
from ganshrink.workflow import outputs
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.output_stages import OutputStages, forget, note
from ganshrink.workflow.recipe import resolve
from tiny_recipe import tiny


def test_an_output_is_made_once_until_what_it_is_from_or_its_files_change(tmp_path):
    run, made = Run(tmp_path), []

    def outcome(weights: int, *, text: str = "pixels") -> bool:
        """Whether one more call on the folder makes the output again, and that all of it is there after that."""

        def make() -> None:
            made.append(weights)
            (tmp_path / "student.onnx").write_text(text)
            (tmp_path / "samples").mkdir(exist_ok=True)
            (tmp_path / "samples/000_student.png").write_text(text)
            run.write("parity.json", {**outputs._parity(run), "student.onnx": {"weights": weights}})

        outputs.clear(run)
        assert not (tmp_path / "student.onnx").exists()
        run.write("parity.json", {"another.file": {}})
        stages, before = OutputStages(run), len(made)
        files, entries = ("student.onnx", "samples/*.png"), {"parity.json": "student.onnx"}
        stages.once("student.onnx", make, {"weights": weights}, files=files, entries=entries)
        stages.close()
        assert (tmp_path / "samples/000_student.png").read_text() == text
        assert run.read("parity.json") == {"another.file": {}, "student.onnx": {"weights": weights}}
        return len(made) > before

    assert outcome(1) and not outcome(1) and not outcome(1)
    assert outcome(2) and outcome(1)
    (tmp_path / "student.onnx").write_text("altered")
    assert outcome(1) and not outcome(1)
    (tmp_path / "samples/000_student.png").unlink()
    assert outcome(1) and not outcome(1)
    forget(tmp_path, "student.onnx")
    assert outcome(1) and not outcome(1)
    (tmp_path / "outputs.json").write_text("{half a reco")
    assert outcome(1) and not outcome(1)


def test_what_a_verb_wrote_outlasts_another_call_while_it_is_of_the_same_student(tmp_path):
    run = Run(tmp_path)
    (tmp_path / "student-fp16.onnx").write_text("half")
    run.write("parity.json", {"student-fp16.onnx": {"format": "onnx-fp16"}})
    told = {"parity.json": "student-fp16.onnx"}
    note(run, "student-fp16.onnx", "weights", files=("student-fp16.onnx",), entries=told)
    for student, there in (("weights", True), ("weights", True), ("others", False), ("weights", False)):
        outputs.clear(run)
        stages = OutputStages(run)
        stages.keep(student)
        stages.close()
        assert (tmp_path / "student-fp16.onnx").is_file() == (tmp_path / "parity.json").is_file() == there


def test_times_outlast_another_call_while_what_was_timed_is_the_same(tmp_path):
    run, told = Run(tmp_path), {"parity.json": "student.onnx"}
    (tmp_path / "latency.json").write_text("{}")
    note(run, "latency.json", "weights", files=("latency.json",), entries={}, of={"files": 1})
    for of, there in (
        ({"files": 1}, True),
        ({"files": 1}, True),
        ({"files": 2}, False),
        ({"files": 1}, False),
    ):
        outputs.clear(run)
        stages = OutputStages(run)
        stages.keep("weights")
        assert stages.kept("latency.json", of) == (tmp_path / "latency.json").is_file() == there
        stages.close()
    (tmp_path / "student.onnx").write_text("file")
    run.write("parity.json", {"student.onnx": {"bytes": 4, "latency": {"ratio": 2.0}}})
    note(run, "student.onnx", "weights", files=("student.onnx",), entries=told)
    for text, latency in (("file", {"ratio": 2.0}), ("file", {"ratio": 2.0}), ("another", None)):

        def make(text: str = text) -> None:
            (tmp_path / "student.onnx").write_text(text)
            run.write("parity.json", {"student.onnx": {"bytes": len(text)}})

        outputs.clear(run)
        stages = OutputStages(run)
        stages.once("student.onnx", make, {"asked": text}, entries=told)
        stages.close()
        assert run.read("parity.json")["student.onnx"].get("latency") == latency


FILES = ("metrics.json", "samples/samples.json", "student.onnx", "latency.json", "report.html")
TIMED = {"latency": {"enabled": True, "seconds": 0.1}}
CHANGES = [
    ({}, set()),
    ({"metrics": {"names": ("ssim",)}}, {"metrics.json", "report.html"}),
    ({"metrics": {"split": "val"}}, {"metrics.json", "samples/samples.json", "report.html"}),
    ({"latency": {"enabled": True, "seconds": 0.2}}, {"latency.json", "report.html"}),
    ({"latency": {"enabled": False}}, {"report.html"}),
    ({"student": {"epochs": 2}}, {"metrics.json", "samples/samples.json", "latency.json", "report.html"}),
]


def _when(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in FILES if (folder / name).exists()}


def _made_again(folder: Path, settings: dict, **options) -> set[str]:
    """The files that another call on a finished run makes again."""
    before = _when(folder)
    compress_recipe(resolve(tiny(folder, **settings)), progress=False, **options)
    assert not (folder / ".outputs").exists()
    return {name for name, when in _when(folder).items() if when != before.get(name)}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_finished_run_makes_again_what_a_changed_setting_decides(tmp_path):
    compress_recipe(resolve(tiny(tmp_path, **TIMED)), progress=False)
    for settings, expected in CHANGES:
        assert _made_again(tmp_path, TIMED | settings) == expected, settings
        _made_again(tmp_path, TIMED)
    assert _made_again(tmp_path, TIMED) == set()
    assert _made_again(tmp_path, TIMED, retime=True) == {"latency.json", "report.html"}
    (tmp_path / "samples/samples.json").unlink()
    assert _made_again(tmp_path, TIMED) == {"samples/samples.json"}  # as it was, so the report is too
    (tmp_path / "metrics.json").write_text("{}")
    assert "metrics.json" in _made_again(tmp_path, TIMED)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_another_export_is_timed_anew_beside_the_same_teacher_file(tmp_path):
    asked = TIMED | {"export": {"onnx": True}}
    compress_recipe(resolve(tiny(tmp_path, **asked)), progress=False)
    assert _made_again(tmp_path, asked) == set()
    teacher = (tmp_path / "teacher.onnx").stat().st_mtime_ns
    free = asked | {"export": {"onnx": True, "dynamic_size": True}}
    assert _made_again(tmp_path, free) == {"student.onnx", "latency.json", "report.html"}
    assert (tmp_path / "teacher.onnx").stat().st_mtime_ns == teacher
    (tmp_path / "student.onnx").write_bytes(b"altered")
    assert _made_again(tmp_path, free) >= {"student.onnx"}
    assert "max_abs_diff" in json.loads((tmp_path / "parity.json").read_bytes())["student.onnx"]
