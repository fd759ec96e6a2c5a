"""Roads through a recipe that the quick one does not take, in process and as short as they can be."""

import json
import logging
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ganshrink.channels import Budget
from ganshrink.data import DataConfig, open_dataset, to_uint8
from ganshrink.finished import evaluate_run, export_run, load_networks
from ganshrink.pipeline import compress, compress_recipe, train_recipe
from ganshrink.recipe import read_recipe, resolve

RECIPES = sorted(Path("recipes").rglob("*.toml"))


def tiny(folder: Path, **tables) -> dict:
    raw = {
        "run": str(folder),
        "budget": "macs=60%",
        "net": {"name": "incres9", "ngf": 6, "blocks": 1},
        "data": {"size": 32, "counts": {"train": 4, "val": 2, "test": 2}},
        "task": {"name": "pix2pix", "ndf": 4},
        "method": {"name": "cat", "floor": 2},
        "teacher": {"epochs": 1, "decay_epochs": 0, "batch_size": 2, "accelerator": "cpu"},
        "export": {"onnx": False},
        "latency": {"enabled": False},
    }
    for table, values in tables.items():
        raw[table] = {**raw[table], **values} if isinstance(raw.get(table), dict) else values
    return raw


@pytest.fixture
def streets(tmp_path) -> dict:
    """A labelled data set of its own: three classes and void."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("photos", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(4):
            ids = np.kron(rng.integers(0, 4, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
            Image.fromarray(ids).save(tmp_path / "labels" / split / f"{i}.png")
            Image.fromarray((ids[..., None] * np.array([60, 30, 10])).astype(np.uint8)).save(
                tmp_path / "photos" / split / f"{i}.png"
            )
    paths = {kind: str(tmp_path / kind / "{split}") for kind in ("photos", "labels")}
    return {"name": "labelled", **paths, "num_classes": 4, "void": 3, "size": 32}


def test_labelled_data_with_pictures_inside_the_graph(tmp_path, streets):
    raw = tiny(tmp_path / "run", export={"onnx": True, "image_io": "uint8"}) | {"data": streets}
    outcome = compress_recipe(resolve(raw), progress=False)
    sample = open_dataset(DataConfig(**streets), "test").sample(0, None)["input"][None]
    session = onnxruntime.InferenceSession(str(tmp_path / "run/student.onnx"))
    assert session.get_inputs()[0].shape[1] == 4
    [made] = session.run(None, {"input": sample.numpy()})
    with torch.no_grad():
        expected = to_uint8(outcome.student(sample)[0])
    assert abs(made[0].transpose(1, 2, 0).astype(int) - expected.astype(int)).max() <= 1

    again = export_run(tmp_path / "run")["student.onnx"]
    assert again["image_io"] == "uint8" and again["max_abs_diff"] <= 1


def test_a_teacher_trained_first_is_the_one_that_compress_takes(tmp_path):
    train_recipe(resolve(tiny(tmp_path)), progress=False)
    first = load_file(tmp_path / "teacher.safetensors")
    stamp = (tmp_path / "stages/teacher/done.json").stat().st_mtime_ns
    compress_recipe(resolve(tiny(tmp_path)), progress=False)
    assert (tmp_path / "stages/teacher/done.json").stat().st_mtime_ns == stamp
    again = load_file(tmp_path / "teacher.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_teacher_can_be_loaded_with_or_without_its_discriminator(tmp_path, caplog):
    train_recipe(resolve(tiny(tmp_path / "a")), progress=False)
    weights = {name: str(tmp_path / f"a/stages/teacher/{name}.safetensors") for name in "GD"}
    loaded = {"weights": weights["G"], "max_steps": 0}
    with caplog.at_level(logging.WARNING):
        compress_recipe(resolve(tiny(tmp_path / "b", teacher=loaded)), progress=False)
    assert "came without its discriminator" in caplog.text
    compress_recipe(
        resolve(tiny(tmp_path / "c", teacher=loaded | {"discriminator": weights["D"]})), progress=False
    )
    kept, given = (load_file(p) for p in (tmp_path / "c/stages/distill/D.safetensors", weights["D"]))
    assert all(torch.equal(kept[name], given[name]) for name in given)
    with pytest.raises(ValueError, match=r"teacher.weights: .* does not fit: .* check \[net\]"):
        compress_recipe(resolve(tiny(tmp_path / "d", teacher=loaded, net={"ngf": 8})), progress=False)


def test_another_recipe_in_the_same_folder_leaves_nothing_of_the_first(tmp_path):
    compress_recipe(
        resolve(tiny(tmp_path, scratch=True, latency={"enabled": True, "seconds": 0.1})), progress=False
    )
    assert (tmp_path / "latency.json").exists() and (tmp_path / "scratch.safetensors").exists()
    compress_recipe(resolve(tiny(tmp_path, budget="macs=50%")), progress=False)
    assert not (tmp_path / "latency.json").exists() and "scratch" not in load_networks(tmp_path)
    assert json.loads((tmp_path / "cost.json").read_text())["budget"]["given"] == "macs=50%"
    assert "distill." not in (tmp_path / "report.html").read_text()


def test_a_refused_command_changes_nothing(tmp_path):
    compress_recipe(resolve(tiny(tmp_path)), progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for change in ({"budget": "macs=0.01%"}, {"metrics": {"names": ["miou"]}}, {"data": {"size": 30}}):
        with pytest.raises((ValueError, FileNotFoundError)):
            compress_recipe(resolve(tiny(tmp_path, **change)), progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nothing_is_reused_for_another_size(tmp_path):
    """The plan for 32 x 32 images is no plan for 64 x 64 ones under the same absolute budget."""
    train_recipe(resolve(tiny(tmp_path / "a")), progress=False)
    loaded = {"weights": str(tmp_path / "a/teacher.safetensors")}
    for size in (32, 64):
        raw = tiny(tmp_path / "b", teacher=loaded, data={"size": size}, budget="macs=1.5M")
        if size == 32:
            compress_recipe(resolve(raw), progress=False)
        else:
            with pytest.raises(ValueError, match="cannot be met"):
                compress_recipe(resolve(raw), progress=False)


def test_parameters_and_bytes_are_budgets_too_and_percentages_are_of_the_original(tmp_path):
    raw = tiny(tmp_path, budget="params=50%,macs=90%", net={"name": "resnet9", "ngf": 8, "blocks": 1})
    cost = compress_recipe(resolve(raw), progress=False).cost
    assert cost["budget"]["resolved"]["params"] == cost["teacher"]["params"] // 2
    assert cost["student"]["params"] <= cost["teacher"]["params"] // 2
    assert Budget.parse("bytes=2MB").numbers() == {"bytes": 2_000_000}


def test_a_scored_run_can_be_scored_again_on_other_images(tmp_path):
    compress_recipe(resolve(tiny(tmp_path)), progress=False)
    again = evaluate_run(tmp_path, ["metrics.split=val", "metrics.names=['psnr_teacher']"])
    assert list(again["student"]) == ["psnr_teacher"]
    assert again["student"]["psnr_teacher"]["protocol"]["split"] == "val"
    with pytest.raises(ValueError, match="not 'student'"):
        evaluate_run(tmp_path, ["student.epochs=3"])


def test_compress_takes_the_settings_of_a_data_set(tmp_path):
    from ganshrink import nets

    model = nets.build("incres9", ngf=6, blocks=1)
    raw = tiny(tmp_path)
    settings = {key: raw[key] for key in ("export", "latency")} | {"student": raw["teacher"]}
    outcome = compress(
        model,
        torch.zeros(1, 3, 32, 32),
        raw["data"],
        raw["method"],
        "macs=60%",
        raw["task"],
        run=tmp_path,
        progress=False,
        **settings,
    )
    assert (
        outcome.metrics["student"]["psnr"]["protocol"] | {"split": "test", "images": 2}
        == outcome.metrics["student"]["psnr"]["protocol"]
    )
    with pytest.raises(ValueError, match="data.sise: unknown key; did you mean 'size'"):
        compress(model, torch.zeros(1, 3, 32, 32), {"sise": 3}, run=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem != "quick"], ids=str)
def test_every_recipe_takes_two_steps(path, tmp_path, streets):
    """With the recipe's own networks, task and method; where its images are not shipped, on images of the same kind."""
    small = ["teacher.max_steps=1", "student.max_steps=1", "latency.enabled=false", "export.onnx=false"]
    recipe = read_recipe(
        path, [f"run={tmp_path / 'run'}", *small, "metrics.names=['psnr']", "metrics.limit=2"]
    )
    if recipe.data.name == "labelled":
        data = DataConfig(**streets | {"size": recipe.data.size})
        recipe = recipe.model_copy(update={"data": data})
    outcome = compress_recipe(recipe, progress=False)
    assert np.isfinite(outcome.metrics["student"]["psnr"]["value"])
