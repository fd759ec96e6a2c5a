"""What a user gets wrong is refused in one line that names it, in every room: what no other test comes by."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import ganshrink
from ganshrink import nets
from ganshrink.cli.main import app
from ganshrink.comparison.compare import compare_runs
from ganshrink.comparison.matrix import Matrix, cells, read_matrix
from ganshrink.comparison.running import outcome
from ganshrink.data.config import DataConfig
from ganshrink.data.images import check
from ganshrink.data.latents import Latents
from ganshrink.data.tensors import hold_out
from ganshrink.deploy.goldens import _outputs
from ganshrink.exporters.note import read_note
from ganshrink.exporters.sizes import Sizes
from ganshrink.methods.original import transformed
from ganshrink.metrics.config import MetricsConfig
from ganshrink.metrics.config import build as build_metrics
from ganshrink.system.own import settings_of
from ganshrink.training.stages import Run, finished_stage
from ganshrink.training.update import extended
from ganshrink.workflow import verbs
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.lint import lint_net
from ganshrink.workflow.recipe import read_recipe, resolve
from ganshrink.workflow.saved_networks import NetworkSpec, load_network, save_network
from tiny_recipe import tiny

LABELLED = {"name": "labelled", "labels": "maps", "num_classes": 3}
PAIRED = {"name": "paired", "root": "x"}
RECIPE = {key: value for key, value in tiny("x").items() if key not in ("run", "budget", "method")}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files that are not what they are called."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "broken.toml": "run =",
        "bare.toml": "seed = 1",
        "mine.onnx": "no ONNX",
        "mine.ncnn.param": "7767517",
        "bare.ncnn.param": "7767517",
        "mine.ncnn.param.json": '{"inputs": 3}',
        "mine.safetensors": "no weights",
    }.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    save_file({"weight": torch.zeros(1)}, tmp_path / "bare.safetensors")
    for way in ("AtoB", "BtoA"):
        (tmp_path / "both" / way).mkdir(parents=True)
        (tmp_path / "both" / way / "cost.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "half/stages/teacher").mkdir(parents=True)
    (tmp_path / "half/stages/teacher/done.json").write_text('{"key": "k", "artefacts": ["G.safetensors"]}')
    (tmp_path / "half/stages/teacher/G.safetensors").write_text("no weights")


def wordless():
    """A file of this package that says of its network alone what it is."""
    spec = NetworkSpec(net={"name": "srvgg", "ngf": 4, "convs": 1}, example=[[1, 3, 8, 8]])
    save_network("bare.safetensors", nets.build("srvgg", ngf=4, convs=1), spec)
    return ganshrink.predict("bare.safetensors", "photo.png", "out.png")


class OneSize(nn.Module):
    def forward(self, x):
        return x.view(1, 3, 8, 8)


def misfit():
    """A file whose weights are of another width than the network that it names."""
    spec = NetworkSpec(net={"name": "srvgg", "ngf": 5, "convs": 1}, example=[[1, 3, 8, 8]])
    save_network("other.safetensors", nets.build("srvgg", ngf=4, convs=1), spec)
    return load_network("other.safetensors")


def its_own(config: "Missing"):  # noqa: F821
    """A part of a user's own whose settings are of no known class."""


def damaged_cell(**given):
    cell = cells(Matrix(run="grid", recipe=RECIPE, methods=[], **given))[0]
    cell.run.mkdir(parents=True)
    (cell.run / "cell.json").write_text("{")
    return outcome(cell)


