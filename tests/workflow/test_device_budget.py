"""Budgets in milliseconds: what every method must do with one, on a network whose layers take the time."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.latency import devices, layer_times, plan_by_timing, profile_device
from ganshrink.latency.layers import layers_of
from ganshrink.latency.plan_by_timing import Stopwatch
from ganshrink.latency.profiles import DeviceProfile, Machine, read_profile, write_profile
from ganshrink.methods import METHODS
from ganshrink.system.machine import core_count, cpu_name
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import Recipe, read_recipe
from made_up_device import formula, profile_of
from telling import rest_exhaustive
from tiny_recipe import stages

pytestmark = pytest.mark.slow

SMALL = (
    *("net.name=resnet6", "net.ngf=16", "net.blocks=1", "task.ndf=4", "data.size=32"),
    *("data.counts={train=4, val=2, test=2}", "teacher.batch_size=2", "teacher.max_steps=2"),
    *("metrics.names=['psnr_teacher']", "export.onnx=false", "latency.enabled=false"),
    *("latency.runtime=torch", "latency.threads=1"),
)
FEW = ("method.search.population=2", "method.search.generations=1")
# what a search of two steps needs to arrive
HURRY = {"dmad": ("method.search.lambda_spa=1.0", "method.search.mask_lr=0.6")}


def recipe_of(method: str, folder: Path, budget: str, *overrides: str) -> Recipe:
    """The quick recipe of a method with the network of `here`; `uniform` has none, and takes CAT's."""
    path = Path(f"recipes/{'cat' if method == 'uniform' else method}/quick.toml")
    words = [f"run={folder}", *SMALL, *HURRY.get(method, ()), f"budget={budget}", *overrides]
    if method == "uniform":
        words = ["method={name='uniform'}", *words]
    return read_recipe(path, words)


IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A profile of this machine for the network of all these recipes, made up: what else runs here decides nothing."""
    network = nets.build("resnet6", ngf=16, blocks=1).eval()
    channels = trace(network, IMAGE)
    profile = profile_of(network, [IMAGE], step=4, machine=Machine(name=cpu_name(), cores=core_count()))
    whole = profile.times()(channels, channels.full_widths())
    file = tmp_path_factory.mktemp("here") / "device-cpu.toml"
    write_profile(profile.model_copy(update={"original": whole}), file)
    return file


def measure(watch: Stopwatch, network: nn.Module) -> dict[str, float]:
    """Of the original's time: of narrow networks more than the profile says, as on real devices."""

    def time(net: nn.Module) -> float:
        return (
            sum(formula(one.shape, one.inside, one.outside) for one in layers_of(net, watch.example)) ** 0.8
        )

    return {"share": time(network) / time(watch.original)}


@pytest.fixture
def steady(monkeypatch) -> None:
    """Times that are the same whatever else this machine does; that plans really run is in latency/test_stopwatch.py."""
    monkeypatch.setattr(Stopwatch, "_measure", measure)


def compress(recipe: Recipe, device: Path | None = None) -> dict[str, Any]:
    """cost.json of a run; one that is given a profile of this machine need not look at it."""
    folder = recipe.run
    if device is not None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(device, folder / "device-cpu.toml")
    compress_recipe(recipe, progress=False)
    return json.loads((folder / "cost.json").read_text())


def groups(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "plan.json").read_text())["groups"]


def measured(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "latency-search.json").read_text())["measured"]


def unscalable(monkeypatch) -> None:
    """From now on nothing can be timed."""

    def refuse(*args, **options) -> None:
        raise AssertionError("something was timed")

    monkeypatch.setattr(Stopwatch, "_measure", refuse)
    monkeypatch.setattr(devices, "measure_profile", refuse)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("method", rest_exhaustive(METHODS, "cat".__eq__))
def test_every_method_keeps_a_budget_in_milliseconds(
    method: str, here: Path, tmp_path: Path, monkeypatch
) -> None:
    """The others do below: beside MACs, with inserted blocks, by a profile's file, from a narrow start."""
    recipe, profile = recipe_of(method, tmp_path / "run", "latency=80%@cpu"), read_profile(here)
    cost = compress(recipe, here)
    limit, timing = cost["budget"]["resolved"]["latency"], cost["budget"]["timing"]
    assert limit == pytest.approx(0.8 * profile.original)
    assert 0 < timing["measured_ms"] <= limit
    assert (timing["device"], timing["runtime"]) == (profile.describe(), "torch")
    assert timing["original_ms"] == profile.original and timing["estimated_ms"] > 0
    assert timing["measured_ms"] in [one["share"] * profile.original for one in measured(recipe.run).values()]
    assert all(one["kept"] in (0, one["of"]) or one["kept"] % profile.step == 0 for one in groups(recipe.run))
    assert any(one["kept"] < one["of"] for one in groups(recipe.run))
    assert cost["student"]["macs"]["exact"] < cost["teacher"]["macs"]["exact"]

    before = stages(recipe.run)
    names = ("cost.json", "plan.json", "device-cpu.toml", "latency-search.json", "student.safetensors")
    files = {name: hash((recipe.run / name).read_bytes()) for name in names}
    unscalable(monkeypatch)
    compress(recipe)
    assert stages(recipe.run) == before
    assert {name: hash((recipe.run / name).read_bytes()) for name in names} == files


