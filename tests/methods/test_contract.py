"""What holds for every method, tested once over METHODS: a new one gets these tests by being in the table.

The whole road from a job to students, budgets of each kind, a second call, a stop in every stage, settings and the stages
that they decide, what is refused before anything is trained. Whole recipes with each method are in
tests/workflow/test_device_budget.py and test_recipes.py.
"""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from ganshrink import nets
from ganshrink.data import TensorInputs, TensorPairs
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job, MethodConfig, Result, Settings
from ganshrink.methods.original import Original
from ganshrink.pruning import Budget
from ganshrink.system.signals import Interrupted
from ganshrink.training.stages import Run, Stage
from ganshrink.training.tasks import Pix2Pix, Pix2PixConfig, WithTerms
from ganshrink.training.train import StudentTraining
from made_up_device import profile_of
from telling import rest_exhaustive

SIZE, STEPS = 16, 4
EXAMPLE = (torch.zeros(1, 3, SIZE, SIZE),)
LIMITS = "macs=70%,paper_macs=75%,params=80%,bytes=90%"

# What makes a method quick on a toy, where its own defaults are not.
QUICK: dict[str, dict[str, Any]] = {
    "cat": {"search": {"floor": 1}},
    "decig": {"cut": {"calibration_images": 2}},
    "dmad": {"search": {"mask_lr": 0.5, "lambda_spa": 0.1}},
    "gan_slimming": {"distance": "mse", "prune_trunk": True},
    "rebuild": {"search": {"images": 2}},
    "ugc": {
        "lambda_style": 0,
        "lambda_feature": 0,
        "extra_blocks": 1,
        "search_images": 1,
        "supernet": {"steps": 2},
        "search": {"population": 4, "generations": 2, "band": 0, "calibration_images": 2},
        "finetune": {"calibration_images": 2},
    },
}
# Images that a method looks at in a stage of training before it trains.
LOOKED_AT = {"rebuild": 6}
# Values to change a setting to, where the toy does not take the next best one.
OTHER: dict[str, dict[str, Any]] = {
    "cat": {"distill.taps": ("blocks.0",)},
    "decig": {"cut.hinges": {"down.1": 3}},
    "dmad": {"distill.taps": ("blocks.0",)},
    "rebuild": {"distill.taps": ("blocks.0",), "search.scores": ("effect",), "search.widths": ("even",)},
    "ugc": {"finetune.taps": ("blocks.0",)},
    "uniform": {"taps": ("blocks.0",)},
}
# Settings that decide which stages there are, or which networks a stage makes: their methods' tests have them.
ROADS = {
    "gan_slimming": {"variant"},
    "ugc": {"nas", "extra_blocks", "finetune.lambda_cd"},
    "uniform": {"teaching", "student_taps"},
}


class Stopping:
    """A data set that ends the process, so to say, in the middle of a stage."""

    def __init__(self, images: Any, stage: Path, samples: int) -> None:
        self.images, self.stage, self.left = images, stage, samples

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int, rng: Any) -> dict[str, Any]:
        if (self.stage / "stamp.json").exists() and not (self.stage / "done.json").exists():
            self.left -= 1
            if self.left < 0:
                raise Interrupted("stopped", 2)
        return self.images.sample(index, rng)


class Watching(Run):
    """A run that trains nothing: a stage whose stamp is another one is noted, and its old result is handed out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.redone: list[str] = []

    def _begin(self, stage: Stage, record: Any) -> dict[str, Any]:
        done = json.loads((stage.path / "done.json").read_text())
        if done["key"] != stage.key:
            self.redone.append(stage.path.name)
        return done


def generator() -> nn.Module:
    """Frozen, as pretrained networks often come: students must learn all the same."""
    torch.manual_seed(1)
    return nets.build("resnet6", ngf=4, blocks=1, norm="batch").requires_grad_(False)


def job(*, budget: str = LIMITS, **changes: Any) -> Job:
    network = generator()
    task = Pix2Pix(Pix2PixConfig(ndf=4, d_layers=1, lr=2e-3))
    trained = task.nets(copy.deepcopy(network), 3, 3)
    draw = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, SIZE, SIZE, generator=draw) * 2 - 1 for _ in range(10)]
    given = Job(
        original=original(()),
        teacher=lambda: trained,
        task=task,
        data=TensorPairs(list(zip(pictures[:6], pictures[4:], strict=True))),
        budget=Budget.parse(budget).resolve(original(()).channels),
        training=StudentTraining(
            max_steps=STEPS, batch_size=2, log_every=1, checkpoint_steps=1, accelerator="cpu"
        ),
        progress=False,
        unlabelled=TensorInputs(pictures[6:]),
        device=lambda name: profile_of(generator().eval(), EXAMPLE),
    )
    return replace(given, **changes)


def brightness(context: Any) -> dict[str, torch.Tensor]:
    return {"G_bright": 0.1 * context.fake.mean()}


def config_of(name: str, **changes: Any) -> MethodConfig:
    return get_type_hints(METHODS[name])["config"](**QUICK.get(name, {}) | changes)


@cache
def original(transforms: tuple[tuple[str, Any], ...]) -> Original:
    """The toy, traced once for all tests that transform it alike."""
    return Original(generator, EXAMPLE, dict(transforms))


def made(name: str, run: Run, work: Job, config: MethodConfig) -> Result:
    work = replace(work, original=original(tuple(config.transforms().items())))
    return METHODS[name](run, work, config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Result]]:
    """A method's whole road on the toy, walked once: its folder and what came out."""

    @cache
    def walk(name: str) -> tuple[Path, Result]:
        folder = tmp_path_factory.mktemp(name)
        return folder, made(name, Run(folder), job(), config_of(name))

    return walk


