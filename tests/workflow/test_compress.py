"""Roads through a recipe that the quick one does not take, in process and as short as they can be."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ganshrink import nets
from ganshrink.data import DataConfig, open_dataset, to_uint8
from ganshrink.metrics.squeezenet import SqueezeNet
from ganshrink.metrics.vgg import VGG, VGG19_NORMALISED
from ganshrink.pruning import Budget
from ganshrink.reports.files import read_run
from ganshrink.training.stages import Run
from ganshrink.workflow.compress import compress, compress_recipe, train_recipe
from ganshrink.workflow.outputs import write_export
from ganshrink.workflow.recipe import NetConfig, Recipe, read_recipe, resolve
from ganshrink.workflow.scoring import score
from ganshrink.workflow.verbs import evaluate_run, export_run, load_networks
from telling import rest_exhaustive
from tiny_recipe import done, made_of, stages, tiny, tiny_cycle

pytestmark = pytest.mark.slow

RECIPES = sorted(Path("recipes").rglob("*.toml"))
# each method takes its steps in test_examples.py
TOLD = {
    "cat/cartoongan-photos",
    "papers/gan_slimming/zebra2horse-gs8",
}


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run with a network from scratch beside the student."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    compress_recipe(resolve(tiny(folder, scratch=True)), progress=False)
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.exhaustive  # pictures in a file: exporters/test_onnx.py
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


@pytest.mark.exhaustive
def test_a_teacher_trained_first_is_the_one_that_compress_takes(tmp_path):
    train_recipe(resolve(tiny(tmp_path)), progress=False)
    first = load_file(tmp_path / "teacher.safetensors")
    stamp = (tmp_path / "stages/teacher/done.json").stat().st_mtime_ns
    compress_recipe(resolve(tiny(tmp_path)), progress=False)
    assert (tmp_path / "stages/teacher/done.json").stat().st_mtime_ns == stamp
    again = load_file(tmp_path / "teacher.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.exhaustive
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


def test_another_recipe_in_the_same_folder_leaves_nothing_of_the_first(copied):
    (copied / "latency.json").write_text("{}")  # as if it had been timed
    assert (copied / "scratch.safetensors").exists()
    compress_recipe(resolve(tiny(copied, budget="macs=50%")), progress=False)
    assert not (copied / "latency.json").exists() and "scratch" not in load_networks(copied)
    assert json.loads((copied / "cost.json").read_text())["budget"]["given"] == "macs=50%"
    aside = [path.name for path in (copied / "stages").iterdir() if "." in path.name]
    assert aside and not any(name in (copied / "report.html").read_text() for name in aside)
    assert (copied / "stages/scratch").exists()  # kept, but no part of this result
    assert made_of(copied) == ["stages/teacher", "stages/search", "stages/distill"]
    assert [stage.name for stage in read_run(copied).stages] == ["teacher", "search", "distill"]


def test_a_refused_command_changes_nothing(copied):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    for change in (
        {"budget": "macs=0.01%"},
        {"metrics": {"names": ["miou"]}},
        {"data": {"size": 30}},
        {"task": {"name": "image2image"}},
        {"teacher": {"weights": "none.safetensors"}},
    ):
        with pytest.raises((ValueError, FileNotFoundError)):
            compress_recipe(resolve(tiny(copied, **change)), progress=False)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_parameters_and_bytes_are_budgets_too_and_percentages_are_of_the_original(tmp_path):
    raw = tiny(tmp_path, budget="params=50%,macs=90%", net={"name": "resnet9", "ngf": 8, "blocks": 1})
    cost = compress_recipe(resolve(raw), progress=False).cost
    assert cost["budget"]["resolved"]["params"] == cost["teacher"]["params"] // 2
    assert cost["student"]["params"] <= cost["teacher"]["params"] // 2
    assert Budget.parse("bytes=2MB").numbers() == {"bytes": 2_000_000}


def test_a_scored_run_can_be_scored_again_on_other_images(copied):
    first = json.loads((copied / "metrics.json").read_text())
    again = evaluate_run(copied, ["metrics.split=val", "metrics.names=['psnr_teacher']"])
    seen = {v["protocol"]["data"] for scores in first.values() for v in scores.values()}
    held_out, val = (open_dataset(resolve(tiny(copied)).data, split) for split in ("test", "val"))
    assert seen == {held_out.fingerprint()[:12]}
    assert again["student"]["psnr_teacher"]["protocol"]["data"] == val.fingerprint()[:12] not in seen
    assert list(again["student"]) == ["psnr_teacher"]
    assert again["student"]["psnr_teacher"]["protocol"]["split"] == "val"
    with pytest.raises(ValueError, match="not 'student'"):
        evaluate_run(copied, ["student.epochs=3"])


@pytest.mark.exhaustive
def test_compress_takes_the_settings_of_a_data_set(tmp_path):
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


@pytest.mark.exhaustive
def test_both_directions_share_one_teacher_and_each_student_has_its_own_generator(tmp_path, domains):
    raw = tiny_cycle(tmp_path / "run", domains, data={"direction": "both"})
    outcome = compress_recipe(resolve(raw), progress=False)
    assert outcome.path == tmp_path / "run/AtoB"
    first = stages(tmp_path / "run")
    assert list(first) == ["teacher"]
    trained = {
        name: load_file(tmp_path / f"run/stages/teacher/{name}.safetensors") for name in ("G_A", "G_B")
    }
    for way, generator in (("AtoB", "G_A"), ("BtoA", "G_B")):
        folder = tmp_path / "run" / way
        assert set(stages(folder)) == {"search", "distill"}
        assert made_of(folder) == ["../stages/teacher", "stages/search", "stages/distill"]
        kept = load_networks(folder)["teacher"].state_dict()  # what taught, scored and is shown
        assert all(torch.equal(kept[name], tensor) for name, tensor in trained[generator].items())
        assert f'direction = "{way}"' in (folder / "recipe.toml").read_text()
        assert (folder / "report.html").exists() and (folder / "student.safetensors").exists()
    assert (
        done(tmp_path / "run/AtoB", "distill")["after"]["teacher"] == done(tmp_path / "run", "teacher")["key"]
    )
    inputs = {
        way: len(json.loads((tmp_path / f"run/{way}/samples/samples.json").read_text())["rows"])
        for way in ("AtoB", "BtoA")
    }
    assert inputs == {"AtoB": 5, "BtoA": 3}


@pytest.mark.exhaustive  # which setting redoes which stage: tests/methods/test_contract.py
def test_one_direction_alone_has_the_teacher_of_both_and_students_settings_are_not_its(tmp_path, domains):
    train_recipe(resolve(tiny_cycle(tmp_path / "run", domains)), progress=False)
    first = stages(tmp_path / "run")
    trained = load_file(tmp_path / "run/stages/teacher/G_B.safetensors")
    one_way = tiny_cycle(tmp_path / "run", domains, data={"direction": "BtoA"}, task={"lambda_recon": 7})
    train_recipe(resolve(one_way), progress=False)
    assert stages(tmp_path / "run") == first
    saved = load_file(tmp_path / "run/teacher.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in trained.items())
    train_recipe(resolve(tiny_cycle(tmp_path / "run", domains, task={"lambda_cycle": 5})), progress=False)
    assert stages(tmp_path / "run")["teacher"] != first["teacher"]


@pytest.mark.exhaustive
def test_the_student_of_the_way_back_is_taught_by_the_generator_and_judge_of_the_way_back(tmp_path, domains):
    raw = tiny_cycle(tmp_path, domains, data={"direction": "BtoA"}, student={"max_steps": 0})
    compress_recipe(resolve(raw), progress=False)
    inherited, trained = (
        load_file(tmp_path / f"stages/{name}.safetensors") for name in ("distill/D", "teacher/D_B")
    )
    assert all(torch.equal(inherited[name], trained[name]) for name in trained)
    assert {path.stem for path in (tmp_path / "stages/teacher").glob("*.safetensors")} == {
        "G_A",
        "G_B",
        "D_A",
        "D_B",
    }


@pytest.mark.exhaustive
def test_unpaired_images_are_scored_beside_the_input_itself(tmp_path, domains, monkeypatch):
    torch.manual_seed(0)
    save_file(dict(SqueezeNet().state_dict()), tmp_path / "squeezenet11_features.safetensors")
    monkeypatch.setenv("GANSHRINK_WEIGHTS", str(tmp_path))
    metrics = {"names": ["kd_squeezenet", "psnr_teacher"]}
    raw = tiny_cycle(tmp_path / "run", domains, metrics=metrics, scratch=True)
    scores = compress_recipe(resolve(raw), progress=False).metrics
    assert {name: list(found) for name, found in scores.items()} == {
        "identity": ["kd_squeezenet", "psnr_teacher"],
        "mean": ["kd_squeezenet", "psnr_teacher"],
        "untrained": ["kd_squeezenet", "psnr_teacher"],
        "teacher": ["kd_squeezenet"],
        "student": ["kd_squeezenet", "psnr_teacher"],
        "scratch": ["kd_squeezenet", "psnr_teacher"],
    }
    identity = scores["identity"]["kd_squeezenet"]
    assert (identity["protocol"]["images"], identity["protocol"]["targets"]) == (5, 3)
    by_itself = score(torch.nn.Identity(), open_dataset(DataConfig(**domains), "test"), ["kd_squeezenet"])
    assert identity["value"] == pytest.approx(by_itself["kd_squeezenet"].value, rel=1e-9)

    again = evaluate_run(tmp_path / "run", ["metrics.names=['psnr_teacher']"])
    assert list(again) == ["identity", "mean", "untrained", "teacher", "student", "scratch"]
    with pytest.raises(ValueError, match="metrics.names: psnr needs a target image for each input"):
        evaluate_run(tmp_path / "run", ["metrics.names=['psnr']"])


def tiny_photos(folder: Path, domains: dict, teacher: Path | None, **tables) -> dict:
    raw = tiny_cycle(folder, domains, task={"name": "image2image"}, **tables)
    raw["data"] = {
        "name": "photos",
        "photos": [domains["root"] + "/{split}A", domains["root"] + "/{split}B"],
        "size": 16,
    }
    raw["teacher"] |= {} if teacher is None else {"weights": str(teacher)}
    return raw


@pytest.mark.exhaustive
def test_a_generator_that_is_its_own_teacher_needs_weights_and_pictures_alone(tmp_path, domains):
    with pytest.raises(ValueError, match="no trained weights: set teacher.weights") as error:
        compress_recipe(resolve(tiny_photos(tmp_path / "none", domains, None)), progress=False)
    assert "\n" not in str(error.value)
    train_recipe(resolve(tiny_cycle(tmp_path / "cycle", domains)), progress=False)
    weights = tmp_path / "cycle/teacher.safetensors"
    raw = tiny_photos(tmp_path / "run", domains, weights)
    outcome = compress_recipe(resolve(raw), progress=False)
    assert (
        list(outcome.metrics["student"]) == ["psnr_teacher", "ssim_teacher"]
        and outcome.metrics["teacher"] == {}
    )
    untouched = outcome.metrics["identity"]["psnr_teacher"]  # what the student has to beat
    low, high = untouched["interval"]
    assert low < untouched["value"] < high
    assert outcome.metrics["student"]["psnr_teacher"]["protocol"]["images"] == 8
    assert [path.stem for path in (tmp_path / "run/stages/distill").glob("*.safetensors")] == ["G"]
    rows = json.loads((tmp_path / "run/samples/samples.json").read_text())["rows"]
    assert rows[0].keys() == {"name", "input", "teacher", "student"}


@pytest.mark.exhaustive
def test_one_input_beside_more_targets_is_enough_to_compare_the_export_on(tmp_path, domains):
    for path in Path(domains["root"], "testA").glob("[1-4].png"):
        path.unlink()
    images = open_dataset(DataConfig(**domains), "test")
    assert (images.num_inputs, len(images)) == (1, 3)
    network, example = torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 16, 16)
    parity = write_export(Run(tmp_path / "run"), "onnx", network, example, images)
    assert parity["student.onnx"]["max_abs_diff"] < 1e-4


def test_a_task_on_data_that_are_not_its_own_is_refused(tmp_path, domains):
    """Pix2Pix would train on pictures that do not belong together, without an error."""
    photos = tiny_photos(tmp_path, domains, None)["data"]
    for task, data, words in (
        ("pix2pix", domains, "task pix2pix needs a target image for each input"),
        ("cyclegan", photos, "task cyclegan needs images of the target domain"),
    ):
        raw = tiny(tmp_path, task={"name": task}) | {"data": data}
        for command in (compress_recipe, train_recipe):
            with pytest.raises(ValueError, match=words):
                command(resolve(raw), progress=False)
        model = torch.nn.Conv2d(3, 3, 1)
        with pytest.raises(ValueError, match=words):
            compress(model, torch.zeros(1, 3, 16, 16), data, task=task, run=tmp_path)


def test_what_goes_one_way_is_not_asked_to_go_both(tmp_path, domains):
    both = domains | {"direction": "both"}
    for changes, words in (
        ({"task": {"name": "image2image"}}, "needs a task that goes both ways, image2image does not"),
        ({"teacher": {"weights": "x.safetensors"}}, "teacher.weights goes one way"),
    ):
        with pytest.raises(ValueError, match=words):
            compress_recipe(resolve(tiny_cycle(tmp_path, both, **changes)), progress=False)
    with pytest.raises(ValueError, match="'both' is for recipes"):
        compress(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 16, 16), both, task="cyclegan", run=tmp_path)


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> None:
    """The papers' data sets as they ship, of a few small pictures, where GANSHRINK_DATA says."""
    rng, root = np.random.default_rng(0), tmp_path / "shipped"
    city = {
        "leftImg8bit/{0}/ulm/{1}_leftImg8bit": (32, 64, 3),
        "gtFine/{0}/ulm/{1}_gtFine_color": (32, 64, 3),
        "gtFine/{0}/ulm/{1}_gtFine_labelIds": (32, 64),
        "gtFine/{0}/ulm/{1}_gtFine_instanceIds": (32, 64),
    }
    files = {f"cityscapes/{name}": ("train val", size) for name, size in city.items()}
    files |= {f"{name}/{{0}}/{{1}}": ("train val", (32, 64, 3)) for name in ("maps", "edges2shoes-r")}
    for name in ("horse2zebra", "summer2winter_yosemite"):
        files[f"{name}/{{0}}/{{1}}"] = "trainA trainB testA testB", (32, 32, 3)
    files |= {f"celebamask/{{0}}_{side}/{{1}}": ("train test", (32, 32, 3)) for side in ("masks", "photos")}
    flat = ("CelebAMask-HQ/CelebA-HQ-img", "CelebAMask-HQ/cartoons", "celeba/img_align_celeba")
    files |= {f"{name}/{{1}}": (". .", (32, 32, 3)) for name in flat}
    files["cifar10/{0}/{1}"] = "train test", (32, 32, 3)
    for name, (splits, size) in files.items():
        for number, split in enumerate(splits.split() * 8):
            path = root / f"{name.format(split, number)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256 if len(size) == 3 else 34, size, np.uint8)).save(path)
    monkeypatch.setenv("GANSHRINK_DATA", str(root))


