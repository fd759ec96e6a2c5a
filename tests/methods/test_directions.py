"""A method that makes the students of both directions at once, and what each direction's folder then holds."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from ganshrink import methods
from ganshrink.graph import trace
from ganshrink.methods.base import Job, MethodConfig, Result
from ganshrink.methods.uniform import UniformConfig
from ganshrink.pruning import extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly
from ganshrink.reports import write_report
from ganshrink.reports.files import read_run
from ganshrink.training import Taps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.train import fit_nets
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import Recipe, read_recipe, resolve
from ganshrink.workflow.verbs import evaluate_run, load_networks
from tiny_recipe import made_of, stages, tiny_cycle

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]  # folders of both ways: workflow/test_compress.py

WAYS = {"AtoB": "G_A", "BtoA": "G_B"}
BUDGETS = {"AtoB": "macs=60%", "BtoA": "macs=30%,params=50%"}


class TwinsConfig(MethodConfig):
    both_ways: ClassVar[bool] = True

    name: str = "twins"


def twins(run: Run, job: Job, config: TwinsConfig) -> Result:
    """Extracts of both teachers, finetuned for a step in one cycle while the teachers look on."""
    assert job.back is not None
    jobs = {"G_A": job, "G_B": job.back}
    channels = {name: trace(each.build(), *each.example) for name, each in jobs.items()}
    plans = {
        name: bisect_threshold(channels[name], evenly(channels[name]), each.budget, floor=1)
        for name, each in jobs.items()
    }
    trained = {name: each.teacher() for name, each in jobs.items()}
    teachers = {name: nets["G"] for name, nets in trained.items()}
    students = {name: extract(teachers[name], channels[name], plans[name]) for name in jobs}

    def finetune(stage: Stage) -> Artefacts:
        task = job.task.with_teachers(teachers)
        judges = {"D_A": trained["G_A"]["D"], "D_B": trained["G_B"]["D"]}
        tapped = {"G_A": students["G_A"], "teacher_A": teachers["G_A"], "G_B": students["G_B"]}
        taps = {name: Taps(network, ["down"]) for name, network in tapped.items()}

        def caught(context):
            features = [way.features("G")["down"] for way in context.ways.values()]
            return {
                "G_size": sum(found.square().mean() for found in features),
                "G_dist": (context.ways["G_B"].fake - context.ways["G_B"].taught).abs().mean(),
            }

        fit_nets(stage, students | judges, task, job.data, job.training, terms=[caught], taps=taps)
        for each in taps.values():
            each.close()
        return {name: network.state_dict() for name, network in students.items()}

    budgets = {name: str(each.budget) for name, each in jobs.items()}
    weights = run.stage("distill", finetune, made_from={"budgets": budgets, **job.describe()})
    for name, student in students.items():
        student.load_state_dict(weights[name])
    return Result(students, plans, channels, teachers)


@pytest.fixture(autouse=True)
def with_twins(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "twins", twins)


def both(folder: Path, domains: dict, **tables) -> dict:
    raw = tiny_cycle(folder, domains | {"direction": "both"}, student={"max_steps": 1}, **tables)
    return raw | {"budget": BUDGETS, "method": "twins"}


def noted_in(folder: Path) -> Recipe:
    return read_recipe(folder / "recipe.toml")


def test_a_method_that_makes_both_students_leaves_a_whole_run_for_each(tmp_path, domains):
    raw = both(tmp_path, domains, scratch=True)
    outcome = compress_recipe(resolve(raw), progress=False)
    assert outcome.path == tmp_path / "AtoB"
    assert set(stages(tmp_path)) == {"teacher", "distill"}
    assert not (tmp_path / "student.safetensors").exists()
    trained = {name: load_file(tmp_path / f"stages/teacher/{name}.safetensors") for name in WAYS.values()}
    made = {name: load_file(tmp_path / f"stages/distill/{name}.safetensors") for name in WAYS.values()}
    for way, name in WAYS.items():
        folder = tmp_path / way
        assert set(stages(folder)) == {"scratch"}
        assert made_of(folder) == ["../stages/teacher", "../stages/distill", "stages/scratch"]
        assert [stage.name for stage in read_run(folder).stages] == ["teacher", "distill", "scratch"]
        files = {path.name for path in folder.iterdir()}
        assert {"report.html", "metrics.json", "plan.json", "samples", "env.json"} <= files
        kept = {net: found.state_dict() for net, found in load_networks(folder).items()}
        assert kept.keys() == {"teacher", "student", "scratch"}
        for net, expected in (("teacher", trained[name]), ("student", made[name])):
            assert all(torch.equal(kept[net][key], tensor) for key, tensor in expected.items())
        cost = json.loads((folder / "cost.json").read_text())
        assert cost["budget"]["given"] == BUDGETS[way]
        for kind, limit in cost["budget"]["resolved"].items():
            spent = cost["student"]["macs"]["exact"] if kind == "macs" else cost["student"][kind]
            assert spent <= limit
        noted = noted_in(folder)
        assert (noted.direction, noted.budget, noted.run) == (way, BUDGETS[way], folder)
    smaller, larger = (load_networks(tmp_path / way)["student"] for way in ("BtoA", "AtoB"))
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in larger.parameters())
    assert noted_in(tmp_path).budget == BUDGETS

    # The folder of both is no run to look at.
    for verb in (evaluate_run, write_report):
        with pytest.raises((FileNotFoundError, ValueError)) as error:
            verb(tmp_path)
        [line] = str(error.value).splitlines()
        assert f"{tmp_path / 'AtoB'} or {tmp_path / 'BtoA'}" in line
    assert not (tmp_path / "report.html").exists()

    # The same call does nothing again.
    before = [stages(folder) for folder in (tmp_path, tmp_path / "AtoB", tmp_path / "BtoA")]
    compress_recipe(resolve(raw), progress=False)
    assert [stages(folder) for folder in (tmp_path, tmp_path / "AtoB", tmp_path / "BtoA")] == before


def test_what_one_direction_is_refused_for_costs_no_work_of_the_other(tmp_path, domains):
    for budget, words in (
        ({"BtoA": "mac=30%"}, "budget 'mac=30%' must be KIND=AMOUNT"),
        ({"BtoA": "macs=0.01%"}, "cannot be met"),
    ):
        raw = both(tmp_path, domains) | {"budget": BUDGETS | budget}
        with pytest.raises(ValueError, match=words):
            compress_recipe(resolve(raw), progress=False)
    assert not list(tmp_path.rglob("done.json")) and not list(tmp_path.rglob("recipe.toml"))


def test_in_one_direction_such_a_method_makes_one_student(tmp_path, domains, monkeypatch):
    monkeypatch.setattr(UniformConfig, "both_ways", True)
    raw = tiny_cycle(tmp_path, domains | {"direction": "BtoA"}, student={"max_steps": 0})
    outcome = compress_recipe(resolve(raw | {"method": "uniform"}), progress=False)
    assert outcome.path == tmp_path
    assert made_of(tmp_path) == ["stages/teacher", "stages/narrow"]