def stages_of(folder: Path) -> list[str]:
    """A run's stages in the order in which they were done."""
    files = sorted(folder.glob("stages/*/done.json"), key=lambda file: file.stat().st_mtime_ns)
    return [file.parent.name for file in files]


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(METHODS, lambda name: name != "ugc"))
def test_the_road_ends_at_a_student_within_every_kind_of_budget(name, finished):
    _, result = finished(name)
    assert list(result.students) == list(result.plans) == list(result.channels) == list(result.originals)
    [student], [plan], [channels] = result.students.values(), result.plans.values(), result.channels.values()
    limits = job().budget.numbers()
    spent = {
        "macs": channels.cost(plan).macs,
        "paper_macs": channels.cost(plan, "paper").macs,
        "params": sum(p.numel() for p in student.parameters()),
        "bytes": sum(t.numel() * t.element_size() for t in student.state_dict().values()),
    }
    assert spent.keys() == limits.keys() and all(spent[kind] <= limits[kind] for kind in limits)
    with torch.no_grad():
        assert student(torch.rand(2, 3, SIZE, SIZE)).shape == (2, 3, SIZE, SIZE)
    assert not student.training and all(p.requires_grad for p in student.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_every_training_begins_at_the_task_s_rate(name, finished):
    """2e-3, which is no task's default: a rate that is given is not ignored in silence."""
    folder, _ = finished(name)
    logs = [file.read_text().splitlines() for file in folder.glob("stages/*/events.jsonl")]
    assert logs and all(json.loads(lines[0])["lr"] == pytest.approx(2e-3) for lines in logs)


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(METHODS, "cat".__eq__))
def test_the_teacher_is_left_as_it_was_and_further_losses_join(name, tmp_path):
    work = job()
    work = replace(work, task=WithTerms(work.task, (brightness,)))
    teacher = work.teacher()
    before = copy.deepcopy(teacher)
    made(name, Run(tmp_path), work, config_of(name))
    assert all(same(teacher[net], before[net]) for net in teacher)
    assert not any(p.requires_grad for p in teacher["G"].parameters())
    assert any("G_bright" in file.read_text() for file in tmp_path.glob("stages/*/events.jsonl"))


@pytest.mark.parametrize("name", rest_exhaustive(METHODS, lambda name: name != "ugc"))
def test_a_second_call_trains_nothing_and_gives_the_same(name, finished):
    folder, result = finished(name)
    again = Watching(folder)
    second = made(name, again, job(), config_of(name))
    assert not again.redone and second.plans == result.plans
    assert all(same(second.students[net], result.students[net]) for net in result.students)


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(METHODS, {"cat", "rebuild"}.__contains__))
def test_a_student_can_start_reconstructed(name, finished, tmp_path):
    """That is a setting of its own training: what comes before it is not done again."""
    folder, result = finished(name)
    shutil.copytree(folder, tmp_path / "again")
    start = {"start": "reconstruct", "start_images": 4}
    how = StudentTraining(**job().training.model_dump() | start)
    second = made(name, Run(tmp_path / "again"), job(training=how), config_of(name))
    assert second.plans == result.plans
    assert not any(same(second.students[net], result.students[net]) for net in result.students)
    redone = list(tmp_path.glob("again/stages/*.*"))  # put aside; a method may start so by itself
    found = tmp_path.glob("again/stages/*/reconstruction*.json")
    [last] = [file for file in found if file.parent not in redone]
    assert last.parent.name == stages_of(tmp_path / "again")[-1]
    assert (
        json.loads((last.parent / "stamp.json").read_text())["made_from"]["training"]["start"]
        == "reconstruct"
    )
    told = json.loads(last.read_text())
    assert any(layer["left"] is None for layer in told["layers"])
    assert told["after"] <= told["before"]  # where masks had closed nothing was lost
    assert [path.name.partition(".")[0] for path in redone] == [last.parent.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(METHODS, "cat".__eq__))