def on_images_here(recipe: Recipe, folder: Path, streets: dict, domains: dict) -> Recipe:
    """The recipe on images of its kind that are here."""
    data = {"labelled": streets, "unpaired": domains, "photos": tiny_photos(folder, domains, None)["data"]}
    data["paired"] = {"name": "paired", "a": streets["photos"], "b": streets["photos"]}
    if recipe.data.name not in data:
        return recipe
    kept = {"size": 32, "direction": recipe.data.direction}
    return recipe.model_copy(update={"data": DataConfig(**data[recipe.data.name] | kept)})


def made_small(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe's networks, smaller, since those would take minutes, with a teacher of its kind where it names one."""
    smaller = {"ngf": 24 if recipe.method.name == "cat" else 12}  # CAT's floor of widths needs room above it
    if recipe.data.height_width < (256, 256):
        families = {"unet": {"downs": 5}, "gaugan": {"ngf": 6, "hidden": 12, "doublings": 5}}
        families |= {"sagan": {}, "stylegan2": {}}  # which have no depth of their own
        smaller |= next((of for name, of in families.items() if name in recipe.net.name), {"blocks": 2})
    narrow = NetConfig(name=recipe.net.name, **recipe.net.options | smaller)
    judged = recipe.task.model_copy(
        update={"ndf": 8} | ({"vgg": None} if hasattr(recipe.task, "vgg") else {})
    )
    recipe = recipe.model_copy(update={"net": narrow, "task": judged})
    if recipe.teacher.weights is not None:
        torch.manual_seed(0)
        save_file(
            nets.build(recipe.net.name, **recipe.net.options).state_dict(), folder / "teacher.safetensors"
        )
        given = recipe.teacher.model_copy(update={"weights": folder / "teacher.safetensors"})
        recipe = recipe.model_copy(update={"teacher": given})
    if recipe.method.name == "ugc":  # many networks scored on images that are all alike
        few = {"search": {"population": 2, "generations": 1, "calibration_images": 2}}
        few["finetune"] = {"calibration_images": 2}
        tables = {name: getattr(recipe.method, name).model_copy(update=own) for name, own in few.items()}
        recipe = recipe.model_copy(update={"method": recipe.method.model_copy(update=tables)})
    if getattr(recipe.method, "distance", None) == "perceptual" or recipe.method.name == "ugc":
        state = VGG(VGG19_NORMALISED).state_dict()
        save_file(
            {name.removeprefix("features."): t for name, t in state.items()}, folder / "vgg.safetensors"
        )
        method = recipe.method.model_copy(update={"vgg": folder / "vgg.safetensors"})
        recipe = recipe.model_copy(update={"method": method})
    # of so small a network calls take the time, which no cut shortens, and an absolute budget is none
    if "latency" in recipe.budget or not recipe.limits.endswith("%"):
        recipe = recipe.model_copy(update={"budget": "macs=50%"})
    # of few blocks less can be cut, and a search of one step goes down to half of the channels, and no further
    budget = {"cat": "macs=60%", "dmad": "macs=95%"}.get(recipe.method.name, recipe.budget)
    recipe = recipe.model_copy(update={"budget": budget})
    return recipe


def named(path: Path) -> str:
    return path.relative_to("recipes").with_suffix("").as_posix()


def cases(paths: list[Path]) -> list:
    return rest_exhaustive(paths, lambda path: named(path) in TOLD)


TWO_STEPS = ["teacher.max_steps=1", "student.max_steps=1", "latency.enabled=false", "export.onnx=false"]
TWO_STEPS += ["teacher.precision=32-true", "teacher.batch_size=1"]  # bf16 is slow where the machine has none
TWO_STEPS += ["metrics.names=['psnr_teacher']", "metrics.limit=2"]
ROWS = [path for path in RECIPES if path.is_relative_to("recipes/papers")]


@pytest.mark.parametrize("path", cases([p for p in RECIPES if p.stem != "quick" and p not in ROWS]), ids=str)
def test_every_recipe_takes_two_steps(path, tmp_path, streets, domains):
    """With the recipe's own networks, task and method; where its images are not shipped, on images of the same kind."""
    recipe = read_recipe(path, [f"run={tmp_path / 'run'}", *TWO_STEPS])
    recipe = made_small(on_images_here(recipe, tmp_path, streets, domains), tmp_path)
    outcome = compress_recipe(recipe, progress=False)
    assert np.isfinite(outcome.metrics["student"]["psnr_teacher"]["value"])


@pytest.mark.parametrize("path", cases(ROWS), ids=str)
def test_every_row_of_a_paper_takes_two_steps(path, tmp_path, shipped):
    """On its own data set, as that ships."""
    text = path.read_text()
    own_size = "latents" in text or ("taps" in text and "unet" in text)  # taps are of eight halvings
    small = [] if own_size else ["data.size=64", "data.load_size=64"]
    small += ["data.label_size=64"] if "label_size" in text else []
    small += ["method.condense.factor=cpu"] if '"cuda"' in text and not torch.cuda.is_available() else []
    recipe = made_small(read_recipe(path, [f"run={tmp_path / 'run'}", *TWO_STEPS, *small]), tmp_path)
    outcome = compress_recipe(recipe, progress=False)
    assert np.isfinite(outcome.metrics["student"]["psnr_teacher"]["value"])
