"""What makes each group's channels takes so many milliseconds, read from a device profile: each group's by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganshrink.graph import trace
from ganshrink.latency.profiles import DeviceProfile, Fit
from ganshrink.methods.decig.decig import layer_factors
from ganshrink.pruning import Channels
from made_up_device import profile_of

IMAGE = torch.zeros(1, 3, 16, 24)
FIT = Fit(layers=0.8, nanoseconds=250.0, constant=0.25, off_by=0.04)


class Small(nn.Module):
    """A trunk that two layers add up to, one of them called twice; depthwise and transposed layers; a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.hidden = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.filter = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up = nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1)
        self.last = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x):
        trunk = self.first(x)
        trunk = trunk + self.twice(F.relu(trunk))
        trunk = trunk + self.twice(F.relu(trunk))
        up = self.up(F.relu(self.filter(F.relu(self.hidden(trunk)))))
        return self.last(torch.cat([up, trunk], 1))


def one_call(profile: DeviceProfile, weight: str) -> float:
    """Alone, counted as the fit does, with what is done to the numbers that the layer makes."""
    (times,) = [times for times in profile.layer if weight in times.weights]
    height, width = times.shape.made
    numbers = times.outside[-1] * height * width
    return 0.8 * times.ms[-1][-1] + 250.0 * numbers / 1e6


def times_of(channels: Channels, profile: DeviceProfile) -> dict[str, float]:
    """Of the groups that may be cut, by name."""
    times = zip(channels.groups, profile.times().by_group(channels), strict=True)
    return {group.name: time for group, time in times if group.frozen is None}


@pytest.fixture(scope="module")
def small():
    network = Small().eval()
    profile = profile_of(network, [IMAGE], fit=FIT)
    return trace(network, IMAGE), profile, lambda weight: one_call(profile, f"{weight}.weight")


def test_each_group_takes_what_makes_it_takes(small) -> None:
    channels, profile, call = small
    assert times_of(channels, profile) == pytest.approx(
        {
            "first": call("first") + 2 * call("twice"),  # both calls of the second layer
            "hidden": call("hidden") + call("filter"),
            "up": call("up"),
        }
    )


def test_a_layer_is_weighed_by_one_of_its_makers(small) -> None:
    channels, profile, _ = small
    times = times_of(channels, profile)
    times["first"] /= 2
    mean = sum(times.values()) / 3
    assert layer_factors(channels, profile) == pytest.approx({k: t / mean for k, t in times.items()})


def test_frozen_layers_are_nobodys(small) -> None:
    """The last layer makes the image: it reads the trunk, but no group pays for it."""
    channels, profile, call = small
    whole = sum(profile.times().by_weight(channels, channels.full_widths()).values())
    assert sum(times_of(channels, profile).values()) == pytest.approx(whole - call("last"))


def test_channels_that_no_layer_makes() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.constant = nn.Parameter(torch.randn(1, 5, 1, 1))
            self.reads = nn.Conv2d(5, 3, 1)

        def forward(self, x):
            return x + self.reads(F.relu(self.constant).expand(-1, -1, 16, 24))

    network = Learned().eval()
    channels = trace(network, IMAGE)
    times = times_of(channels, profile_of(network, [IMAGE], fit=FIT))
    assert times and set(times.values()) == {0}
