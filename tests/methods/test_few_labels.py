"""Runs on few labels: who learns from which images."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import ganshrink
from ganshrink import methods
from ganshrink.data import DataConfig, Images, TensorInputs, TensorPairs, open_dataset, open_unlabelled
from ganshrink.graph import trace
from ganshrink.methods.base import Job, MethodConfig, Result
from ganshrink.pruning import extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.train import fit_nets
from ganshrink.workflow.compress import compress_recipe, train_recipe
from ganshrink.workflow.recipe import dump, read_recipe, resolve
from telling import rest_exhaustive
from tiny_recipe import done, tiny

pytestmark = pytest.mark.slow

FEW = {"label_fraction": "50%", "label_seed": 3}


@pytest.fixture
def maps(tmp_path) -> dict:
    """4 pairs of pictures, 2 to score, and in more/ 3 inputs of another size."""
    rng = np.random.default_rng(0)
    counts = {"trainA": 4, "trainB": 4, "testA": 2, "testB": 2, "more": 3}
    for folder, count in counts.items():
        (tmp_path / "maps" / folder).mkdir(parents=True)
        for i in range(count):
            noise(tmp_path / "maps" / folder / f"{i}.png", rng, side=40 if folder == "more" else 32)
    sides = {side.lower(): str(tmp_path / f"maps/{{split}}{side}") for side in "AB"}
    return {"name": "paired", **sides, "size": 32}


def noise(path: Path, rng: np.random.Generator, side: int = 32) -> None:
    Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path)


def names(images: Images) -> list[str]:
    return [images.sample(index, None)["name"] for index in range(len(images))]


@pytest.mark.parametrize(
    "kinds", rest_exhaustive([["teacher"], ["teacher", "student"]], ["teacher"].__eq__), ids=len
)
def test_a_target_without_a_label_is_never_looked_at(tmp_path, maps, kinds):
    """Neither by the teacher nor by a student: other pixels there change nothing that was trained."""
    data = maps | FEW
    kept, left = (names(opening(DataConfig(**data))) for opening in (open_dataset, open_unlabelled))
    assert sorted(kept + left) == ["0", "1", "2", "3"] and len(kept) == 2
    rng, trained = np.random.default_rng(1), []
    for number, changed in enumerate(([], left, kept[:1])):
        for name in changed:
            noise(Path(data["b"].replace("{split}", "train"), f"{name}.png"), rng)
        folder = tmp_path / f"run{number}"
        method = {"name": "uniform", "floor": 2, "teaching": "scratch"}
        raw = tiny(folder, method=method, teacher={"epochs": 2}) | {"data": data}
        (compress_recipe if "student" in kinds else train_recipe)(resolve(raw), progress=False)
        for stage in ("teacher", "narrow")[: len(kinds)]:
            last = json.loads((folder / f"stages/{stage}/events.jsonl").read_text().splitlines()[-1])
            assert last["step"] == 2  # two epochs of two pairs in one batch
        trained.append([load_file(folder / f"{kind}.safetensors") for kind in kinds])

    def same(first, second) -> list[bool]:
        return [all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(first, second, strict=True)]

    assert same(trained[0], trained[1]) == [True] * len(kinds)
    assert same(trained[1], trained[2]) == [False] * len(kinds)


def test_a_share_is_written_on_the_command_line_as_a_percentage(tmp_path):
    recipe = read_recipe(Path("recipes/cat/quick.toml"), ["data.label_fraction=25%", "data.label_seed=2"])
    assert (recipe.data.label_fraction, recipe.data.label_seed) == (0.25, 2)
    (tmp_path / "recipe.toml").write_text(dump(recipe))
    assert read_recipe(tmp_path / "recipe.toml") == recipe


class LookingConfig(MethodConfig):
    name: str = "looking"


def looking(run: Run, job: Job, config: LookingConfig) -> Result:
    """Extracts the teacher, and trains it for a step beside inputs that have no target."""
    assert job.unlabelled is not None
    channels = trace(job.build(), *job.example)
    plan = bisect_threshold(channels, evenly(channels), job.budget, floor=1)
    teacher = job.teacher()["G"]
    student = extract(teacher, channels, plan)

    def learn(stage: Stage) -> Artefacts:
        nets = job.task.nets(student, job.data.in_channels, job.data.out_channels)
        seen: list[tuple[int, ...]] = []

        def more(context) -> dict[str, torch.Tensor]:
            made = nets["G"](context.batch["unlabelled"])
            seen.append(tuple(made.shape))
            return {"G_more": made.abs().mean()}

        settings = {"terms": [more], "unlabelled": job.unlabelled, "progress": False}
        fit_nets(stage, nets, job.task, job.data, job.training, **settings)
        assert set(seen) == {(job.training.batch_size, 3, *job.data.size)}
        return {"G": student.state_dict()}

    made_from = {**job.describe(), "pairs": names(job.data), "unlabelled": names(job.unlabelled)}
    student.load_state_dict(run.stage("looking", learn, made_from=made_from)["G"])
    return Result({"G": student}, {"G": plan}, {"G": channels}, {"G": teacher})


@pytest.fixture
def with_looking(monkeypatch) -> Iterator[None]:
    monkeypatch.setitem(methods.METHODS, "looking", looking)


@pytest.mark.usefixtures("with_looking")
def test_a_method_gets_the_inputs_that_a_recipe_leaves_without_targets(tmp_path, maps):
    data = maps | FEW | {"unlabelled": str(tmp_path / "maps/more")}
    raw = tiny(tmp_path / "run", method={"name": "looking"}) | {"data": data, "method": "looking"}
    outcome = compress_recipe(resolve(raw), progress=False)
    stamp = done(tmp_path / "run", "looking")["made_from"]
    config = DataConfig(**data)
    assert stamp["pairs"] == names(open_dataset(config))
    assert stamp["unlabelled"] == names(open_unlabelled(config)) and len(stamp["unlabelled"]) == 2 + 3
    events = (tmp_path / "run/stages/looking/events.jsonl").read_text()
    assert json.loads(events.splitlines()[-1])["losses"]["G_more"] > 0
    assert outcome.metrics["student"]["psnr"]["protocol"]["images"] == 2  # all of the test pairs


class Mine(nn.Module):
    """A user's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.exit = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exit(self.entry(x).relu()).tanh()


