"""What DECIG refuses, with which words and how early; what makes a stage be done again; and its way through a recipe."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_decig as roads
import tiny_dmad as tiny
from torch import nn
from typer.testing import CliRunner

from ganshrink.cli.main import app
from ganshrink.methods.base import Job
from ganshrink.methods.decig import DecigConfig, decig
from ganshrink.training.stages import Run
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import read_recipe

# What is refused


def refusal(folder: Path, work: Job, **changes: Any) -> str:
    with pytest.raises(ValueError) as error:
        decig(Run(folder), work, DecigConfig(**changes))
    assert "\n" not in str(error.value)
    return str(error.value)


UNREACHABLE = r"the budget macs=.* cannot be met; the smallest reachable cost is macs="


def wide() -> nn.Module:
    """Of 64 channels 5 % are 4."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1))


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (lambda: roads.short(budget="macs=2%"), {}, f"^G: {UNREACHABLE}"),
        (lambda: tiny.both("macs=60%", "macs=2%"), {}, f"^G_B: {UNREACHABLE}"),
        (lambda: roads.short(budget="macs=30%"), {"floor": 8}, UNREACHABLE),
        (lambda: roads.short(budget="macs=30%"), {"round_to": 8}, UNREACHABLE),
        (lambda: roads.short(wide, budget="macs=3%"), {}, UNREACHABLE),
        (lambda: roads.short(budget="macs=30%"), {"hinges": {"0": 8, "3": 6, "7": 8}}, UNREACHABLE),
        (
            roads.short,
            {"hinges": {"1": 4}},
            "a hinge is set by hand for 1, which is no group that may be cut",
        ),
        (roads.short, {"hinges": {"0": 9}}, "the hinge set by hand for 0 is 9; it must be from 1 to 8"),
    ],
    ids=["budget", "back", "floor", "round_to", "5 %", "hinges", "unknown hinge", "hinge"],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(tmp_path, make, changes, words):
    assert re.search(words, refusal(tmp_path, roads.untaught(make()), **changes))
    assert roads.begun(tmp_path) == {}


LOSSES = {
    "pix2pix": lambda: roads.short(task=tiny.pix2pix(lambda_recon=0)),
    "cyclegan": lambda: roads.short(task=tiny.cyclegan(lambda_cycle=0)),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_without_an_l1_term_there_is_no_alpha(tmp_path, kind):
    assert "L_l1 is 0" in refusal(tmp_path, LOSSES[kind]())


@pytest.mark.parametrize("kind", LOSSES)
def test_without_an_l1_term_it_is_refused_before_the_teacher_is_trained(tmp_path, kind):
    refusal(tmp_path, roads.untaught(LOSSES[kind]()))


# What is done again


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    run = Run(folder)
    decig(run, roads.taught_in(run, roads.short(max_steps=1), 7), DecigConfig())
    return folder


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, set()),
        ({"lambda_kd": 20}, {"finetune"}),
        ({"sensitivity": 0.01}, {"hinges"}),  # what is cut stays the same
        ({"hinges": {"0": 7}}, {"hinges", "finetune"}),
        ({"budget": "macs=90%"}, {"hinges", "finetune"}),
        ({"ratio": 0.01}, {"condense", "hinges", "finetune"}),
        ({"make": roads.plain}, {"condense", "hinges", "finetune"}),
        ({"max_steps": 2}, {"condense", "hinges", "finetune"}),
    ],
    ids=["nothing", "distance", "sensitivity", "hinges", "budget", "ratio", "network", "steps"],
)
def test_a_stage_is_done_again_if_what_it_is_made_from_changed(once, tmp_path, change, again):
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    of_job = {name: change[name] for name in ("make", "budget", "max_steps") if name in change}
    settings = {name: value for name, value in change.items() if name not in of_job}
    run = Run(tmp_path)
    decig(run, roads.taught_in(run, roads.short(**{"max_steps": 1} | of_job), 7), DecigConfig(**settings))
    assert {name for name, times in roads.begun(tmp_path).items() if times > 1} == again


def test_stage_one_sees_a_teacher_only_where_its_images_are_all_there_is_to_learn(once, tmp_path):
    shutil.copytree(once, tmp_path / "pix2pix")
    run = Run(tmp_path / "pix2pix")
    decig(run, roads.taught_in(run, roads.short(max_steps=1), 8), DecigConfig())
    assert (roads.begun(run.path)["teacher"], roads.begun(run.path)["condense"]) == (2, 1)
    run = Run(tmp_path / "image2image")
    for seed in (7, 8):
        decig(run, roads.taught_in(run, roads.own_images(max_steps=1), seed), DecigConfig())
    assert roads.begun(run.path) == {"teacher": 2, "condense": 2, "hinges": 2, "finetune": 2}


def test_a_first_stage_of_an_earlier_version_is_taken_up(once, tmp_path):
    """It did not keep how large layers were at its start."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    record = tmp_path / "stages/condense/done.json"
    done = json.loads(record.read_text())
    done["artefacts"].remove("start.json")
    record.write_text(json.dumps(done))
    shutil.rmtree(tmp_path / "stages/hinges")
    run = Run(tmp_path)
    result = decig(run, roads.taught_in(run, roads.short(max_steps=1), 7), DecigConfig())
    assert roads.begun(tmp_path) == {"teacher": 1, "condense": 1, "hinges": 1, "finetune": 1}
    assert result.hinges["G"]["layers"]


# Recipes and the command line


def test_the_quick_recipe_goes_all_the_way(tmp_path):
    small = ["net.ngf=4", "task.ndf=4", "teacher.max_steps=2", "student.max_steps=2"]
    counts = "data.counts={train=4, val=2, test=2}"
    off = ["latency.enabled=false", "export.onnx=false", "metrics.names=['psnr_teacher']"]
    recipe = read_recipe(Path("recipes/decig/quick.toml"), [f"run={tmp_path}", counts, *small, *off])
    outcome = compress_recipe(recipe, progress=False)
    assert outcome.cost["student"]["macs"]["exact"] <= outcome.cost["budget"]["resolved"]["macs"]
    assert roads.begun(tmp_path) == {"teacher": 1, "condense": 1, "hinges": 1, "finetune": 1}
    assert (tmp_path / "student.safetensors").exists()
    assert 'id="hinges"' in (tmp_path / "report.html").read_text()
    plan, hinges = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plan", "hinges"))
    kept = {group["name"]: group["kept"] for group in plan["groups"] if group["frozen"] is None}
    assert {layer["name"]: layer["kept"] for layer in hinges["layers"]} == kept


def test_the_command_line_lists_it():
    listed = CliRunner().invoke(app, ["methods", "--json"])
    assert listed.exit_code == 0 and '"decig": "DECIG' in listed.stdout
