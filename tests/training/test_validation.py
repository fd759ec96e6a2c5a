"""Scores while a network is trained: they change nothing, survive a stop, and say which weights were best."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_recipe import tiny
from tests.training.tiny_training import Pairs, make_nets

from ganshrink.data import DataConfig, TensorPairs, hold_out
from ganshrink.data.held_out import apart
from ganshrink.data.passes import all_batches
from ganshrink.data.splits import has_val
from ganshrink.metrics import MetricsConfig, build, evaluate
from ganshrink.reports import files as reported
from ganshrink.reports.curves import loss_curves
from ganshrink.reports.numbers import score
from ganshrink.training.stages import Stage
from ganshrink.training.tasks import TASKS
from ganshrink.training.train import Training, fit_nets
from ganshrink.training.validation import Validation
from ganshrink.workflow.recipe import resolve
from ganshrink.workflow.validation import validation_of


def held():
    images = Pairs(6).images
    return TensorPairs([(image, -image) for image in images])


def train(folder, steps=5, lr=0.02, **settings):
    torch.manual_seed(0)
    task = TASKS["pix2pix"](TASKS["pix2pix"].Config(ndf=4, d_layers=1, lr=lr))
    nets = task.nets(make_nets()["G"], 3, 3)
    how = Training(max_steps=steps, accelerator="cpu", batch_size=2, log_every=1, **settings)
    validation = Validation(held(), MetricsConfig())
    fit_nets(Stage(folder, ""), nets, task, Pairs(), how, validation=validation, progress=False)
    return nets


def told(folder):
    return json.loads((folder / "validation.json").read_text())


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def saved(folder):
    """Everything in a checkpoint that is trained, flat."""
    content = torch.load(folder / "checkpoint.pt")
    states = [content["nets"][name] for name in ("D", "G")]
    kept = [entry for optimizer in content["optimizers"] for entry in optimizer["state"].values()]
    return {f"{i}.{key}": value for i, state in enumerate(states + kept) for key, value in state.items()}


@pytest.mark.exhaustive
def test_a_training_that_is_validated_makes_the_same_steps(tmp_path):
    network, plain = train(tmp_path / "on", validate_every=2)["G"], train(tmp_path / "off")["G"]
    assert same(saved(tmp_path / "on"), saved(tmp_path / "off"))
    assert same(network.state_dict(), plain.state_dict())
    assert not (tmp_path / "off/validation.json").exists()
    found = told(tmp_path / "on")
    [metric] = build(MetricsConfig(names=("psnr",)))
    value = evaluate(network, all_batches(held(), 8), [metric])["psnr"].value
    assert [step for step, _ in found["curve"]] == [2, 4, 5] and found["metric"] == "psnr"
    assert found["last"] == {"step": 5, "value": value} and found["kept"] == "last"
    lines = [json.loads(line) for line in (tmp_path / "on/events.jsonl").read_text().splitlines()]
    logged = [[line["step"], line["watched"]["val_psnr"]] for line in lines if "watched" in line]
    assert logged == found["curve"]
    [shown] = loss_curves([reported.Stage("teacher", {}, lines, found)])
    assert "val_psnr" in [term["name"] for term in shown["terms"]]
    assert f"psnr {score(value)} on held-out images, at best" in shown["summary"]


@pytest.mark.slow
def test_the_best_weights_are_kept_and_survive_a_stop(tmp_path):
    high: dict = {"lr": 0.5, "validate_every": 1}  # scores go up and down
    whole = train(tmp_path / "whole", 8, keep="best", **high)["G"]
    found = told(tmp_path / "whole")
    best = max(found["curve"], key=lambda point: point[1])
    assert found["best"] == {"step": best[0], "value": best[1]} and best[0] < 8, found["curve"]
    assert same(whole.state_dict(), load_file(tmp_path / "whole/G_best.safetensors"))
    [metric] = build(MetricsConfig(names=("psnr",)))
    assert evaluate(whole, all_batches(held(), 8), [metric])["psnr"].value == best[1]
    train(tmp_path / "stopped", best[0], **high)
    again = train(tmp_path / "stopped", 8, keep="best", **high)["G"]
    assert told(tmp_path / "stopped") == found and same(again.state_dict(), whole.state_dict())


def test_validation_may_begin_later_and_is_of_the_average_where_there_is_one(tmp_path):
    train(tmp_path, 3, ema=0.5)
    network = train(tmp_path, 5, ema=0.5, validate_every=1)["G"]
    found = told(tmp_path)
    [metric] = build(MetricsConfig(names=("psnr",)))
    assert [step for step, _ in found["curve"]] == [4, 5]
    assert found["last"]["value"] == evaluate(network, all_batches(held(), 8), [metric])["psnr"].value


def test_of_a_task_that_trains_both_ways_one_is_scored_and_both_are_kept(tmp_path):
    torch.manual_seed(0)
    task = TASKS["cyclegan"](TASKS["cyclegan"].Config(ndf=4, d_layers=1))
    nets = task.nets(make_nets()["G"], 3, 3)
    how = Training(max_steps=2, accelerator="cpu", validate_every=1)
    validation = Validation(held(), MetricsConfig(), direction="BtoA")
    fit_nets(Stage(tmp_path, ""), nets, task, Pairs(), how, validation=validation, progress=False)
    [metric] = build(MetricsConfig(names=("psnr",)))
    scored = evaluate(nets["G_B"], all_batches(held(), 8), [metric])["psnr"].value
    assert told(tmp_path)["last"]["value"] == scored
    assert {file.name for file in tmp_path.glob("*_best*")} == {
        "G_A_best.safetensors",
        "G_B_best.safetensors",
    }


def test_only_keeping_the_best_decides_what_comes_out():
    off, on = Training(), Training(validate_every=9, validate_by="ssim")
    kept = Training(validate_every=9, keep="best")
    assert on.decisive() == off.decisive() == kept.for_search().decisive()
    assert kept.decisive() == off.decisive() | {"keep": "best", "validate_every": 9, "validate_by": None}
    with pytest.raises(ValueError, match="need scores: set validate_every"):
        Training(keep="best")


def test_images_that_are_scored_are_not_trained_on(tmp_path):
    recipe = resolve(tiny(tmp_path, student={"validate_every": 1}), source="test")
    images = hold_out(held())[0]
    trained, validation = validation_of(recipe, images, recipe.student)
    assert trained is images and len(validation.images) == 2  # the val images of the drawn facades
    for scored in ({"data": None}, {"metrics": recipe.metrics.model_copy(update={"split": "val"})}):
        rest, validation = validation_of(recipe.model_copy(update=scored), images, recipe.student)
        assert sorted(rest.indices + validation.images.indices) == list(range(len(images)))
        assert len(validation.images) == 1 and rest.fingerprint() != images.fingerprint()
    with pytest.raises(ValueError, match="none of psnr_teacher can be computed here: there is no teacher"):
        Validation(held(), MetricsConfig()).metric("psnr_teacher")
    images.paired = False
    with pytest.raises(ValueError, match="add the folders valA and valB"):
        apart(images, seed=0)


def test_a_split_val_is_one_that_nothing_else_takes(tmp_path):
    def config(places):
        for place in places:
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
        return DataConfig(name="paired", root=str(tmp_path / str(len(places))))

    assert has_val(config(["3/train", "3/val", "3/test"]))
    assert not has_val(config(["2/train", "2/val"]))  # which is the test
    assert not has_val(config(["1/train"]))
    assert not has_val(
        DataConfig(name="photos", photos=str(tmp_path))
    )  # a tenth is the test, and would be val
