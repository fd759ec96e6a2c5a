"""Every method has an example, and every example runs."""

import importlib.util
from pathlib import Path

import pytest

from ganshrink.methods import METHODS
from telling import rest_exhaustive

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_every_method_has_an_example():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(METHODS, {"cat", "dmad", "ugc"}.__contains__))
def test_an_example_runs(name, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(str(tmp_path / "run"), 2 if name != "dmad" else 24)  # whose search has to arrive
    assert list((tmp_path / "run").rglob("report.html"))
    if name == "cat":  # the whole road
        files = "recipe.toml env.json plan.json cost.json metrics.json latency.json parity.json student.onnx"
        wanted = [*files.split(), "student.safetensors", "samples/samples.json"]
        assert [file for file in wanted if not (tmp_path / "run" / file).is_file()] == []
    assert "report.html" in capsys.readouterr().out
