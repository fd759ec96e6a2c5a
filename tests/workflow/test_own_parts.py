"""Parts of a user's own: named MODULE:NAME in a recipe, registered by an installed package, or handed over in Python."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import ganshrink
from ganshrink.cli.main import app
from ganshrink.data import TensorPairs
from ganshrink.training.tasks import TASKS, Pix2Pix
from ganshrink.workflow import verbs
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import dump, resolve
from tiny_recipe import done, tiny

PARTS = '''
from pathlib import Path

import torch
from pydantic import Field

from ganshrink.data import DataConfig, TensorPairs
from ganshrink.exporters import Exporter
from ganshrink.methods.base import MethodConfig, Result
from ganshrink.methods.distill import train_alone
from ganshrink.metrics import Value
from ganshrink.pruning import extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly
from ganshrink.training.tasks import PairedConfig, PairedLearning


class MineConfig(MethodConfig):
    floor: int = 1


def mine(run, job, config: MineConfig) -> Result:
    """Mine: the same share of every layer."""
    plan = bisect_threshold(job.channels, evenly(job.channels), job.budget, floor=config.floor)
    teacher = job.teacher()["G"]
    student = extract(teacher, job.channels, plan)
    student = train_alone(run, "mine", student, job, made_from={"method": config.for_stage("mine")})
    return Result({"G": student}, {"G": plan}, {"G": job.channels}, {"G": teacher})


class StripesConfig(DataConfig):
    width: int = Field(2, ge=1, description="of a stripe, in pixels")


class Stripes(TensorPairs):
    """Stripes, and the same ones upside down."""

    def __init__(self, config: StripesConfig, split: str) -> None:
        height, width = config.height_width
        rows = (torch.arange(height) // config.width % 2 * 2.0 - 1).reshape(1, -1, 1)
        image = rows.expand(3, height, width)
        super().__init__([(image * shade, -image * shade) for shade in (1.0, 0.5, 0.25, 0.125)])


class Loud(PairedLearning):
    """Pairs by an L1 distance alone."""

    class Config(PairedConfig):
        lambda_gan: float = 0


class Contrast:
    """The standard deviation of the generated pictures."""

    name, needs = "contrast", frozenset()

    def __init__(self, setup) -> None:
        self.split = setup.split
        self.reset()

    def reset(self) -> None:
        self.pixels = []

    def update(self, batch) -> None:
        self.pixels.append(batch.saved("fake").float())

    def compute(self) -> Value:
        return Value(torch.cat(self.pixels).std().item(), "higher", {"split": self.split})


def write(model, example, path, *, inputs, **options):
    torch.save(model.state_dict(), path)
    return {"max_abs_diff": 0.0, "bytes": Path(path).stat().st_size}


WEIGHTS = Exporter("student.pt", write, "the weights as torch saves them")
NOT_ONE = 3
'''
NAME = "parts_of_a_user"
RECIPE = {
    "data": {"name": f"{NAME}:Stripes", "size": 16, "width": 4},
    "task": {"name": f"{NAME}:Loud", "lambda_gan": 0},
    "method": {"name": f"{NAME}:mine", "floor": 2},
    "metrics": {"names": ["psnr", f"{NAME}:Contrast"]},
    "export": {"onnx": False, "formats": [f"{NAME}:WEIGHTS"]},
}


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's working directory; what is imported from it is forgotten again."""
    (tmp_path / f"{NAME}.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in (NAME, "their_parts"):
        sys.modules.pop(name, None)


def recipe(folder: Path, **tables):
    raw = tiny(folder, **{table: values for table, values in RECIPE.items() if table != "task"})
    raw["task"], raw["method"], raw["data"] = RECIPE["task"], RECIPE["method"], RECIPE["data"]
    return raw | tables


@pytest.mark.slow
def test_a_recipe_of_own_parts_alone(working_directory: Path) -> None:
    folder = working_directory / "run"
    made = compress_recipe(resolve(recipe(folder)), progress=False)
    assert set(made.metrics["student"]) == {"psnr", "contrast"}
    assert (folder / "student.pt").is_file() and "student.pt" in json.loads(
        (folder / "parity.json").read_text()
    )
    named = done(folder, "mine")["made_from"]
    assert named["method"] == {"name": f"{NAME}:mine", "exact": False, "floor": 2}
    assert named["made_by"]["name"] == f"{NAME}:mine" and named["own_task"]["name"] == f"{NAME}:Loud"

    # A folder may come from anyone: its recipe names code, which is run only if the user names it too.
    sys.modules.pop(NAME)
    with pytest.raises(ValueError, match=f"code that is run only if you name it: --own {NAME}:Stripes"):
        verbs.evaluate_run(folder)
    assert NAME not in sys.modules
    own = [f"{NAME}:{part}" for part in ("Stripes", "Loud", "mine", "Contrast", "WEIGHTS")]
    assert "contrast" in verbs.evaluate_run(folder, own=own)["student"]

    before = done(folder, "mine")["made_from"]
    (working_directory / f"{NAME}.py").write_text(PARTS + "\n# an edit")
    sys.modules.pop(NAME)
    compress_recipe(resolve(recipe(folder)), progress=False)
    after = done(folder, "mine")["made_from"]
    assert {key for key in before if after[key] != before[key]} == {"made_by", "own_task", "data"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"method": "none_such:mine"}, "recipe: method.name: none_such:mine: there is no module none_such"),
        ({"method": f"{NAME}:min"}, f"method.name: {NAME}:min: {NAME} has no 'min'; did you mean 'mine'"),
        ({"method": f"{NAME}:write"}, "write does not say what its settings are: give a MethodConfig"),
        ({"method": {"name": f"{NAME}:mine", "flor": 1}}, "method.flor: unknown key; did you mean 'floor'"),
        ({"task": f"{NAME}:NOT_ONE"}, "give a BaseModel as a class attribute Config"),
        ({"data": {"name": f"{NAME}:Stripes", "wdth": 1}}, "data.wdth: unknown key; did you mean 'width'"),
        ({"data": {"name": "pared"}}, "data.name: unknown data set 'pared'; did you mean 'paired'"),
    ],
)
def test_every_mistake_is_one_line(working_directory: Path, tables, message) -> None:
    with pytest.raises(ValueError) as error:
        resolve(recipe(working_directory / "run", **tables))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"metrics": {"names": [f"{NAME}:write"]}}, f"{NAME}:write failed: TypeError"),
        ({"metrics": {"names": [f"{NAME}:dict"]}}, f"{NAME} has no 'dict'"),
        ({"export": {"formats": [f"{NAME}:NOT_ONE"]}}, "must be a ganshrink.exporters.Exporter, not int"),
        ({"export": {"formats": ["onx"]}}, "unknown exporter 'onx'; did you mean 'onnx'"),
        ({"data": {"name": f"{NAME}:MineConfig"}}, "MineConfig failed"),
    ],
)
def test_what_is_no_such_part_is_refused_before_training(working_directory: Path, tables, message) -> None:
    with pytest.raises(ValueError, match=message):
        compress_recipe(resolve(recipe(working_directory / "run", **tables)), progress=False)
    assert not (working_directory / "run" / "stages" / "teacher").exists()


