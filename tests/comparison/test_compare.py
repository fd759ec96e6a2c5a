"""A comparison carried out for real, tiny: cells, one that fails, one that is killed, results, page, and a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest
import tomli_w
from safetensors.torch import load_file, save_file

from ganshrink.comparison.compare import Workers, compare, compare_runs, said
from ganshrink.comparison.matrix import Matrix, cells
from ganshrink.comparison.running import command, outcome
from ganshrink.methods import BASELINES
from ganshrink.workflow.compress import compress_recipe
from tiny_recipe import tiny

RECIPE = {key: value for key, value in tiny("x").items() if key not in ("run", "budget", "method")}
CAT = {"cat": {"search": {"floor": 2}}}
METHODS = {
    "methods": ["cat", "broken"],
    "method": {**CAT, "broken": {"name": "cat", "search": {"floor": 999}}},
}
# long enough to be stopped in the middle
LONG = {**RECIPE, "student": {"epochs": 30, "checkpoint_minutes": 0.001}}


def table(folder: Path, **given) -> dict:
    """A matrix of the smallest kind, as its file has it."""
    return {"run": str(folder), "recipe": RECIPE, "budgets": ["macs=60%"], **METHODS, **given}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison of two seeds with a cell that fails, and what it returned.

    Most of a process is Python's imports, so that two cells have their own, and the other runs are made in this one.
    """
    folder = tmp_path_factory.mktemp("compare") / "grid"
    matrix = Matrix(**table(folder, seeds=[0, 1], margin=5.0, rank_by="psnr"))
    options = {"workers": Workers(jobs=2, threads=1), "estimated": False}
    compare(matrix, only="cat*seed=1", **options)
    for cell in cells(matrix, folder / "teacher"):
        if cell.entry != "broken" and outcome(cell) is None:
            compress_recipe(cell.recipe, progress=False)
            record = {"key": cell.key(), "state": "done", "error": None, "seconds": 1.0}
            (cell.run / "cell.json").write_text(json.dumps(record))
    told: list[str] = []
    result = compare(matrix, only="broken*seed=0", tell=told.append, **options)
    return folder, result, told


@pytest.mark.slow
def test_every_cell_is_an_ordinary_run_or_its_error(finished):
    folder, result, told = finished
    assert {row["entry"] for row in result["rows"]} == {*BASELINES, "cat"}
    for row in result["rows"]:
        assert row["seeds"] == [0, 1]
        for cell in row["cells"]:
            assert (folder / cell["folder"] / "report.html").is_file()
    assert [cell["name"] for cell in result["failed"]] == ["broken_macs=60pct_seed=0"]
    assert all("cannot be met" in cell["error"] or "budget" in cell["error"] for cell in result["failed"])
    assert result["unfinished"] == ["broken_macs=60pct_seed=1"] and any("failed" in line for line in told)
    assert json.loads((folder / "compare.json").read_text()) == result


@pytest.mark.slow
def test_students_see_the_same_images_and_have_one_teacher(finished):
    _, result, _ = finished
    seen = {cell["images"]["student"] for row in result["rows"] for cell in row["cells"]}
    assert seen == {4} and result["left_out"] == {}


@pytest.mark.slow
def test_values_are_those_of_the_runs_with_their_spread_over_seeds(finished):
    folder, result, _ = finished
    for row in result["rows"]:
        runs = [json.loads((folder / cell["folder"] / "metrics.json").read_text()) for cell in row["cells"]]
        for name, found in row["metrics"].items():
            values = [run["student"][name]["value"] for run in runs]
            assert found["values"] == values
            assert found["value"] == pytest.approx(sum(values) / 2)
            assert found["low"] <= found["value"] <= found["high"]


@pytest.mark.slow
def test_what_is_said_follows_from_the_intervals(finished):
    _, result, _ = finished
    for row in result["rows"]:
        gap = row["against_teacher"]["psnr"]
        assert ("as good as the teacher" in row["said"]) == (-gap["low"] <= 5.0)
        if row["entry"] != "uniform-distilled":
            other = row["against_reference"]["psnr"]
            assert any("worth its cost" in words for words in row["said"]) == (other["low"] > 0)
    placed = [name for names in result["ranking"][0]["places"] for name in names]
    assert sorted(placed) == sorted(row["entry"] for row in result["rows"])
    assert "failed: broken" in said(result)
    told = result["rows"][0]["cells"][0]
    verdict = json.loads((finished[0] / told["folder"] / "verdict.json").read_text())
    assert told["verdict"] == {key: verdict[key] for key in ("grade", "sentence")}
    assert f"verdict: {verdict['grade']}. {verdict['sentence']}" in said(result)