def tensors(count: int, side: int = 32) -> list[torch.Tensor]:
    return list(torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1)


def call(folder: Path, **changes):
    pairs = [(image, -image) for image in tensors(11)]
    settings = {key: value for key, value in tiny(folder).items() if key in ("task", "export", "latency")}
    student = {"max_steps": 1, "epochs": 1, "decay_epochs": 0, "batch_size": 2, "accelerator": "cpu"}
    given = {"data": pairs, "budget": "macs=50%", "student": student, "run": folder, "progress": False}
    return ganshrink.compress(Mine(), **{**settings, **given, **changes})


@pytest.mark.exhaustive
@pytest.mark.usefixtures("with_looking")
def test_inputs_without_targets_are_given_beside_pairs(tmp_path, maps):
    more = tensors(5)
    whole = TensorPairs([(image, image) for image in more])
    for place, unlabelled in enumerate((more, torch.stack(more), TensorInputs(more), whole)):
        folder = tmp_path / str(place)
        call(folder, unlabelled=unlabelled, method="looking")
        assert len(done(folder, "looking")["made_from"]["unlabelled"]) == 5
        assert len(done(folder, "looking")["made_from"]["pairs"]) == 9  # of eleven two are held out
    call(tmp_path / "both", data=maps | FEW, unlabelled=more, method="looking")
    stamp = done(tmp_path / "both", "looking")["made_from"]
    left = names(open_unlabelled(DataConfig(**maps, **FEW)))
    assert stamp["unlabelled"] == [*left, *(f"{i:04d}" for i in range(5))] and len(stamp["pairs"]) == 2


@pytest.mark.exhaustive
def test_methods_that_do_not_learn_from_them_train_on_the_pairs(tmp_path):
    method = {"name": "uniform", "teaching": "scratch"}
    students = [
        call(tmp_path / str(place), unlabelled=more, method=method).student.state_dict()
        for place, more in enumerate((None, tensors(3)))
    ]
    assert all(torch.equal(students[0][key], students[1][key]) for key in students[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"unlabelled": tensors(2, side=24)},
            r"^unlabelled inputs are \(3, 24, 24\), those of the pairs \(3, 32, 32\): all must be alike",
        ),
        (
            {"unlabelled": [*tensors(1), *tensors(1, side=24)]},
            r"^unlabelled: input 1 has shapes \(3, 24, 24\), input 0 has \(3, 32, 32\)",
        ),
        (
            {"unlabelled": [(image, torch.tensor(1)) for image in tensors(2)]},
            r"are \(3, 32, 32\) and \(\) of torch.int64, those of the pairs \(3, 32, 32\):",
        ),
        (
            {"unlabelled": TensorInputs([torch.zeros(3, 32, 32, dtype=torch.int64)])},
            r"are \(3, 32, 32\) of torch.int64, those of the pairs \(3, 32, 32\):",
        ),
        ({"unlabelled": [2 * tensors(1)[0].sign()]}, "^unlabelled: element 0: input 0 reaches 2: scale it"),
        ({"unlabelled": []}, "^unlabelled: there are no inputs"),
        ({"unlabelled": ["a.png"]}, "^unlabelled: element 0 of the data is str: it must be an input"),
        (
            {"unlabelled": iter(tensors(2))},
            "^unlabelled must be a sequence of inputs, or a data set, got list_",
        ),
        (
            {"unlabelled": tensors(2), "data": tensors(3), "task": "image2image"},
            "^unlabelled inputs stand beside pairs, and these data are none",
        ),
        ({"data": {"size": 32, "label_fraction": "0.1%"}}, "give at least 0.125%"),
        (
            {"data": {"size": 32, "label_fraction": 25}},
            "data.label_fraction: a share is written as .* .got 25.",
        ),
    ],
)
def test_what_cannot_stand_beside_the_pairs_is_refused_in_a_line(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        call(tmp_path / "run", **change)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
