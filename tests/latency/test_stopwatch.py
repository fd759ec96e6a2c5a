"""Plans that are exported and run; how long they take is not asserted, but what becomes of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ganshrink.exporters.runtime import runtime_version
from ganshrink.graph import trace
from ganshrink.latency import plan_by_timing
from ganshrink.latency.plan_by_timing import Stopwatch, TooSlow, plan_within_time
from ganshrink.latency.profiles import DeviceProfile
from ganshrink.latency.shares import Rounds
from ganshrink.pruning import Budget, Plan, add_affine
from ganshrink.pruning.budget import Limit
from made_up_device import profile_of
from telling import rest_exhaustive

RUNTIMES = ["torch", "onnxruntime"]
IMAGE = torch.zeros(1, 3, 16, 24)


def network() -> nn.Module:
    norm = nn.InstanceNorm2d(8)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()


def profile(runtime: str = "torch", **facts) -> DeviceProfile:
    version = runtime_version(runtime)
    return profile_of(network(), [IMAGE], runtime=runtime, version=version, original=20.0, **facts)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch) -> None:
    monkeypatch.setattr(plan_by_timing, "ROUNDS", 4)


@pytest.fixture
def unscalable(monkeypatch):
    """From the call on nothing can be run."""

    def refuse(*args, **options) -> None:
        raise AssertionError("a network was run")

    return lambda: monkeypatch.setattr(plan_by_timing, "network_run", refuse)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", rest_exhaustive(RUNTIMES, "torch".__eq__))
def test_a_plan_is_run_and_remembered(runtime: str, tmp_path: Path, unscalable) -> None:
    net, file = network(), tmp_path / "search.json"
    channels, before = trace(net, IMAGE), torch.get_num_threads()
    half = Plan.random(channels, 0.5)
    watch = Stopwatch(profile(runtime), net, [IMAGE], file)
    assert not watch.measured()
    time = watch(net, channels, half)
    assert torch.get_num_threads() == before
    kept = json.loads(file.read_text())
    assert kept["device"] == profile(runtime).describe() and list(kept) == ["device", "measured"]
    (entry,) = kept["measured"].values()
    assert time == entry["share"] * 20 > 0
    unscalable()
    assert watch(net, channels, half) == time
    assert Stopwatch(profile(runtime), net, [IMAGE], file)(net, channels, half) == time


def test_what_the_file_says_counts(tmp_path: Path, unscalable) -> None:
    net, file = network(), tmp_path / "search.json"
    channels = trace(net, IMAGE)
    plans = Plan.full(channels), Plan.random(channels, 0.5)
    for plan in plans:
        Stopwatch(profile(), net, [IMAGE], file)(net, channels, plan)
    kept = json.loads(file.read_text())
    assert len(kept["measured"]) == 2
    for share, entry in zip((0.25, 0.125), kept["measured"].values(), strict=True):
        entry["share"] = share
    file.write_text(json.dumps(kept))
    unscalable()
    watch = Stopwatch(profile(), net, [IMAGE], file)
    assert [watch(net, channels, plan) for plan in plans] == [5.0, 2.5]
    slower = Stopwatch(profile().model_copy(update={"original": 200.0}), net, [IMAGE], file)
    assert slower(net, channels, plans[0]) == 50.0  # shares are what is measured


def test_which_channels_stay_takes_no_time_but_how_many(tmp_path: Path, unscalable) -> None:
    net, file = network(), tmp_path / "search.json"
    channels = trace(net, IMAGE)
    watch = Stopwatch(profile(), net, [IMAGE], file)
    time = watch(net, channels, Plan.random(channels, 0.5, seed=0))
    other = Plan.random(channels, 0.5, seed=1)
    assert other != Plan.random(channels, 0.5, seed=0)
    affine = add_affine(net).eval()
    again = network(), trace(network(), IMAGE)  # other weights
    unscalable()
    assert watch(net, channels, other) == watch(*again, other) == time
    scaled = trace(affine, IMAGE)
    for asked in (
        lambda: watch(net, channels, Plan.random(channels, 0.25)),
        lambda: watch(affine, scaled, Plan.random(scaled, 0.5)),  # norms with scales are other networks
        lambda: Stopwatch(profile(), net, [IMAGE[..., :16]], file)(net, channels, other),
        lambda: Stopwatch(profile(), net[:3], [IMAGE], file)(net, channels, other),
    ):
        with pytest.raises(AssertionError, match="a network was run"):
            asked()


@pytest.mark.parametrize("other", [{"version": "0.1"}, {"machine": "another"}])
def test_a_file_of_another_device_is_not_believed(other: dict, tmp_path: Path) -> None:
    net, file = network(), tmp_path / "search.json"
    channels, half = trace(net, IMAGE), Plan.random(trace(net, IMAGE), 0.5)
    here = profile("torch")
    if "machine" in other:
        other = {"machine": here.machine.model_copy(update={"name": other["machine"]})}
    elsewhere = Stopwatch(here.model_copy(update=other), net, [IMAGE], file)
    elsewhere(net, channels, half)
    kept = json.loads(file.read_text())
    for entry in kept["measured"].values():
        entry["share"] = 1e9
    file.write_text(json.dumps(kept))
    assert elsewhere(net, channels, half) == 2e10
    watch = Stopwatch(here, net, [IMAGE], file)
    assert watch.measured() == {}
    assert watch(net, channels, half) < 2e10
    assert json.loads(file.read_text())["device"] == here.describe()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        "{device}",
    ],
)
def test_a_damaged_file_is_measured_again(content: str, tmp_path: Path) -> None:
    net, file = network(), tmp_path / "search.json"
    channels, here = trace(net, IMAGE), profile("torch")
    file.write_text(content.replace("{device}", json.dumps({"device": here.describe()})))
    assert Stopwatch(here, net, [IMAGE], file)(net, channels, Plan.full(channels)) > 0
    assert len(json.loads(file.read_text())["measured"]) == 1


def test_a_plan_that_cannot_be_carried_out_is_not_remembered(tmp_path: Path) -> None:
    net, file = network(), tmp_path / "search.json"
    channels = trace(net, IMAGE)
    nothing = replace(Plan.full(channels), keep=torch.zeros(channels.num_atoms, dtype=torch.bool))
    with pytest.raises(ValueError, match="is frozen|at least one must stay"):
        Stopwatch(profile("torch"), net, [IMAGE], file)(net, channels, nothing)
    assert not file.exists()


class Planted:
    """Rounds as a busy machine has them, a few at a time; it notes how often it was asked."""

    def __init__(self, *, original: tuple[float, ...], candidate: tuple[float, ...]) -> None:
        self.times, self.asked = np.stack([np.resize(one, 24) for one in (original, candidate)], axis=1), 0

    def __call__(self, runs, **options) -> Rounds:
        self.asked += 1
        return Rounds(self.times, np.tile(self.times.min(axis=0), (24, 1)))


@pytest.mark.parametrize(("threads", "by", "busy"), [(1, "cpu", False), (2, "wall", True)])
def test_a_busy_machine_is_told(
    threads: int, by: str, busy: bool, tmp_path: Path, monkeypatch, caplog
) -> None:
    """Of 20 ms a candidate takes 8, but other programs have their turns. Of one thread the processor time is known."""
    planted = Planted(original=(20, 20, 40, 40), candidate=(8, 24, 8, 60))
    monkeypatch.setattr(plan_by_timing, "interleave", planted)
    monkeypatch.setattr(plan_by_timing, "ROUNDS", 24)
    net, file = network(), tmp_path / "search.json"
    channels = trace(net, IMAGE)
    watch = Stopwatch(profile(threads=threads), net, [IMAGE], file)
    time, low, high = watch.look(net, channels, Plan.full(channels))
    assert time == pytest.approx(8.0) and (high - low > 0.2 * time) == busy
    (entry,) = watch.measured().values()
    assert entry["by"] == by and entry["rounds"] == 24 * planted.asked
    assert ("this machine is busy" in caplog.text) == busy
    # What cannot be told is neither met nor refused for good.
    limit = Limit("latency", 7.5, times=lambda channels, widths: 1.0)
    with pytest.raises(ValueError, match="cannot be met" if not busy else "not measurable here") as told:
        plan_within_time(lambda budget: Plan.full(channels), Budget((limit,)), watch, net, channels)
    assert isinstance(told.value, TooSlow) != busy
