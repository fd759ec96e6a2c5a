"""The public face: what `ganshrink` lists, verbs on a run's folder, and paths as strings or `Path`s."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import get_args, get_overloads, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ganshrink
from ganshrink.data import DataConfig, open_dataset, read_image, read_labels, write_png
from ganshrink.exporters import check_parity, export_onnx, open_session
from ganshrink.exporters.network import OnnxGenerator
from ganshrink.latency import measure_latency
from ganshrink.latency.profiles import read_profile, write_profile
from ganshrink.workflow import python_verbs, scoring, verbs
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import read_recipe, resolve
from ganshrink.workflow.saved_networks import NetworkSpec, load_network, read_spec, save_network
from made_up_device import profile_of
from telling import rest_exhaustive
from tiny_recipe import tiny

VERBS = (
    "trace prune extract compare compress train load predict evaluate export quantize measure report reconstruct "
    "save_pretrained from_pretrained"
)
ROOMS = "nets losses methods metrics data tasks"
IMAGE = torch.zeros(1, 3, 32, 32)
CONV = nn.Conv2d(3, 3, 1).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of the smallest kind, with its recipe beside it."""
    folder = tmp_path_factory.mktemp("face")
    training = {"teacher": {"max_steps": 1}, "student": {"max_steps": 1}}
    raw = tiny(folder / "run", latency={"seconds": 0.1}, metrics={"names": ["psnr"]}, **training)
    compress_recipe(resolve(raw), progress=False)
    picture = np.random.default_rng(0).integers(0, 12, (32, 32), np.uint8)
    Image.fromarray(picture).save(folder / "ids.png")
    return folder / "run"


def test_the_package_lists_its_verbs_and_rooms_and_imports_nothing_for_it():
    code = """
import sys
before = {*sys.modules}
import ganshrink
print(*dir(ganshrink))
print(*{*sys.modules} - before)
print(ganshrink.__version__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported, version = done.stdout.splitlines()
    assert set(names.split()) == {*VERBS.split(), *ROOMS.split(), "Plan", "Budget", "__version__"}
    assert (imported, version) == ("ganshrink", ganshrink.__version__)


def test_every_listed_name_is_there_and_explained():
    assert [name for name in dir(ganshrink) if not getattr(ganshrink, name).__doc__] == []
    assert all(callable(getattr(ganshrink, name)) for name in VERBS.split())
    assert all(inspect.ismodule(getattr(ganshrink, name)) for name in ROOMS.split())
    with pytest.raises(AttributeError, match="has no attribute 'compres'"):
        ganshrink.compres  # noqa: B018


@pytest.mark.parametrize(
    ("verb", "function"),
    [
        (python_verbs.evaluate, scoring.score),
        (python_verbs.export, export_onnx),
        (python_verbs.measure, measure_latency),
    ],
)
def test_what_a_verb_takes_for_networks_is_what_its_function_takes(verb, function):
    ours = inspect.signature(get_overloads(verb)[0]).parameters.values()
    theirs = inspect.signature(function).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.slow
def test_load_gives_the_student_of_a_run_or_the_network_of_a_file(run):
    student, teacher = ganshrink.load(run), ganshrink.load(run / "teacher.safetensors")
    again = ganshrink.load(run / "student.safetensors")
    assert isinstance(student, nn.Module) and not student.training and not teacher.training
    given = torch.rand(1, 3, 32, 32)
    assert torch.equal(student(given), again(given)) and not torch.equal(student(given), teacher(given))
    with pytest.raises(FileNotFoundError, match=r"holds no student.safetensors: is it the folder of a fin"):
        ganshrink.load(run / "samples")
    with pytest.raises(FileNotFoundError, match="there is no weights file none.safetensors"):
        ganshrink.load("none.safetensors")


def onnx_file(run: Path) -> Path:
    """An ONNX file, written once."""
    file = run / "conv.onnx"
    if not file.is_file():
        ganshrink.export(CONV, IMAGE, str(file), dynamic_batch=False)
    return file


def timed(run: Path, at) -> object:
    files = {"mine": at(onnx_file(run))}
    rows = ganshrink.measure({"student": CONV}, IMAGE, runtimes=["torch"], rounds=3, onnx_files=files)["rows"]
    return [row["network"] for row in rows]


def profiled(run: Path, at) -> object:
    """Write and read a device profile."""
    write_profile(profile_of(CONV, [IMAGE]), at(run / "device.toml"))
    return read_profile(at(run / "device.toml"))


def trained(run: Path, at) -> object:
    """Train by a recipe's file."""
    recipe = run.parent / "short.toml"
    recipe.write_text((run / "recipe.toml").read_text())
    return ganshrink.train(at(recipe), "run=" + str(run.parent / "trained"), progress=False)["params"]


