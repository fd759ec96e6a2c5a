"""`ganshrink measure --device-profile` as a user meets it, in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
import torch
from typer.testing import CliRunner

from ganshrink import nets
from ganshrink.cli.main import app
from ganshrink.latency import layer_times, profile_device
from ganshrink.latency.layers import layers_of
from ganshrink.latency.profiles import read_profile, same_layers
from ganshrink.workflow import verbs
from ganshrink.workflow.saved_networks import NetworkSpec, save_network
from tiny_recipe import tiny


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(profile_device, "ROUNDS", 4)
    monkeypatch.setattr(layer_times, "RUNS", 2)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(tiny(tmp_path / "run", net={"name": "resnet9", "ngf": 4, "blocks": 1})))
    return path


@pytest.fixture
def measure() -> Callable[..., str]:
    def run(*words: object) -> str:
        done = CliRunner().invoke(app, ["measure", *map(str, words)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    return run


def network():
    return nets.build("resnet9", ngf=4, blocks=1)


IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_recipe_is_enough(recipe: Path, measure, tmp_path: Path) -> None:
    out = tmp_path / "there" / "phone.toml"
    told = measure(recipe, "--device-profile", out, "--runtime", "torch", "--threads", 1)
    profile = read_profile(out)
    assert told.strip() == f"{out}: {profile.summary()}"
    assert profile.threads == 1 and profile.runtime == "torch"
    assert same_layers(profile, layers_of(network(), [IMAGE]))
    assert not (tmp_path / "run").exists()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_whole_network_of_a_run(measure, tmp_path: Path) -> None:
    folder, out = tmp_path / "run", tmp_path / "phone.toml"
    folder.mkdir()
    spec = NetworkSpec(net={"name": "resnet9", "ngf": 4, "blocks": 1}, example=[[1, 3, 32, 32]])
    for name in ("teacher", "student"):
        save_network(folder / f"{name}.safetensors", network(), spec)
    told = measure(folder, "--device-profile", out, "--runtime", "torch", "--threads", 1, "--json")
    profile = read_profile(out)
    assert json.loads(told) == json.loads(profile.model_dump_json())
    assert same_layers(profile, layers_of(network(), [IMAGE]))


@pytest.mark.slow
def test_what_it_refuses(recipe: Path, measure, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "phone.toml"
    for words, message in (
        (
            (recipe, "--device-profile", tmp_path / "phone"),
            "a device profile is a TOML file: name it phone.toml",
        ),
        ((recipe, "--device-profile", out, "--device", "cuda"), "torch finds no CUDA device here"),
        ((recipe, "--device-profile", out, "--device", "gpu"), "the device must be cpu or cuda, got 'gpu'"),
        ((recipe, "--device-profile", out, "--runtime", "tvm"), "the runtime must be one of .* got 'tvm'"),
        ((tmp_path, "--runtime", "torch"), "give --device-profile OUT.toml"),
        ((tmp_path, "--device", "cuda"), "give --device-profile OUT.toml"),
    ):
        with pytest.raises(ValueError, match=message) as told:
            measure(*words)
        assert "\n" not in str(told.value)
    with pytest.raises(FileNotFoundError, match="is it the folder of a finished run"):
        measure(tmp_path, "--device-profile", out)
    with pytest.raises(FileNotFoundError, match="there is no recipe"):
        measure(tmp_path / "none.toml", "--device-profile", out)
    assert not out.exists()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_from_python(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "phone.toml"
    assert verbs.profile_device(recipe, out, runtime="torch", threads=1) == read_profile(out)
