"""Device profiles: how long the layers of one network take on one machine in one runtime, at a grid of widths.

They estimate what any cut of that network takes, in microseconds of looking up, where exporting and running it takes
seconds: good enough to steer a search. What a plan really takes is measured before it is accepted (`settling.py`).
"""

import hashlib
import math
import tomllib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
import tomli_w
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ganshrink.latency.backends import Device, Place
from ganshrink.latency.layers import Layer, Shape
from ganshrink.nets.extra_blocks import in_extra_block
from ganshrink.pruning import Channels
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.cost import Mask
from ganshrink.system.atomic import write_text

Floats = NDArray[np.float64]


class Machine(BaseModel):
    """What was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the processor's or the accelerator's model name")
    cores: int = Field(description="logical cores that the process could use")
    mhz: float | None = Field(default=None, description="clock at the time, where the system tells")
    governor: str | None = Field(default=None, description="what sets the clock, where the system tells")


class LayerTimes(BaseModel):
    """One layer at a grid of widths; other calls of the same shape and full widths have the same times."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: list[str] = Field(description="parameters of the layers, one name for each call")
    shape: Shape
    inside: list[int] = Field(description="widths of the input; the last one is the full width")
    outside: list[int] = Field(
        description="widths of the output, alike; of a depthwise layer the full one alone"
    )
    ms: list[list[float]] = Field(description="a row for each width of the input")

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        for widths in (self.inside, self.outside):
            if not widths or widths[0] < 1 or any(a >= b for a, b in pairwise(widths)):
                raise ValueError(f"widths must rise from 1 or more, got {widths}")
        if [len(row) for row in self.ms] != [len(self.outside)] * len(self.inside):
            raise ValueError("ms needs a row for each width of the input, with a time for each of the output")
        if not all(0 <= time < math.inf for row in self.ms for time in row):
            raise ValueError("ms must be times from 0")
        if not self.weights:
            raise ValueError("weights must name a layer")
        return self

    @property
    def layer(self) -> Layer:
        return Layer(self.weights[0], self.shape, self.inside[-1], self.outside[-1])

    @cached_property
    def surface(self) -> Floats:
        """`ms` without what noise takes back: a wider layer never takes less."""
        table = np.array(self.ms)
        return np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)

    def at(self, inside: float, outside: float) -> float:
        """Milliseconds between the widths of the grid, linear in each; below the least, that of the least."""
        if inside <= 0 or outside <= 0:
            return 0.0
        column = np.array([np.interp(inside, self.inside, line) for line in self.surface.T])
        if len(column) == 1:
            return float(column[0])
        return float(np.interp(outside, self.outside, column))


class Fit(BaseModel):
    """What whole networks took, by what their layers take alone and how much they make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: float = Field(ge=0, description="by which the sum of the layers' times counts")
    nanoseconds: float = Field(
        ge=0, description="for each number that a layer makes: norms, activations, copies"
    )
    constant: float = Field(ge=0, description="milliseconds whatever the widths")
    off_by: float = Field(description="largest relative error among the networks that it was fitted to")


class DeviceProfile(BaseModel):
    """The file that `ganshrink measure --device-profile` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    machine: Machine
    runtime: str = Field(description="onnxruntime, openvino or torch")
    version: str = Field(description="of the runtime")
    device: Place
    threads: int = Field(ge=1, description="inside an operator")
    original: float = Field(gt=0, description="milliseconds of the whole network, one image")
    step: int = Field(ge=1, description="widths that are multiples of this are what the device likes")
    jaggedness: dict[str, float] = Field(
        description="time at odd multiples of a width, over the line between their neighbours; above 1.05 counts"
    )
    fit: Fit
    layer: list[LayerTimes] = Field(min_length=1)

    @property
    def place(self) -> Device:
        return Device(self.runtime, self.threads, self.device)

    def times(self) -> "ProfiledTimes":
        return ProfiledTimes(self)

    def fingerprint(self) -> str:
        """Of all that it holds."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def describe(self) -> str:
        """Machine, runtime and threads in a few words."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.machine.name}, {self.runtime} {self.version}, {threads}"

    def summary(self) -> str:
        """What was found, in a sentence."""
        liked = f"widths that are multiples of {self.step}" if self.step > 1 else "all widths alike"
        return (
            f"{self.original:.4g} ms for the whole network on {self.describe()}; it likes {liked}; estimates are off by up "
            f"to {100 * self.fit.off_by:.0f} %"
        )