@pytest.mark.slow
def test_the_page_shows_places_pictures_failures_and_protocols(finished):
    folder, result, _ = finished
    page = (folder / "compare.html").read_text()
    assert page.index('class="lead verdict') < page.index("<nav") < page.index("<table")
    assert page.count("<img") >= 2 * (3 + len(result["rows"])) and "<svg" in page
    for words in (
        "These cells failed",
        "broken_macs=60pct_seed=0",
        "against uniform-distilled",
        "quantisation",
    ):
        assert words in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_the_same_call_trains_nothing_again_and_tries_failed_cells(finished):
    folder, result, _ = finished
    before = {file: file.stat().st_mtime_ns for file in folder.glob("cells/*/student.safetensors")}
    told: list[str] = []
    matrix = Matrix(**table(folder, seeds=[0, 1], margin=5.0, rank_by="psnr"))
    again = compare(matrix, only="cat*", estimated=False, tell=told.append)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert again["rows"] == result["rows"] and told[-1] == "10 cells, 8 done, 0 to do"


@pytest.mark.slow
def test_cells_of_a_teacher_that_was_trained_anew_are_not_done(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "grid")
    weights = load_file(folder / "teacher/teacher.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "teacher/teacher.safetensors")
    told: list[str] = []
    compare(Matrix(**table(folder, seeds=[0, 1])), only="none", estimated=False, tell=told.append)
    assert told == ["10 cells, 0 done, 0 to do"]


@pytest.mark.slow
def test_runs_that_exist_are_joined_and_other_protocols_are_marked(finished, tmp_path):
    folder, _, _ = finished
    runs = [folder / "cells" / f"{name}_macs=60pct_seed=0" for name in ("cat", "uniform-distilled")]
    other = tmp_path / "other"
    shutil.copytree(folder / "cells" / "uniform-scratch_macs=60pct_seed=0", other)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["student"]["psnr"]["protocol"]["split"] = "val"
    (other / "metrics.json").write_text(json.dumps(metrics))
    result = compare_runs([*runs, other], tmp_path / "joined", rank_by="psnr")
    assert result["left_out"] == {"other": {"psnr": "measured otherwise: split val instead of test"}}
    assert all("other" not in names for names in result["ranking"][0]["places"])
    assert next(row for row in result["rows"] if row["entry"] == "other")["metrics"].keys() == {
        "ssim",
        "psnr_teacher",
        "ssim_teacher",
    }
    assert "measured otherwise" in (tmp_path / "joined/compare.html").read_text()


@pytest.mark.slow
def test_seeds_of_runs_that_exist_are_one_entry_as_in_their_matrix(finished, tmp_path):
    folder, result, _ = finished
    cells = sorted((folder / "cells").glob("*_seed=?"))
    again = shutil.copytree(folder / "cells/cat_macs=60pct_seed=0", tmp_path / "cat-again")
    both = compare_runs([*cells, again], tmp_path / "joined", rank_by="psnr")
    rows = {row["entry"]: row for row in both["rows"]}
    assert rows.pop("cat-again")["seeds"] == [0]
    for row in result["rows"]:
        assert {**row, "cells": [], "said": []} == {**rows[row["entry"]], "cells": [], "said": []}
    assert both["gate"] == result["gate"]


@pytest.mark.slow
def test_another_recipe_or_the_same_seed_is_another_entry(finished, tmp_path):
    folder, _, _ = finished
    cats = [folder / f"cells/cat_macs=60pct_seed={seed}" for seed in (0, 1)]
    runs = [shutil.copytree(cats[0], tmp_path / name / "run-0") for name in ("one", "two", "three")]
    runs += [shutil.copytree(cats[1], tmp_path / name / "run-1") for name in ("one", "three")]
    for run in runs:  # a user's own, which no matrix named
        (run / "cell.json").unlink()
        if run.parent.name == "three":
            (run / "recipe.toml").write_text(
                (run / "recipe.toml").read_text().replace("floor = 2", "floor = 3")
            )
    rows = compare_runs(runs, tmp_path / "joined", rank_by="psnr")["rows"]
    assert [(row["entry"], row["seeds"]) for row in rows] == [
        ("run", [0, 1]),
        (str(tmp_path / "two/run"), [0]),
        (str(tmp_path / "three/run"), [0, 1]),
    ]


@pytest.mark.slow
def test_a_student_that_saw_more_images_is_left_out(finished, tmp_path):
    folder, _, _ = finished
    longer = tmp_path / "longer"
    shutil.copytree(folder / "cells" / "cat_macs=60pct_seed=0", longer)
    events = longer / "stages/distill/events.jsonl"
    events.write_text(events.read_text().replace('"images": 4', '"images": 400'))
    others = [
        folder / "cells" / f"{name}_macs=60pct_seed=0" for name in ("uniform-distilled", "uniform-scratch")
    ]
    result = compare_runs([*others, longer], tmp_path / "joined", rank_by="psnr")
    assert result["left_out"] == {
        "longer": {"all": "its student saw 400 images in 2 steps, the others 4 in 2"}
    }


@pytest.mark.exhaustive
def test_a_matrix_that_is_stopped_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    given = table(tmp_path / "stopped", methods=[], method={}, recipe=LONG)
    file, matrix = tmp_path / "matrix.toml", Matrix(**given)
    file.write_text(tomli_w.dumps(given))
    only = "uniform-distilled*"
    words = ["compare", str(file), "--no-estimate", "--threads", "1", "--quiet", "--only", only]
    process = subprocess.Popen([sys.executable, "-m", "ganshrink", *words], stderr=subprocess.PIPE, text=True)
    [cell] = [cell for cell in cells(matrix, tmp_path / "stopped/teacher") if fnmatch(cell.name, only)]
    while not (cell.run / "stages/narrow/checkpoint.pt").is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and "goes on from what is saved" in error
    assert not (cell.run / "cell.json").exists()
    result = compare(matrix, only=only, workers=Workers(threads=1), estimated=False, tell=lambda line: None)
    assert result["unfinished"] and [row["entry"] for row in result["rows"]] == ["uniform-distilled"]

    resolved = cell.recipe.model_copy(update={"run": tmp_path / "whole"})
    compress_recipe(resolved, progress=False)
    stopped, whole = (json.loads((run / "metrics.json").read_text()) for run in (cell.run, resolved.run))
    assert stopped == whole


@pytest.mark.exhaustive
def test_a_cluster_takes_cells_and_outlives_a_worker_that_is_killed(tmp_path):
    """A scheduler and two workers as processes of their own, as on a cluster; one is killed in the middle of a cell."""
    distributed = pytest.importorskip("distributed")
    matrix = Matrix(**table(tmp_path / "grid", methods=[], method={}, recipe=LONG))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, resources={"GPU": 1}, silence_logs=50
    ) as cluster:
        with pytest.raises(ValueError, match="no worker at .* has 2 GPU, the most is 1"):
            compare(
                matrix,
                workers=Workers(cluster=cluster.scheduler_address, resources={"GPU": 2}),
                estimated=False,
            )
        killed: list[int] = []

        def kill_one(line: str) -> None:
            """After the first cell is done, its worker is at the next: the process that holds it is killed."""
            if "done in" in line and not killed:
                time.sleep(3)
                victims = [worker for worker in cluster.workers.values() if worker.pid]
                killed.append(victims[0].pid)
                os.kill(victims[0].pid, signal.SIGKILL)

        result = compare(
            matrix,
            workers=Workers(threads=1, cluster=cluster.scheduler_address, resources={"GPU": 1}),
            estimated=False,
            tell=kill_one,
        )
    assert killed and result["failed"] == [] and result["unfinished"] == []
    assert {row["entry"] for row in result["rows"]} == set(BASELINES)


