"""From the device that a budget names to its profile: measured here, or read from a file."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from ganshrink.channels import Budget, Channels
from ganshrink.engine import agreed, leads, wait
from ganshrink.exporters.runtime import runtime_version
from ganshrink.latency.backends import Device, Place
from ganshrink.latency.layers import layers_of
from ganshrink.latency.looking import look_at
from ganshrink.latency.machine import core_count, device_name
from ganshrink.latency.measuring import RUNTIMES
from ganshrink.latency.profiles import DeviceProfile, read_profile, same_layers, write_profile

logger = logging.getLogger(__name__)


def open_profile(
    name: str,
    network: nn.Module,
    example: Sequence[Tensor],
    *,
    runtime: str | None,
    threads: int | None,
    file: Path,
) -> DeviceProfile:
    """The profile of a device for a network.

    Args:
        name: `cpu` or `cuda`: this machine, looked at now or as `file` keeps it; else the path of a device profile.
        network: the whole one.
        example: inputs of the size at which times count, one image.
        runtime, threads: in which this machine is looked at; none: ONNX Runtime where it is installed, else torch, with as
            many threads as torch has at present.
        file: where a look at this machine is kept.

    Raises:
        ValueError: for a profile of another network or a damaged one, or a device or runtime that is not here.
        FileNotFoundError: if there is no such profile.
    """
    layers = layers_of(network, example)
    if name not in get_args(Place):
        profile = read_profile(Path(name))
        if not same_layers(profile, layers):
            raise ValueError(
                f"{name} is the profile of another network, or of this one at another image size: measure this one with "
                f"`ganshrink measure RECIPE --device-profile {name}`"
            )
        if runtime is not None and runtime != profile.runtime:
            logger.warning(
                "latency.runtime is %s, but %s was measured in %s: that counts",
                runtime,
                name,
                profile.runtime,
            )
        return profile
    device = device_of(name, runtime=runtime, threads=threads)
    if leads():
        kept = _kept(file)
        if (
            kept is None
            or kept.place != device
            or not same_layers(kept, layers)
            or not is_here(kept, where=str(file))
        ):
            write_profile(look_at(network, example, device), file)
    wait()
    return agreed(read_profile(file))


def device_of(name: str, *, runtime: str | None = None, threads: int | None = None) -> Device:
    """This machine as a device.

    Raises:
        ValueError: if it has no such device, or the runtime is not installed.
    """
    if name not in get_args(Place):
        raise ValueError(f"the device must be cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device here: give the file of a device profile, or cpu")
    runtime = runtime or usual_runtime()
    if runtime not in RUNTIMES:
        raise ValueError(f"the runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    if name == "cuda" and runtime == "openvino":
        raise ValueError("OpenVINO runs on the CPU here: take onnxruntime or torch for cuda")
    runtime_version(runtime)
    return Device(runtime, threads or torch.get_num_threads(), "cuda" if name == "cuda" else "cpu")


def usual_runtime() -> str:
    """ONNX Runtime where it is installed, since that is what is exported; else torch."""
    try:
        runtime_version("onnxruntime")
    except ValueError:
        return "torch"
    return "onnxruntime"


def is_here(profile: DeviceProfile, *, where: str) -> bool:
    """Whether a profile is of this machine and the runtime installed on it; if not, a warning names both."""
    try:
        version = runtime_version(profile.runtime)
    except ValueError:
        version = "not installed"
    absent = profile.device == "cuda" and not torch.cuda.is_available()
    name = "no CUDA device" if absent else device_name(torch.device(profile.device))
    here = profile.machine.model_copy(update={"name": name, "cores": core_count()})
    found = f"{here.name}, {here.cores} cores, {profile.runtime} {version}"
    measured = f"{profile.machine.name}, {profile.machine.cores} cores, {profile.runtime} {profile.version}"
    if found != measured:
        logger.warning("%s was measured on %s; this is %s", where, measured, found)
    return found == measured


def with_times(budget: Budget, profile: DeviceProfile, channels: Channels) -> Budget:
    """A budget whose limit in milliseconds is absolute, and knows how long networks take."""
    limit = budget.latency
    assert limit is not None
    amount = profile.original * limit.amount / 100 if limit.percent else limit.amount
    return budget.with_latency(replace(limit, amount=amount, percent=False, times=profile.times())).resolve(
        channels
    )


def _kept(file: Path) -> DeviceProfile | None:
    if not file.is_file():
        return None
    try:
        return read_profile(file)
    except ValueError as error:
        logger.warning("%s", error)
        return None