class ProfiledTimes:
    """How long cuts of the profiled network take: `channels.budget.Times`."""

    def __init__(self, profile: DeviceProfile) -> None:
        self.profile = profile
        self._sizes: WeakKeyDictionary[Channels, list[_Sizes]] = WeakKeyDictionary()
        self._inserted_calls: WeakKeyDictionary[Channels, Mask] = WeakKeyDictionary()

    def __call__(self, channels: Channels, widths: Index) -> float:
        """Milliseconds at these kept widths per group. Layers of inserted blocks, which the profiled network does not have,
        count as much for each MAC as its own."""
        fit, (alone, made) = self.profile.fit, self.sums(channels, widths)
        more = self._inserted(channels, widths)
        return (1 + more) * (fit.layers * alone + fit.nanoseconds * made / 1e6) + fit.constant

    def _inserted(self, channels: Channels, widths: Index) -> float:
        """MACs of inserted blocks over those of all else."""
        if channels not in self._inserted_calls:
            makers = [None if maker is None else channels.producers[maker] for maker in channels.makers]
            within = [maker is not None and in_extra_block(maker.module) for maker in makers]
            self._inserted_calls[channels] = np.array(within)
        inserted = self._inserted_calls[channels]
        if not inserted.any():
            return 0.0
        macs = channels.macs_by_call(widths)
        return float(macs[inserted].sum() / max(1, macs[~inserted].sum()))

    def sums(self, channels: Channels, widths: Index) -> tuple[float, float]:
        """Milliseconds of the layers, each alone, and how many numbers they make."""
        found = self._at(channels, widths)
        alone = sum(one.times.at(inside, outside) for one, inside, outside in found)
        return alone, sum(outside * one.area for one, _, outside in found)

    def by_weight(self, channels: Channels, widths: Index) -> dict[str, float]:
        """Milliseconds of each layer by its weight's name, with what is made of its output; all its calls together."""
        fit, found = self.profile.fit, dict[str, float]()
        for one, inside, outside in self._at(channels, widths):
            time = fit.layers * one.times.at(inside, outside) + fit.nanoseconds * outside * one.area / 1e6
            found[one.weight] = found.get(one.weight, 0.0) + time
        return found

    def by_group(self, channels: Channels) -> Floats:
        """(groups,) milliseconds at full width of what makes each group's channels, or filters them one by one; see
        `Channels.macs_by_group`. Channels that no timed layer makes (a learned constant's) take nothing."""
        made = {producer.parameter: producer.axis for producer in channels.producers}
        out, group_of = np.zeros(len(channels.groups)), channels.group_of
        for weight, time in self.by_weight(channels, channels.full_widths()).items():
            axes = channels.axes.get(weight, ())
            for atoms in axes[made[weight] :][:1] if weight in made else axes:
                if atoms is not None:
                    out += time * np.bincount(group_of[atoms[atoms >= 0]], minlength=len(out)) / len(atoms)
        return out

    def _at(self, channels: Channels, widths: Index) -> "list[tuple[_Sizes, int, int]]":
        if channels not in self._sizes:
            self._sizes[channels] = _sizes(self.profile, channels)
        gone: tuple[str, ...] = ()
        if not widths.all():
            removed = channels.removed(widths)
            gone = tuple(f"{path}." for path in (*removed.zeros, *removed.identities))
        found = []
        for one in self._sizes[channels]:
            if gone and one.weight.startswith(gone):
                continue
            rows, columns = one.members @ widths + one.always
            inside, outside = one.times.layer.widths(int(rows), int(columns))
            found.append(
                (one, self._liked(inside, one.times.inside), self._liked(outside, one.times.outside))
            )
        return found

    def _liked(self, width: int, grid: Sequence[int]) -> int:
        """The next width that the device likes, since one in between takes about as long; below the least, as it is."""
        step = self.profile.step
        return width if width < step else min(grid[-1], -(-width // step) * step)


class _Sizes:
    """How the first two axes of one layer's weight follow from kept widths."""

    def __init__(self, weight: str, times: LayerTimes, members: Floats, always: Floats) -> None:
        self.weight, self.times, self.members, self.always = weight, times, members, always
        self.area = float(np.prod(times.shape.made))


def _sizes(profile: DeviceProfile, channels: Channels) -> list[_Sizes]:
    group_of, full = channels.group_of, channels.full_widths()
    found = []
    for times in profile.layer:
        layer, shape = times.layer, times.shape
        wholes = _whole_axes(layer)
        for weight in times.weights:
            if weight not in channels.tensors:  # of a branch that is gone
                continue
            members, always = np.zeros((2, len(full))), np.array(wholes, float)
            for number, atoms in enumerate(channels.axes.get(weight, (None, None))[:2]):
                if atoms is not None and not (shape.depthwise and number == 1):
                    count = np.bincount(group_of[atoms[atoms >= 0]], minlength=len(full))
                    members[number], always[number] = count / full, float((atoms < 0).sum())
            found.append(_Sizes(weight, times, members, always))
    return found


def _whole_axes(layer: Layer) -> tuple[int, int]:
    """Rows and columns of a layer's whole weight."""
    shape, groups = layer.shape, layer.inside if layer.shape.depthwise else layer.shape.groups
    if shape.kind == "conv_transpose":
        return layer.inside, layer.outside // groups
    return layer.outside, layer.inside // groups


def fit_times(alone: Sequence[float], made: Sequence[float], measured: Sequence[float]) -> Fit:
    """Least relative squares for `measured = layers * alone + nanoseconds * made / 1e6 + constant`, none below 0.

    Args:
        alone: per network the sum of its layers' milliseconds; made: of the numbers that they make; measured: milliseconds.
    """
    times = np.array(measured)
    columns = np.stack([np.array(alone), np.array(made) / 1e6, np.ones(len(times))], axis=1) / times[:, None]
    best, least = np.zeros(3), np.inf
    for chosen in ([0, 1, 2], [0, 1], [0, 2], [0], [1, 2], [1], [2]):
        answer = np.zeros(3)
        answer[chosen] = np.linalg.lstsq(columns[:, chosen], np.ones(len(times)), rcond=None)[0]
        error = float(((columns @ answer - 1) ** 2).sum())
        if (answer >= 0).all() and error < least - 1e-12:
            best, least = answer, error
    off_by = float(abs(columns @ best - 1).max())
    return Fit(layers=best[0], nanoseconds=best[1], constant=best[2], off_by=off_by)


def read_profile(path: str | Path) -> DeviceProfile:
    """A device profile from its TOML file.

    Raises:
        FileNotFoundError: if there is no such file, with how to make one.
        ValueError: if it is not a device profile, with what is wrong.
    """
    path = Path(path)
    if path.suffix == ".json":
        raise ValueError(
            f"{path} is no device profile: a page in a browser times whole networks, and a budget needs the times of "
            "layers, as `ganshrink measure RECIPE --device-profile OUT.toml` takes them"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no device profile {path}: `ganshrink measure RECIPE --device-profile {path}` makes one"
        )
    try:
        return DeviceProfile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} is no device profile: {where}: {first['msg']}; measure it again") from None


def write_profile(profile: DeviceProfile, path: str | Path) -> None:
    """The profile as TOML, whole or not at all."""
    write_text(Path(path), tomli_w.dumps(profile.model_dump(mode="json", exclude_none=True)))


def same_layers(profile: DeviceProfile, layers: Sequence[Layer]) -> bool:
    """Whether a profile is of a network of these layers."""

    def calls(pairs: Sequence[tuple[str, Layer]]) -> list[tuple[str, Shape, int, int]]:
        return sorted(
            ((n, o.shape, o.inside, o.outside) for n, o in pairs), key=lambda call: (call[0], str(call[1]))
        )

    known = [(weight, times.layer) for times in profile.layer for weight in times.weights]
    return calls(known) == calls([(layer.weight, layer) for layer in layers])