def plain_weights(run: Path, at) -> object:
    save_file(CONV.state_dict(), run / "conv.safetensors")
    return list(ganshrink.nets.load_weights(at(run / "conv.safetensors"), CONV))


def saved(run: Path, at) -> object:
    spec = NetworkSpec(net={"name": "resnet9", "ngf": 4, "blocks": 1}, example=[[1, 3, 32, 32]])
    save_network(at(run / "net.safetensors"), ganshrink.nets.build(**spec.net), spec)
    return load_network(at(run / "net.safetensors"))[1] == read_spec(at(run / "net.safetensors"))


def compressed(run: Path, at) -> object:
    """Compress a module on pictures in a folder, with a run folder and weights given by path."""
    pictures = run.parent / "pictures"
    for split in ("train", "test"):
        (pictures / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(pictures / split / "a.png")
    outcome = ganshrink.compress(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)),
        data={"name": "photos", "photos": [at(pictures / "{split}")], "size": 16},
        method={"name": "uniform", "floor": 1},
        budget="macs=50%",
        task="image2image",
        run=at(run.parent / f"made-{at.__name__}"),
        student={"max_steps": 1, "accelerator": "cpu"},
        metrics={"squeezenet": at(run / "none"), "names": ["psnr_teacher"]},
        export={"onnx": False},
        latency={"enabled": False},
        progress=False,
    )
    return outcome.cost


def pictures(run: Path, at) -> object:
    write_png(at(run / "one.png"), np.zeros((4, 4, 3), np.uint8))
    return read_image(at(run / "one.png")).size, read_labels(at(run.parent / "ids.png")).shape


def data(run: Path, at) -> object:
    for side in ("trainA", "trainB"):
        (run.parent / "two" / side).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(run.parent / "two" / side / "a.png")
    config = DataConfig(name="unpaired", root=at(run.parent / "two"), size=16)
    return config, open_dataset(config, "train").fingerprint()


CALLS = {
    "load a run": lambda run, at: list(ganshrink.load(at(run)).state_dict()),
    "load a file": lambda run, at: list(ganshrink.load(at(run / "teacher.safetensors")).state_dict()),
    "load_networks": lambda run, at: list(verbs.load_networks(at(run))),
    "predict": lambda run, at: ganshrink.predict(at(run), at(run.parent / "ids.png"), at(run / "out.png")),
    "evaluate": lambda run, at: ganshrink.evaluate(at(run)),
    "export": lambda run, at: open_session(at(onnx_file(run))).get_inputs()[0].shape,
    "parity": lambda run, at: check_parity(at(onnx_file(run)), CONV, [IMAGE]),
    "file": lambda run, at: OnnxGenerator(at(onnx_file(run)))(IMAGE).shape,
    "measure": timed,
    "report": lambda run, at: ganshrink.report(at(run)),
    "read_recipe": lambda run, at: read_recipe(at(run / "recipe.toml")),
    "train": trained,
    "compress": compressed,
    "load_weights": plain_weights,
    "save_network": saved,
    "profile": profiled,
    "pictures": pictures,
    "data": data,
}


TOLD = {
    "load a run",
    "load a file",
    "predict",
    "report",
    "read_recipe",
    "compress",
    "pictures",
    "data",
    "save_network",
}


# `export`, `measure` and `quantize` on a run's folder are in workflow/test_int8.py.
@pytest.mark.slow
@pytest.mark.parametrize(
    "call", rest_exhaustive(CALLS.values(), [CALLS[name] for name in TOLD].__contains__), ids=CALLS
)
def test_a_path_is_a_string_or_a_path(call, run):
    assert call(run, str) == call(run, Path) != None  # noqa: E711


PUBLIC = (
    "data exporters latency metrics metrics.inception metrics.squeezenet metrics.vgg nets pruning quant reports "
    "workflow.compress workflow.predict workflow.python_verbs workflow.recipe workflow.saved_networks workflow.verbs"
)


def test_no_public_function_asks_for_a_path_alone():
    seen, alone = 0, []
    for room in PUBLIC.split():
        module = import_module(f"ganshrink.{room}")
        names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
        functions = {name: f for name in names if inspect.isfunction(f := getattr(module, name))}
        for name, function in functions.items():
            if not function.__module__.startswith(f"ganshrink.{room}"):
                continue  # it came from elsewhere
            for parameter, hint in get_type_hints(function).items():
                kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
                if parameter != "return" and Path in kinds:
                    seen += 1
                    alone += [f"{room}.{name}({parameter})"] * (str not in kinds)
    assert seen > 20 and alone == []
