"""What a dry run promises: the same stages with the same steps and images as the run itself, and nothing left behind."""

from pathlib import Path

import pytest

from ganshrink.methods import METHODS
from ganshrink.training.config import FitConfig
from ganshrink.training.trial import STEPS, Trial
from ganshrink.workflow.dry_run import dry_run
from ganshrink.workflow.recipe import resolve
from telling import rest_exhaustive
from tiny_recipe import tiny

OWN = {  # what so small a recipe needs
    "cat": {"search": {"floor": 2}},
    "gan_slimming": {"distance": "mse"},
    "ugc": {"extra_blocks": 0, "search_images": 2, "lambda_style": 0, "lambda_feature": 0},
}


def test_a_trial_extrapolates_the_pace_of_all_steps_but_the_first(tmp_path):
    events = tmp_path / "distill/events.jsonl"
    events.parent.mkdir()
    events.write_text('{"time": 5.0}\n{"time": 6.0}\n{"time": 8.0}\n')
    trial = Trial(longer={"search": 10.0})
    assert trial.shortened(FitConfig(epochs=3)).max_steps == STEPS
    assert trial.shortened(FitConfig(max_steps=2)).max_steps == 2
    trial.note_training(events, steps=100, images=4)
    trial.note("distill", 99.0)  # the same stage: its steps alone count
    trial.note("search", 2.0)
    found = {stage.name: (stage.seconds, stage.steps, stage.images) for stage in trial.stages}
    assert found == {"distill": (150.0, 100, 400), "search": (20.0, 0, 0)}


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", rest_exhaustive(METHODS, lambda name: name in ("dmad", "ugc")))
def test_every_method_has_a_trial_with_a_student_as_long_as_the_recipe_says(method, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = {"name": method, **OWN.get(method, {})}
    tables = {"budget": "macs=90%", "teacher": {"epochs": 9, "decay_epochs": 1}}
    recipe = resolve(tiny(tmp_path / "run", method=settings, **tables))
    found = dry_run(recipe)
    trained = [stage for stage in found["stages"] if "steps" in stage]
    assert trained[0]["name"] == "teacher"
    assert {trained[0]["steps"], trained[-1]["steps"]} == {20} and trained[-1]["images"] == 40
    assert found["seconds"] >= sum(stage["seconds"] for stage in found["stages"])
    assert list(Path(tmp_path).glob("ganshrink*")) == []