@pytest.mark.exhaustive
def test_a_run_looks_at_the_machine_itself_where_nobody_has(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(profile_device, "ROUNDS", 6)
    monkeypatch.setattr(layer_times, "RUNS", 2)
    monkeypatch.setattr(plan_by_timing, "ROUNDS", 30)
    options = ("method.teaching=scratch", "net.ngf=64", "data.size=32")
    cost = compress(recipe_of("uniform", tmp_path / "run", "latency=90%@cpu", *options))
    profile = read_profile(tmp_path / "run" / "device-cpu.toml")
    assert profile.machine.name == cpu_name() and profile.threads == 1
    assert cost["budget"]["timing"]["measured_ms"] <= 0.9 * profile.original


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("method", "budget"),
    [
        pytest.param("cat", "latency=90%@cpu,macs=20%", marks=pytest.mark.exhaustive),
        pytest.param("cat", "latency=50%@cpu, macs=95%", marks=pytest.mark.exhaustive),
        ("decig", "macs=30%,latency=70%@cpu"),
    ],
)
def test_other_limits_hold_beside_it(method: str, budget: str, here: Path, tmp_path: Path) -> None:
    cost = compress(recipe_of(method, tmp_path / "run", budget), here)
    limits = cost["budget"]["resolved"]
    assert set(limits) == {"latency", "macs"}
    assert cost["budget"]["timing"]["measured_ms"] <= limits["latency"]
    assert cost["student"]["macs"]["exact"] <= limits["macs"] < cost["teacher"]["macs"]["exact"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("steady")
def test_widths_by_hand_count(here: Path, tmp_path: Path) -> None:
    recipe = recipe_of("cat", tmp_path / "run", "latency=60%@cpu", "method.round_to=12")
    compress(recipe, here)
    kept = [(one["kept"], one["of"]) for one in groups(recipe.run)]
    assert any(some < whole for some, whole in kept)
    assert all(some == whole or some % 12 == 0 for some, whole in kept)


# Steps that are too coarse


def no_slack(watch: Stopwatch, network: nn.Module) -> dict[str, float]:
    """Of the original's time: of networks whose convolutions all are wider than 4 more than the budget of 70 %."""
    narrow = any(one.outside <= 4 or one.inside <= 4 for one in layers_of(network, watch.example)[1:-1])
    return {"share": 0.6 if narrow else 0.8}


@pytest.mark.exhaustive
def test_the_step_is_halved_when_nothing_of_it_is_fast_enough(
    here: Path, tmp_path: Path, monkeypatch
) -> None:
    """By the profile networks of the step of 8 would do; as measured none does. Nothing is trained before that is known."""
    monkeypatch.setattr(Stopwatch, "_measure", no_slack)
    recipe = recipe_of("ugc", tmp_path / "run", "latency=70%@cpu", "method.supernet.floor=1")
    compress(recipe, here)
    kept = [(one["kept"], one["of"]) for one in groups(recipe.run)]
    assert all(some % 4 == 0 or some == whole for some, whole in kept)
    assert any(some % 8 for some, whole in kept if some < whole)
    assert not [name for name in stages(recipe.run) if "." in name]  # no stage was put aside


def test_a_step_by_hand_is_meant(here: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Stopwatch, "_measure", no_slack)
    told = refused(recipe_of("cat", tmp_path / "run", "latency=70%@cpu", "method.search.round_to=8"), here)
    assert (
        "the fastest network takes" in told and "lower" in told and "method.search.round_to (now 8)" in told
    )
    assert not stages(tmp_path / "run")


# What cannot be met


def refused(recipe: Recipe, here: Path | None = None) -> str:
    with pytest.raises(ValueError) as told:
        compress(recipe, here)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("method", rest_exhaustive(METHODS, {"cat", "uniform", "dmad"}.__contains__))
def test_a_time_that_no_network_keeps_is_refused_at_once(method: str, here: Path, tmp_path: Path) -> None:
    recipe = recipe_of(method, tmp_path / "run", "latency=0.01ms@cpu")
    told = refused(recipe, here)
    assert re.search(r"latency=.*cannot be met; the smallest|cannot be met: the fastest network takes", told)
    assert method != "cat" or "latency=0.01ms@cpu" in told  # as it was given
    floor = float(re.findall(r"([\d.]+) ?ms", told)[-1])
    assert 0.01 < floor < read_profile(here).original
    assert not stages(recipe.run)  # nothing was trained


@pytest.mark.usefixtures("steady")
def test_other_limits_that_cannot_be_met(here: Path, tmp_path: Path) -> None:
    told = refused(recipe_of("uniform", tmp_path / "run", "latency=90%@cpu,macs=10"), here)
    assert "macs=10 " in told.replace(",", " ") and "smallest reachable cost" in told
    assert "inf" not in told
    assert not (tmp_path / "run" / "latency-search.json").exists()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("limit", ["latency=60%@cpu", "macs=60%"])
def test_a_narrow_start_may_be_over_the_budget(limit: str, here: Path, tmp_path: Path) -> None:
    """The search comes after."""
    overrides = ("method.variant=d+cp", "method.width=1.0", "method.quantization={activations='fixed'}")
    budget = compress(recipe_of("gan_slimming", tmp_path / "run", limit, *overrides), here)["budget"]
    assert "timing" not in budget or budget["timing"]["measured_ms"] <= budget["resolved"]["latency"]


# Devices that are not here


def phone(here: Path, file: Path, *, slower: float = 5.0) -> DeviceProfile:
    """The same network on another machine, so many times slower."""
    profile = read_profile(here)
    layers = [
        one.model_copy(update={"ms": [[slower * time for time in row] for row in one.ms]})
        for one in profile.layer
    ]
    fit = profile.fit.model_copy(
        update={"nanoseconds": slower * profile.fit.nanoseconds, "constant": slower * profile.fit.constant}
    )
    machine = profile.machine.model_copy(update={"name": "a phone", "cores": 8})
    changes = {"machine": machine, "original": slower * profile.original, "layer": layers, "fit": fit}
    write_profile(profile.model_copy(update=changes), file)
    return read_profile(file)


@pytest.mark.parametrize("method", ["cat", pytest.param("dmad", marks=pytest.mark.exhaustive)])
def test_another_machine_is_believed_without_measuring(
    method: str, here: Path, tmp_path: Path, monkeypatch, caplog
) -> None:
    file = tmp_path / "phone.toml"
    profile = phone(here, file)
    unscalable(monkeypatch)
    with caplog.at_level(logging.WARNING, "ganshrink"):
        cost = compress(recipe_of(method, tmp_path / "run", f"latency=70%@{file}"))
    warnings = " ".join(record.getMessage() for record in caplog.records)
    assert "a phone, 8 cores" in warnings and cpu_name() in warnings and "decides alone" in warnings
    timing, limit = cost["budget"]["timing"], cost["budget"]["resolved"]["latency"]
    assert timing["measured_ms"] is None and 0 < timing["estimated_ms"] <= limit
    assert limit == pytest.approx(0.7 * profile.original)
    assert not (tmp_path / "run" / "device-cpu.toml").exists()
    assert not (tmp_path / "run" / "latency-search.json").exists()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "by a device profile of a phone, torch" in page and "alone: it was not measured" in page


@pytest.mark.usefixtures("steady")
def test_this_machine_by_its_file(here: Path, tmp_path: Path) -> None:
    """A profile that was made here beforehand is as good as cpu: plans are measured."""
    cost = compress(recipe_of("uniform", tmp_path / "run", f"latency=70%@{here}", "method.teaching=scratch"))
    assert 0 < cost["budget"]["timing"]["measured_ms"] <= 0.7 * read_profile(here).original
    assert not (tmp_path / "run" / "device-cpu.toml").exists()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "measured in PyTorch beside the original" in page and "when its plan was accepted" in page


@pytest.mark.parametrize(
    "method",
    ["uniform", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("cat", "decig"))],
)
def test_a_profile_with_other_times_is_another_budget(method: str, here: Path, tmp_path: Path) -> None:
    file = tmp_path / "phone.toml"
    profile = phone(here, file)
    recipe = recipe_of(method, tmp_path / "run", f"latency={0.7 * profile.original:.4f}ms@{file}")
    first = compress(recipe)
    phone(here, file, slower=7.0)
    second = compress(recipe)
    assert second["budget"]["timing"]["estimated_ms"] <= second["budget"]["resolved"]["latency"]
    assert second["student"]["params"] < first["student"]["params"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("steady")
def test_inserted_blocks_are_no_way_past_a_budget_as_long_as_the_original(here: Path, tmp_path: Path) -> None:
    """Other methods keep the whole network then; with inserted blocks the whole is slower than the original."""
    recipe = recipe_of("ugc", tmp_path / "run", "latency=100%@cpu", "method.extra_blocks=1", *FEW)
    budget = compress(recipe, here)["budget"]
    assert 0 < budget["timing"]["measured_ms"] <= budget["resolved"]["latency"]