REFUSED = {
    # comparing
    "there is no matrix nowhere.toml": lambda: read_matrix("nowhere.toml"),
    "broken.toml: not valid TOML": lambda: read_matrix("broken.toml"),
    "recipe.data.direction = 'both': compare each direction": lambda: cells(
        Matrix(run="grid", recipe={**RECIPE, "data": {"direction": "both"}}, methods=[])
    ),
    "cell.json is damaged": damaged_cell,
    "no run has a result to compare": lambda: compare_runs(["empty"], "joined"),
    # data
    "labelled data need photos": lambda: DataConfig(**LABELLED),
    'load_size = "native" resizes nothing: remove one': lambda: DataConfig(
        **PAIRED, load_size="native", flip=False, labels="maps", num_classes=3, label_size=8
    ),
    # recipes
    "teacher must be a table": lambda: resolve({"teacher": 3}),
    "teacher.discriminator is read only with teacher.weights": lambda: resolve(
        {"net": "resnet9", "teacher": {"discriminator": "d.safetensors"}}
    ),
    "teacher.start is where a training begins": lambda: resolve(
        {"net": "resnet9", "teacher": {"start": "a", "weights": "b"}}
    ),
    "net.name: is missing": lambda: resolve({"net": {}}),
    "'seed.x.y=1': seed is a value, not a table": lambda: read_recipe("bare.toml", ["seed.x.y=1"]),
    "the recipe names no folder: add run = 'runs/mine'": lambda: compress_recipe(resolve({"net": "resnet9"})),
    # metrics
    "a metric is a name or has update and compute, got 3": lambda: MetricsConfig(names=(3,)),
    "two metrics are called psnr": lambda: build_metrics(
        MetricsConfig(names=("psnr", build_metrics(MetricsConfig(names=("psnr",)))[0]))
    ),
    # networks
    "'folded' is no transform of a generator": lambda: transformed(nn.Identity(), (), {"folded": 1}),
    "scale must be 1, 2 or 4, got 3": lambda: nets.build("rrdb", scale=3),
    "srvgg adds its input: 3 channels cannot become 1": lambda: nets.build("srvgg", out_channels=1),
    "doublings must be 5 or 6, got 4": lambda: nets.build("gaugan", doublings=4),
    "ngf = 4: it leaves no channel for each of six branches": lambda: nets.build("incres_gaugan", ngf=4),
    "the task has no update 'E'": lambda: extended([], "E"),
    "its_own: the type of its parameter config cannot be read": lambda: settings_of("its_own", its_own),
    "unpaired images have no samples to keep apart": lambda: hold_out(SimpleNamespace(paired=False)),
    "a latent vector is no picture": lambda: Latents.preview(None, RED),
    # files
    "there is no ncnn file other.ncnn.param": lambda: read_note("other.ncnn.param"),
    "bare.ncnn.param does not say what pictures it takes": lambda: read_note("bare.ncnn.param"),
    "mine.ncnn.param says what it takes in a form that is not known": lambda: read_note("mine.ncnn.param"),
    "mine.onnx is not a readable ONNX file": lambda: read_note("mine.onnx"),
    "mine.safetensors is not a readable safetensors file": lambda: load_network("mine.safetensors"),
    "other.safetensors does not fit the network it names": misfit,
    "bare.safetensors does not say what pictures it takes": wordless,
    "the network runs at 8x8 but at none of 12x20, 4x4, 16x8: export it with a fixed size": lambda: Sizes(
        4, 4
    ).compared(OneSize(), (torch.zeros(1, 3, 8, 8),)),
    "there is no file other.npy of outputs": lambda: _outputs(Path("other.npy")),
    "flat.npy must hold one array (N, C, H, W)": lambda: _outputs(Path("flat.npy")),
    "cost.json is not there: is empty the folder of a finished run": lambda: Run("empty").read("cost.json"),
    "cannot read both/AtoB: Is a directory": lambda: Run("both").read("AtoB"),
    "empty is not the folder of a run with a finished teacher": lambda: finished_stage(
        Path("empty"), "teacher"
    ),
    "G.safetensors is damaged": lambda: finished_stage(Path("half"), "teacher"),
    # verbs
    "no format is named": lambda: verbs.export_run("empty", formats=()),
    "empty is a run, whose network is as it is: net.ngf=3 would change a recipe": lambda: (
        verbs.profile_device("empty", "p.toml", ["net.ngf=3"])
    ),
    "--net is for the folder of a run": lambda: verbs.profile_device("recipe.toml", "p.toml", net="a:b"),
    "mine.safetensors is trained as it is: net.ngf=3": lambda: lint_net("mine.safetensors", ["net.ngf=3"]),
    "both holds a run for each direction: name one of them, both/AtoB or both/BtoA": lambda: ganshrink.report(
        "both"
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(said, files):
    with pytest.raises((ValueError, OSError)) as caught:
        REFUSED[said]()
    told = (
        str(caught.value.errors()[0]["msg"])
        if isinstance(caught.value, ValidationError)
        else str(caught.value)
    )
    assert said in told and "\n" not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("compare a --jobs 2", "--jobs is for a matrix, and a is no TOML file: leave it out"),
        ("compare a --resource GPU=1", "--resource is for a matrix, and a is no TOML file"),
        (
            "compare m.toml --rank-by psnr",
            "--rank-by is for runs that exist: of a matrix write rank_by=METRIC",
        ),
        ("compare m.toml --resource GPU", "--resource GPU is no NAME=AMOUNT, such as GPU=1"),
        ("measure a --name Pixel", "--name is of a device that a page measured: give --page MEASURED.json"),
        (
            "demo a --serve --single-file",
            "--single-file makes a page that needs no server: leave --serve out",
        ),
        ("demo empty", "empty holds no student.safetensors: is it the folder of a finished run?"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, said, files):
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 1 and said in " ".join(str(done.exception).split())


class Faulty:
    """A data set of a user's own, of one sample."""

    in_channels, out_channels, size, preview_kind = 3, 3, (8, 8), "image"

    def __init__(self, length: int = 1, **sample) -> None:
        self.length, self.given = length, {"name": "a", **sample}

    def __len__(self) -> int:
        return self.length

    def sample(self, index, generator):
        return self.given


GREY, RED = torch.zeros(1, 8, 8), torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"length": 0}, ["the data set has no samples"]),
        ({"input": RED}, []),
        ({"input": RED, "name": 3}, ['sample 0: "name" must be a string']),
        ({"input": RED.double()}, ["sample 0: 'input' must be a float32 tensor, not torch.float64"]),
        ({"input": GREY}, ["sample 0: 'input' is (1, 8, 8), in_channels and size say (3, 8, 8)"]),
        ({"input": RED + 2}, ["sample 0: 'input' reaches 2: scale it to [-1, 1]"]),
        (
            {"input": ()},
            ["sample 0: 'input' must be a tensor, or a tuple of tensors"],
        ),
        (
            {"input": (RED + 2, torch.tensor([torch.nan]))},
            [
                "sample 0: input 0 reaches 2: scale it to [-1, 1]",
                "sample 0: input 1 holds NaN or infinite values",
            ],
        ),
        (
            {"input": (GREY, RED.half())},
            [
                "sample 0: input 1 is torch.float16: it must be float32, or int64 for class ids",
                "sample 0: inputs of (8, 8) have 4 channels, in_channels says 3",
            ],
        ),
    ],
)
def test_everything_wrong_with_a_data_set_of_ones_own_is_told(given, said):
    assert check(Faulty(**given)) == said