def test_a_cell_whose_recipe_changed_is_not_taken_for_done(tmp_path):
    before = cells(Matrix(**table(tmp_path, **METHODS)))[0]
    (before.run).mkdir(parents=True)
    (before.run / "cell.json").write_text(
        json.dumps({"key": before.key(), "state": "done", "error": None, "seconds": 1.0})
    )
    after = cells(Matrix(**table(tmp_path, recipe={**RECIPE, "student": {"epochs": 2}})))[0]
    assert outcome(before) is not None and outcome(after) is None
    assert Path(command(after).recipe).read_text() == after.text
    file = tmp_path / "G.safetensors"
    file.write_bytes(b"one")
    named = cells(Matrix(**table(tmp_path, recipe={**RECIPE, "teacher": {"weights": str(file)}})))[0]
    key = named.key()
    file.write_bytes(b"another")
    assert named.key() != key


@pytest.mark.exhaustive
def test_a_dry_run_says_what_a_matrix_takes_and_refuses_unequal_training(tmp_path):
    told: list[str] = []
    longer = {"name": "gan_slimming", "distance": "mse", "finetune": {"batch_size": 3}}
    matrix = Matrix(**table(tmp_path / "grid", methods=["cat"], method=CAT, seeds=[0, 1]))
    found = compare(matrix, dry_run=True, only="cat*", workers=Workers(jobs=2), tell=told.append)
    assert found["cells"] == 2 and set(found["kinds"]) == {"cat_macs=60pct"}  # one trial for both seeds
    for trial in found["kinds"].values():
        assert trial["stages"][-1]["steps"] == 2 and trial["stages"][-1]["images"] == 4
        assert trial["seconds"] > 0 and trial["disk"] > 0 and trial["memory"]["cpu"] > 0
    assert found["teacher_seconds"] > 0 and not (tmp_path / "grid/teacher").exists()
    assert told[-1].startswith("2 cells: ") and not (tmp_path / "grid/cells").exists()
    unequal = Matrix(**table(tmp_path / "grid", methods=["cat", "longer"], method={**CAT, "longer": longer}))
    with pytest.raises(
        ValueError, match=r"the student of .* would see . images in . steps, the others . in .: remove"
    ):
        compare(unequal, dry_run=True, only="[cl]*", tell=told.append)