@pytest.fixture
def distribution(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that registers a method and a network."""
    site = working_directory / "site"
    info = site / "their_dist-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-dist\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[ganshrink.methods]\ntheirs = their_parts:mine\ncat = their_parts:mine\n"
        "[ganshrink.nets]\ntheir_net = their_parts:net\n"
    )
    (site / "their_parts.py").write_text(
        PARTS + "\ndef net(width=4):\n    return torch.nn.Conv2d(3, 3, width)\n"
    )
    monkeypatch.syspath_prepend(site)
    return "their_parts"


def test_registered_parts_are_listed_with_their_origin_and_not_imported(distribution: str) -> None:
    for verb, name in (("methods", "theirs"), ("nets", "their_net")):
        listing = json.loads(CliRunner().invoke(app, [verb, "--json"]).stdout)
        assert listing[name].endswith("of their-dist 1.2") and listing[name].startswith("their_parts:")
        assert f"{name} " in CliRunner().invoke(app, [verb]).stdout
    assert distribution not in sys.modules
    assert json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)["cat"].startswith("CAT")
    assert ganshrink.nets.build("their_net", width=2).weight.shape == (3, 3, 2, 2)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_recipe_names_a_registered_method(working_directory: Path, distribution: str) -> None:
    raw = tiny(working_directory / "run", metrics={"names": ["psnr"]})
    raw["method"] = "theirs"
    read = resolve(raw)
    assert 'name = "theirs"' in dump(read) and read.method_function.__module__ == distribution
    compress_recipe(read, progress=False)
    assert done(working_directory / "run", "mine")["made_from"]["made_by"]["name"] == "their_parts:mine"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def darkness(context) -> dict[str, torch.Tensor]:
    return {"G_dark": context.fake.mean()}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_objects_in_python(working_directory: Path) -> None:
    sys.path.append(str(working_directory))
    try:
        import parts_of_a_user as parts  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(working_directory))
    folder = working_directory / "run"
    generator = torch.Generator().manual_seed(0)
    pairs = [tuple(torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1) for _ in range(4)]

    class Setup:
        split = "held out"

    def run(*losses):
        torch.manual_seed(0)
        return ganshrink.compress(
            Small(),
            data=TensorPairs(pairs),
            method=parts.mine,
            task=Pix2Pix(TASKS["pix2pix"].Config(lambda_gan=0)),
            extra_losses=losses,
            metrics=["psnr", parts.Contrast(Setup())],
            budget="macs=60%",
            run=folder,
            student={"max_steps": 2, "log_every": 1, "accelerator": "cpu"},
            export={"onnx": False},
            latency={"enabled": False},
            progress=False,
        )

    made = run(darkness)
    assert set(made.metrics["student"]) == {"psnr", "contrast"}
    events = (folder / "stages" / "mine" / "events.jsonl").read_text()
    assert "G_dark" in events and "G_recon" in events and "G_gan" not in events
    written = (folder / "recipe.toml").read_text()
    assert (
        f'name = "{NAME}:mine"' in written
        and f'"{NAME}:Contrast"' in written
        and 'name = "pix2pix"' in written
    )

    net = done(folder, "teacher")["made_from"]["net"]
    assert [one["name"].partition(":")[2] for one in net["classes"]] == ["Small"]
    first = done(folder, "mine")["key"]
    run(darkness)
    assert done(folder, "mine")["key"] == first
    run()
    assert done(folder, "mine")["key"] != first
