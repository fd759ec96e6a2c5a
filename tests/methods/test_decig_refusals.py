"""What DECIG refuses, with which words and how early; what its stages depend on; and keys of earlier versions."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny_decig as roads
import tiny_dmad as tiny
from torch import nn

from ganshrink.methods.base import Job
from ganshrink.methods.decig import decig
from ganshrink.training.stages import Run
from ganshrink.workflow.recipe import resolve


def refusal(folder: Path, work: Job, **changes: Any) -> str:
    """Before the teacher is asked for, and before anything is trained."""
    with pytest.raises(ValueError) as error:
        decig(Run(folder), roads.untaught(work), roads.config(**changes))
    assert "\n" not in str(error.value) and roads.begun(folder) == {}
    return str(error.value)


UNREACHABLE = r"the budget macs=.* cannot be met; the smallest reachable cost is macs="
NO_GROUP = "a hinge is set by hand for 1, which is no group that may be cut"


def wide() -> nn.Module:
    """Of 64 channels 5 % are 4."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1))


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (lambda: tiny.both("macs=60%", "macs=2%"), {}, f"^G_B: {UNREACHABLE}"),
        (lambda: roads.short(budget="macs=30%"), {"floor": 8}, UNREACHABLE),
        (lambda: roads.short(budget="macs=30%"), {"round_to": 8}, UNREACHABLE),
        (lambda: roads.short(wide, budget="macs=3%"), {}, UNREACHABLE),
        (lambda: roads.short(budget="macs=30%"), {"hinges": {"0": 8, "3": 6, "7": 8}}, UNREACHABLE),
        (roads.short, {"hinges": {"1": 4}}, NO_GROUP),
        (roads.short, {"hinges": {"0": 9}}, "the hinge set by hand for 0 is 9; it must be from 1 to 8"),
        (lambda: roads.short(task=tiny.pix2pix(lambda_recon=0)), {}, "L_l1 is 0 with task.lambda_recon = 0"),
        (lambda: roads.short(task=tiny.cyclegan(lambda_cycle=0)), {}, "L_l1 is 0 with task.lambda_cycle = 0"),
        (lambda: roads.short(max_steps=0), {}, "DECIG condenses while it trains: set"),
    ],
    ids=["back", "floor", "round_to", "5 %", "hinges", "no group", "hinge", "pix2pix", "cyclegan", "steps"],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(tmp_path, make, changes, words):
    assert re.search(words, refusal(tmp_path, make(), **changes))


@pytest.mark.slow
def test_a_finished_training_is_taken_up_where_what_is_cut_stays_the_same(tmp_path):
    for changes in ({"sensitivity": 0}, {"sensitivity": 0, "calibration_images": 3}):
        run = Run(tmp_path)
        decig(run, roads.taught_in(run, roads.short(max_steps=1), 7), roads.config(**changes))
    assert roads.begun(tmp_path) == {"teacher": 1, "condense": 1, "cut": 2, "finetune": 1}


@pytest.mark.parametrize(("kind", "times"), [("pix2pix", 1), ("image2image", 2)])
def test_stage_one_sees_a_teacher_only_where_its_images_are_all_there_is_to_learn(tmp_path, kind, times):
    work = roads.steps(roads.ROADS[kind][0](), 0)
    if work.task.needs_teacher:
        work = roads.replace(work, task=work.task.as_student_task(work.teacher()["G"]))
    for seed in (7, 8):
        run = Run(tmp_path)
        run.stage("teacher", lambda stage: {}, made_from={"seed": seed})
        roads.condensed(run, work, roads.config())
    assert roads.begun(run.path) == {"teacher": 2, "condense": times}


def test_keys_of_earlier_versions_go_to_the_tables_of_their_stages():
    old = {"shape": "uniform", "ratio": 1, "hinges": {"0": 5}, "floor": 2, "lambda_kd": 7}
    tables = {"condense": {"shape": "uniform", "ratio": 1}, "cut": {"hinges": {"0": 5}, "floor": 2}}
    new = tables | {"finetune": {"lambda_kd": 7}}
    read = [resolve({"net": "resnet6", "method": {"name": "decig"} | keys}).method for keys in (old, new)]
    assert read[0] == read[1] == roads.config(**old)