def test_a_stop_in_any_stage_changes_nothing(name, finished, tmp_path):
    """Every training is stopped after half of its steps; together with what follows it ends as one that was not."""
    folder, whole = finished(name)
    trainings = [stage for stage in stages_of(folder) if (folder / f"stages/{stage}/events.jsonl").exists()]
    assert trainings
    for stage in trainings:
        work = job()
        cut = Stopping(work.data, tmp_path / "stages" / stage, LOOKED_AT.get(name, 0) + 2 * STEPS // 2)
        with pytest.raises(Interrupted):
            made(name, Run(tmp_path), replace(work, data=cut), config_of(name))
        assert (tmp_path / "stages" / stage / "checkpoint.pt").exists()
    resumed = made(name, Run(tmp_path), job(), config_of(name))
    assert resumed.plans == whole.plans
    assert all(same(resumed.students[net], whole.students[net]) for net in whole.students)


def leaves(table: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every setting, with its key, its value and what is declared of it."""
    for key, value in table:
        if isinstance(value, Settings):
            yield from leaves(value, f"{prefix}{key}.")
        elif get_args(type(table).model_fields[key].annotation) != (value,):  # else there is no other
            yield f"{prefix}{key}", value, type(table).model_fields[key]


def another(value: Any, field: Any) -> Iterator[Any]:
    """Values unlike this one, of the kinds that a setting takes."""
    kinds = [field.annotation, *get_args(field.annotation)]
    kinds += [kind for each in kinds for kind in get_args(each)]
    yield from (kind for kind in kinds if isinstance(kind, str))
    for kind in kinds:
        if kind is bool:
            yield not value
        elif kind in (int, float):
            yield from ([2, 1, 3] if kind is int else [0.5, 0.25, 0.75, 2.0, 100.0])
        elif kind in (str, Path):
            yield kind("other")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind()
        elif getattr(kind, "__origin__", None) is dict:
            yield {"down.0": 2}
    if NoneType in kinds:
        yield None


def changed(config: MethodConfig, key: str, value: Any) -> MethodConfig:
    raw = config.model_dump()
    *table, last = key.split(".")
    target = raw[table[0]] if table else raw
    target[last] = value
    return type(config)(**raw)


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(METHODS, "cat".__eq__))  # few settings
def test_a_setting_decides_the_stage_whose_table_it_stands_in(name, finished):
    """Each setting is changed once: its stage and those that build on it are done again, and no other."""
    folder, _ = finished(name)
    stamps = {
        stage: json.loads((folder / f"stages/{stage}/stamp.json").read_text()) for stage in stages_of(folder)
    }

    def with_followers(stage: str) -> set[str]:
        later = [other for other, stamp in stamps.items() if stage in stamp["after"]]
        return {stage}.union(*map(with_followers, later))

    config, tables = config_of(name), {key for key, value in config_of(name) if isinstance(value, Settings)}
    for key, value, field in leaves(config):
        if key in ROADS.get(name, ()) or isinstance(value, Path):  # of a file its content counts
            continue
        table = key.rpartition(".")[0]
        if table and table not in stamps:
            continue  # a stage of another road
        missing = False
        choices = [OTHER[name][key]] if key in OTHER.get(name, {}) else another(value, field)
        for choice in choices:
            if choice == value:
                continue
            watching, fits = Watching(folder), True
            try:
                made(name, watching, job(), changed(config, key, choice))
            except ValueError:  # the toy does not take it
                continue
            except FileNotFoundError:  # a judge's weights, which are not shipped
                missing = True
                continue
            except RuntimeError:  # old weights do not fit: what follows the stage that has them is not seen
                fits = False
            break
        else:
            if missing:
                continue
            pytest.fail(f"{name}: no other value of {key} could be tried: add one to OTHER")
        expected = with_followers(table) if table else set(stamps)
        redone = set(watching.redone)
        first = table or next(iter(stamps))
        assert redone == expected if fits else first in redone <= expected, (key, choice)
    assert tables <= set(stamps) | {"narrow"}, "a table that is no stage's"


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_that_cannot_be_met_is_refused_before_anything_is_made(name, tmp_path):
    def teacher() -> Any:
        raise AssertionError("the teacher was asked for")

    work = replace(job(budget="macs=0.01%"), teacher=teacher)
    with pytest.raises(ValueError, match="cannot be met"):
        made(name, Run(tmp_path), work, config_of(name))
    assert not list(tmp_path.glob("stages/*"))


@pytest.mark.parametrize("name", METHODS)
def test_the_first_line_of_a_method_says_what_it_is(name):
    first = (METHODS[name].__doc__ or "").strip().splitlines()[0]
    assert len(first) > 20 and first.endswith(".")
    assert get_type_hints(METHODS[name])["config"]().name == name
