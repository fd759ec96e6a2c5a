"""A finished run as a page in the browser: its teacher and its student, on its sample pictures or on anyone's."""

import json
from pathlib import Path
from typing import Any

from ganshrink.browser import write_page
from ganshrink.exporters.note import read_note
from ganshrink.reports.page import VERDICT
from ganshrink.training.stages import Run
from ganshrink.workflow.outputs import TEACHER, teacher_file
from ganshrink.workflow.saved_networks import Uncut, student_file
from ganshrink.workflow.verbs import example_for, load_networks

SAMPLES = 6  # to choose from


def demo_run(
    path: str | Path,
    out: str | Path | None = None,
    *,
    single_file: bool = False,
    original: Uncut = None,
) -> Path:
    """Write the page of a run, and return its path: in DIR/demo, or one file DIR/demo.html.

    Args:
        path: the run's folder; its teacher.onnx is written where it is missing.
        out: the folder to write, or of a single file the file.
        single_file: one file with everything inside.
        original: for a run on a network of your own, that network uncut, or its MODULE:NAME.

    Raises:
        FileNotFoundError: the folder holds no student, or no student.onnx.
        ValueError: the networks take what a browser has no pictures of.
        ConnectionError: onnxruntime-web cannot be fetched.
    """
    path = Path(path)
    student = student_file(path).with_suffix(".onnx")
    if not student.is_file():
        raise FileNotFoundError(f"{path} holds no student.onnx: write it with ganshrink export {path}")
    read_note(student)  # what a page cannot show is told before anything is made
    out = Path(out) if out is not None else path / ("demo.html" if single_file else "demo")
    told = json.loads((path / VERDICT).read_text(encoding="utf-8")) if (path / VERDICT).is_file() else {}
    return write_page(
        {"teacher": _teacher(path, original), "student": student},
        out,
        samples=_samples(path),
        name=path.resolve().name,
        sentence=str(told.get("sentence", "")),
        grade=str(told.get("grade", "")),
        single_file=single_file,
    )


def _teacher(path: Path, original: Uncut) -> Path:
    """The run's teacher.onnx, which an earlier version may have written without saying what it takes."""
    try:
        read_note(path / TEACHER)
    except (FileNotFoundError, ValueError):
        (path / TEACHER).unlink(missing_ok=True)
        teacher = load_networks(path, original)["teacher"]
        if not teacher_file(Run(path), teacher, example_for(path)):
            raise ValueError(
                f"the teacher of {path} does not export to ONNX, so no page can show it"
            ) from None
    return path / TEACHER


def _samples(path: Path) -> list[Path]:
    """The inputs that a run shows."""
    file = path / "samples/samples.json"
    rows: list[dict[str, Any]] = json.loads(file.read_bytes())["rows"] if file.is_file() else []
    return [path / "samples" / row["input"] for row in rows[:SAMPLES] if "input" in row]
