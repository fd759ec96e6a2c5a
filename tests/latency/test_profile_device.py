"""A look at this machine, in torch, where nothing has to be exported. What follows from times is tested with made-up ones;
of real ones no more than that they are there."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganshrink.graph import trace
from ganshrink.latency import layer_times, profile_device
from ganshrink.latency.backends import Device
from ganshrink.latency.layers import Shape, layers_of
from ganshrink.latency.measuring import torch_threads
from ganshrink.latency.profile_device import measure_profile
from ganshrink.latency.profiles import DeviceProfile, same_layers
from ganshrink.latency.shares import Rounds
from ganshrink.pruning import Plan
from ganshrink.system.machine import core_count, cpu_name
from made_up_device import formula

IMAGE = torch.zeros(1, 3, 16, 24)


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Conv2d(3, 40, 3, padding=1))
        self.same = nn.ModuleList(nn.Conv2d(40, 40, 3, padding=1) for _ in range(2))
        self.depthwise = nn.Conv2d(40, 80, 3, padding=1, groups=40)
        self.last = nn.ConvTranspose2d(80, 3, 4, stride=2, padding=1)

    def forward(self, x):
        x = self.first(x)
        for conv in self.same:
            x = x + conv(torch.relu(x))
        return self.last(self.depthwise(x))


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_device, "ROUNDS", 5)
        patch.setattr(layer_times, "RUNS", 2)
        yield


@pytest.fixture(scope="module")
def looked(quick) -> tuple[nn.Module, DeviceProfile]:
    torch.manual_seed(0)
    network = Trunk().eval()
    return network, measure_profile(network, [IMAGE], Device("torch", 1))


def blocks_of_8(shape: Shape, inside: int, outside: int, device: Device) -> float:
    """A device that computes 8 channels as fast as one."""
    return formula(shape, -(-inside // 8) * 8, -(-outside // 8) * 8)


def three_rounds(runs: Sequence[Any], **_: Any) -> Rounds:
    """Of networks that run, and take as long as these numbers say."""
    for run in runs:
        run()
    wall = np.array([[8.0, 5.0, 3.0, 2.5][: len(runs)]] * 3) * [[1.0], [2.0], [1.5]]
    return Rounds(wall, wall)


@pytest.fixture(scope="module")
def made_up(quick) -> tuple[nn.Module, DeviceProfile]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_device, "time_layer", blocks_of_8)
        patch.setattr(layer_times, "time_layer", blocks_of_8)
        patch.setattr(profile_device, "interleave", three_rounds)
        network = Trunk().eval()
        return network, measure_profile(network, [IMAGE], Device("torch", 1))


@pytest.mark.slow
def test_it_says_where_it_looked_and_times_are_above_0(looked) -> None:
    network, profile = looked
    assert (profile.machine.name, profile.machine.cores) == (cpu_name(), core_count())
    assert (profile.runtime, profile.version, profile.threads) == ("torch", torch.__version__, 1)
    assert profile.place == Device("torch", 1) and profile.original > 0
    assert same_layers(profile, layers_of(network, [IMAGE]))
    assert all(time > 0 for times in profile.layer for row in times.ms for time in row)


def test_every_layer_at_widths_that_the_device_likes(made_up) -> None:
    _, profile = made_up
    assert profile.step == 8
    table = {weight: times for times in profile.layer for weight in times.weights}
    assert table["same.0.weight"] is table["same.1.weight"]  # alike, so timed once
    assert table["first.weight"].inside == [3]  # the image is not cut
    assert table["last.weight"].outside == [3]
    assert table["first.weight"].outside == [1, 2, 4, 8, 16, 32, 40]
    assert table["last.weight"].inside == [1, 2, 4, 8, 16, 32, 40, 64, 80]
    assert table["depthwise.weight"].outside == [80] and table["depthwise.weight"].inside[-1] == 40
    for times in profile.layer:
        for a, row in zip(times.inside, times.ms, strict=True):
            wide = [a * 2] if times.shape.depthwise else times.outside
            assert row == [round(blocks_of_8(times.shape, a, b, profile.place), 5) for b in wide]


@pytest.mark.slow
def test_the_fit_is_to_what_whole_networks_took(made_up) -> None:
    network, profile = made_up
    channels = trace(network, IMAGE)
    assert profile.original == 10  # the lower quartile of 8, 12 and 16
    estimate = profile.times()(channels, channels.full_widths())
    assert abs(estimate / profile.original - 1) <= profile.fit.off_by + 1e-9 < 0.5
    narrow = profile.times()(channels, channels.widths(Plan.random(channels, 0.9)))
    assert 0 < narrow < estimate


def test_the_network_and_the_threads_stay_as_they_are(quick) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch_threads(3):
        measure_profile(network, [IMAGE], Device("torch", 1))
        assert torch.get_num_threads() == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_runtime_that_takes_files(quick, monkeypatch) -> None:
    monkeypatch.setattr(profile_device, "SHARES", (1.0, 0.5))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
    profile = measure_profile(network, [IMAGE], Device("onnxruntime", 1))
    assert profile.runtime == "onnxruntime" and profile.original > 0 and len(profile.layer) == 2


@pytest.mark.parametrize("width", [24, 64])
def test_layers_in_groups(width: int, quick) -> None:
    middle = nn.Conv2d(width, width, 3, padding=1, groups=4)
    network = nn.Sequential(nn.Conv2d(3, width, 3), middle, nn.Conv2d(width, 3, 3)).eval()
    profile = measure_profile(network, [IMAGE], Device("torch", 1))
    assert same_layers(profile, layers_of(network, [IMAGE]))
