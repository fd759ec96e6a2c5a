"""From the device that a budget names to its profile: measured here, or read from a file."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor, nn

from ganshrink.exporters.runtime import load_optional, runtime_version
from ganshrink.latency.backends import Device, Place
from ganshrink.latency.layers import Layer, layers_of
from ganshrink.latency.measuring import RUNTIMES
from ganshrink.latency.profile_device import measure_profile
from ganshrink.latency.profiles import DeviceProfile, read_profile, same_layers, write_profile
from ganshrink.pruning import Budget, Channels
from ganshrink.system.distributed import broadcast, is_main_process
from ganshrink.system.machine import core_count, device_name

logger = logging.getLogger(__name__)


def open_profile(
    name: str,
    network: nn.Module,
    example: Sequence[Tensor],
    *,
    runtime: str | None,
    threads: int | None,
    folder: Path,
) -> DeviceProfile:
    """The profile of a device for a network.

    Args:
        name: `cpu` or `cuda`: this machine, looked at now or as `folder` keeps it; else the path of a device profile.
        network: the whole one.
        example: inputs of the size at which times count, one image.
        runtime, threads: in which this machine is looked at; none: as the folder's profile has it; without one ONNX Runtime
            where it is installed, else torch, with as many threads as torch has at present.
        folder: where looks at this machine are kept, as `device-cpu.toml` and `device-cuda.toml`.

    Raises:
        ValueError: for a profile of another network or a damaged one, or a device or runtime that is not here.
        FileNotFoundError: if there is no such profile.
    """
    layers = layers_of(network, example)
    if name not in get_args(Place):
        return _given(name, layers, runtime)
    if not is_main_process():  # the others wait for the first one's look
        return cast(DeviceProfile, broadcast(None))
    file = folder / f"device-{name}.toml"
    kept = _kept(file)
    if kept is not None:
        runtime, threads = runtime or kept.runtime, threads or kept.threads
    device = device_of(name, runtime=runtime, threads=threads)
    if (
        kept is None
        or kept.place != device
        or not same_layers(kept, layers)
        or not _same_machine(kept, str(file))
    ):
        kept = measure_profile(network, example, device)
        write_profile(kept, file)
    return broadcast(kept)


def _given(name: str, layers: Sequence[Layer], runtime: str | None) -> DeviceProfile:
    if Path(name).suffix != ".toml":
        raise ValueError(
            f"the device of a budget must be cpu, cuda or the .toml file of a device profile, got {name!r}"
        )
    profile = read_profile(Path(name))
    if not same_layers(profile, layers):
        raise ValueError(
            f"{name} is the profile of another network, or of this one at another image size: measure this one with "
            f"`ganshrink measure RECIPE --device-profile {name}`"
        )
    if runtime is not None and runtime != profile.runtime:
        logger.warning(
            "latency.runtime is %s, but %s was measured in %s: that counts", runtime, name, profile.runtime
        )
    return profile


def device_of(name: str, *, runtime: str | None = None, threads: int | None = None) -> Device:
    """This machine as a device.

    Raises:
        ValueError: if it has no such device, or the runtime is not installed or does not know it.
    """
    if name not in get_args(Place):
        raise ValueError(f"the device must be cpu or cuda, got {name!r}")
    cuda = name == "cuda"
    if cuda and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device here: give the file of a device profile, or cpu")
    runtime = runtime or usual_runtime(cuda=cuda)
    if runtime not in RUNTIMES:
        raise ValueError(f"the runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    runtime_version(runtime)
    if cuda and not _knows_cuda(runtime):
        raise ValueError(
            f"{runtime} as installed here runs on the CPU alone: take another runtime for cuda, such as torch"
        )
    return Device(runtime, threads or torch.get_num_threads(), "cuda" if cuda else "cpu")


def usual_runtime(*, cuda: bool = False) -> str:
    """ONNX Runtime where it is installed for the device, since that is what is exported; else torch."""
    try:
        runtime_version("onnxruntime")
    except ValueError:
        return "torch"
    return "onnxruntime" if not cuda or _knows_cuda("onnxruntime") else "torch"


def _knows_cuda(runtime: str) -> bool:
    if runtime == "onnxruntime":
        return "CUDAExecutionProvider" in load_optional("onnxruntime").get_available_providers()
    return runtime == "torch"


def is_here(profile: DeviceProfile, *, where: str) -> bool:
    """Whether a profile is of this machine and the runtime installed on it, as the first process sees it; if not, a warning
    names both."""
    return broadcast(_same_machine(profile, where) if is_main_process() else False)


def _same_machine(profile: DeviceProfile, where: str) -> bool:
    try:
        version = runtime_version(profile.runtime)
    except ValueError:
        version = "not installed"
    absent = profile.device == "cuda" and not torch.cuda.is_available()
    name = "no CUDA device" if absent else device_name(torch.device(profile.device))
    same = (name, version) == (profile.machine.name, profile.version)
    if not same:
        logger.warning(
            "%s was measured on %s, %d cores, %s %s; this is %s, %d cores, %s %s", where,
            profile.machine.name, profile.machine.cores, profile.runtime, profile.version,
            name, core_count(), profile.runtime, version,
        )  # fmt: skip
    return same


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
