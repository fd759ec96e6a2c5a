"""Run folders that commit 816be87 made: every verb works on them, and nothing of them is trained again unasked.

`old_run/cat` and `old_run/ugc` are whole runs but for checkpoints and what no verb reads; `old_run/recipes` are the
recipes that runs of other methods left.
"""

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ganshrink import nets
from ganshrink.cli.main import main
from ganshrink.reports import write_report
from ganshrink.workflow.compress import compress, compress_recipe, train_recipe
from ganshrink.workflow.predict import predict
from ganshrink.workflow.recipe import read_recipe
from ganshrink.workflow.verbs import evaluate_run, export_run, load_networks
from telling import rest_exhaustive

OLD = Path(__file__).parent / "old_run"
RUNS = ["cat", "ugc"]
LEFT = {path.stem if path.stem != "recipe" else path.parent.name: path for path in OLD.rglob("*.toml")}
REFUSED = "was made by an earlier version: --retrain .* or name a new folder"


@pytest.fixture
def old(tmp_path, request) -> Path:
    """A copy of an old run: of `cat`, or of the one that the test names."""
    return Path(shutil.copytree(OLD / getattr(request, "param", "cat"), tmp_path / "old"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def leaves(table: dict[str, Any], before: str = "") -> dict[str, Any]:
    """The settings of a table and of those in it, by dotted name."""
    found = {}
    for key, value in table.items():
        found |= leaves(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("old", rest_exhaustive(RUNS, "cat".__eq__), indirect=True)
def test_its_networks_are_what_they_were(old):
    networks = load_networks(old)
    costs = json.loads((old / "cost.json").read_text())
    assert set(networks) == {"teacher", "student"}
    for name, network in networks.items():
        assert sum(p.numel() for p in network.parameters()) == costs[name]["params"]
    written = predict(old, OLD / "cat/samples/000_input.png", old / "out.png")
    assert [np.asarray(Image.open(path)).shape for path in written] == [(32, 32, 3)]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_its_student_draws_what_it_drew(old):
    predict(old, old / "samples/000_input.png", old / "out.png")
    drawn, then = (np.asarray(Image.open(old / name), int) for name in ("out.png", "samples/000_student.png"))
    assert abs(drawn - then).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("old", rest_exhaustive(RUNS, "cat".__eq__), indirect=True)
def test_its_scores_are_what_they_were(old):
    then = json.loads((old / "metrics.json").read_text())
    now = evaluate_run(old)
    for name, values in then.items():
        for metric, value in values.items():
            assert now[name][metric]["value"] == pytest.approx(value["value"], rel=1e-4)
            assert now[name][metric]["protocol"]["data"] == value["protocol"]["data"]
    assert (old / "report.html").is_file()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_it_is_exported(old):
    assert export_run(old)["student.onnx"]["max_abs_diff"] < 0.01  # of 255 levels


@pytest.mark.parametrize("old", RUNS, indirect=True)
def test_it_is_reported(old):
    costs = json.loads((old / "cost.json").read_text())
    assert f"{costs['student']['params']:,}" in write_report(old).read_text()


@pytest.mark.parametrize("method", LEFT)
def test_its_recipe_says_what_it_said(method, caplog):
    """Where a key has another name now, a warning tells it; what it says is the same."""
    then = leaves(tomllib.loads(LEFT[method].read_text()))
    now = leaves(read_recipe(LEFT[method]).model_dump(mode="json"))
    renamed = dict(re.findall(r"(\S+) is now (\S+)", caplog.text))
    assert now["method.name"] == method and len(then) > 70
    assert {renamed.get(key, key): value for key, value in then.items()}.items() <= now.items()


@pytest.mark.parametrize("changed", [[], ["method.floor=2"]])
def test_compress_leaves_it_alone_and_says_what_to_do(old, changed):
    before = contents(old)
    recipe = read_recipe(old / "recipe.toml", [f"run={old}", *changed])
    for refused in (compress_recipe, train_recipe):
        with pytest.raises(ValueError, match=REFUSED) as caught:
            refused(recipe, progress=False)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=REFUSED):
        compress(nets.build("resnet9", ngf=2, blocks=1), data={"size": 32}, run=old)
    assert contents(old) == before


def test_it_is_refused_before_its_first_stage_is_done_too(old):
    """Days of training may be in a checkpoint."""
    for path in [*old.glob("stages/*/done.json"), old / "env.json", old / "student.safetensors"]:
        path.unlink()
    with pytest.raises(ValueError, match=REFUSED):
        compress_recipe(read_recipe(old / "recipe.toml", [f"run={old}"]), progress=False)


def test_its_teacher_can_be_taken_along(old, tmp_path):
    words = [f"run={tmp_path / 'new'}", f"teacher.weights={old}"]
    train_recipe(read_recipe(old / "recipe.toml", words), progress=False)
    taken, then = (load_file(folder / "teacher.safetensors") for folder in (tmp_path / "new", old))
    assert then and all(torch.equal(taken[name], then[name]) for name in then)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_retrain_puts_its_stages_aside_and_what_it_makes_is_of_this_version(old, monkeypatch, capsys):
    then = {path.parent.name: json.loads(path.read_text())["key"] for path in old.glob("stages/*/stamp.json")}
    words = ["compress", str(old / "recipe.toml"), f"run={old}", "--quiet", "seed=1", "export.onnx=false"]

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["ganshrink", *words])
        with pytest.raises(SystemExit, match="^0$"):
            main()

    run(*words, "--retrain")
    for name, key in then.items():
        assert (old / f"stages/{name}.{key[:8]}/stamp.json").is_file()
    made = {path: path.stat().st_mtime_ns for path in old.glob("stages/*/done.json")}
    run(*words)  # this version goes on in a folder of its own without being told to
    assert made == {path: path.stat().st_mtime_ns for path in old.glob("stages/*/done.json")}
    assert capsys.readouterr().out.count("student.safetensors") == 2
