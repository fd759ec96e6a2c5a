"""From the name of a device to its profile: measured here, kept, read from a file, or refused."""

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.latency import devices
from ganshrink.latency.backends import Device
from ganshrink.latency.devices import device_of, is_here, open_profile, usual_runtime, with_times
from ganshrink.latency.profiles import DeviceProfile, Machine, read_profile, write_profile
from ganshrink.pruning import Budget
from ganshrink.system.machine import core_count, cpu_name
from made_up_device import profile_of

IMAGE = torch.zeros(1, 3, 12, 16)
HERE = Machine(name=cpu_name(), cores=core_count())


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()


def opened(name: str, file: Path, net: nn.Module | None = None, **options) -> DeviceProfile:
    given = {"runtime": "torch", "threads": 1} | options
    return open_profile(name, net or network(), [IMAGE], **given, folder=file.parent)


@pytest.fixture
def looks(monkeypatch) -> list[Device]:
    """A list of the looks that are taken at this machine; each finds a made-up profile of it."""
    taken: list[Device] = []

    def measured(net: nn.Module, example, device: Device) -> DeviceProfile:
        taken.append(device)
        return profile_of(
            net,
            example,
            machine=HERE,
            runtime=device.runtime,
            threads=device.threads,
            original=float(len(taken)),
        )

    monkeypatch.setattr(devices, "measure_profile", measured)
    return taken


# This machine


def test_this_machine_is_looked_at_once(tmp_path: Path, looks: list[Device]) -> None:
    file = tmp_path / "device-cpu.toml"
    first = opened("cpu", file)
    assert read_profile(file) == first
    assert opened("cpu", file) == first and looks == [Device("torch", 1, "cpu")]


def test_another_way_to_look_looks_again(tmp_path: Path, looks: list[Device]) -> None:
    file = tmp_path / "device-cpu.toml"
    opened("cpu", file)
    assert opened("cpu", file, threads=2).threads == 2 and len(looks) == 2
    wider = nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.Conv2d(9, 3, 3)).eval()
    assert {one.outside[-1] for one in opened("cpu", file, wider, threads=2).layer} == {9, 3}
    assert opened("cpu", file, wider, threads=2).original == 3.0 and len(looks) == 3


def test_what_is_not_asked_for_stays_as_it_was(tmp_path: Path, looks: list[Device]) -> None:
    """Another number of threads at hand is no reason to look again: the budget would be another one."""
    file = tmp_path / "device-cpu.toml"
    opened("cpu", file, threads=7)
    assert opened("cpu", file, threads=None, runtime=None).threads == 7 and len(looks) == 1


def test_a_kept_profile_of_another_machine_is_not_believed(tmp_path: Path, looks: list, caplog) -> None:
    file = tmp_path / "device-cpu.toml"
    write_profile(profile_of(network(), [IMAGE], original=99.0), file)
    assert opened("cpu", file).original == 1.0 and len(looks) == 1
    assert "a made-up phone, 4 cores" in caplog.text and cpu_name() in caplog.text


def test_a_damaged_one_is_made_again(tmp_path: Path, looks: list, caplog) -> None:
    file = tmp_path / "device-cpu.toml"
    file.write_text("format = 7")
    assert opened("cpu", file).original == 1.0 and read_profile(file).original == 1.0
    assert "is no device profile" in caplog.text


# The file of a device


@pytest.fixture
def phone(tmp_path: Path) -> Callable[..., str]:
    def write(**facts) -> str:
        path = tmp_path / "phone.toml"
        write_profile(profile_of(network(), [IMAGE], **facts), path)
        return str(path)

    return write


def test_a_file_is_read_and_left(tmp_path: Path, phone, looks: list) -> None:
    name = phone(original=12.0)
    before = Path(name).read_bytes()
    for runtime in (None, "torch"):
        assert opened(name, tmp_path / "device-cpu.toml", runtime=runtime, threads=7).original == 12.0
    assert not looks and not (tmp_path / "device-cpu.toml").exists() and Path(name).read_bytes() == before


@pytest.mark.parametrize(
    ("net", "image"),
    [
        (nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU(), nn.Conv2d(9, 3, 3)), IMAGE),
        (nn.Sequential(network(), nn.Conv2d(3, 3, 1)), IMAGE),
        (network(), torch.zeros(1, 3, 16, 16)),
    ],
    ids=["wider", "deeper", "another image size"],
)
def test_a_profile_of_another_network_is_refused(
    net: nn.Module, image: torch.Tensor, phone, tmp_path: Path
) -> None:
    name = phone()
    with pytest.raises(ValueError) as told:
        open_profile(name, net.eval(), [image], runtime=None, threads=None, folder=tmp_path)
    assert str(told.value).startswith(
        f"{name} is the profile of another network, or of this one at another image"
    )
    assert f"`ganshrink measure RECIPE --device-profile {name}`" in str(told.value)


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no device profile .*phone.toml"):
        opened(str(tmp_path / "phone.toml"), tmp_path / "device-cpu.toml")
    for name in ("gpu", "cpu0", "CPU"):
        with pytest.raises(ValueError, match=f"must be cpu, cuda or the .toml file .*, got '{name}'"):
            opened(name, tmp_path / "device-cpu.toml")


def test_another_runtime_than_asked_for_warns(phone, tmp_path: Path, caplog) -> None:
    name = phone(runtime="openvino")
    assert opened(name, tmp_path / "device-cpu.toml", runtime="onnxruntime").runtime == "openvino"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "latency.runtime is onnxruntime" in record.message and "was measured in openvino" in record.message


# Is it this machine?


def test_this_machine_is_known(caplog) -> None:
    assert is_here(profile_of(network(), [IMAGE], machine=HERE), where="phone.toml")
    faster = HERE.model_copy(
        update={"mhz": 9999.0, "governor": "powersave", "cores": 999}
    )  # those come and go
    assert is_here(profile_of(network(), [IMAGE], machine=faster), where="phone.toml")
    assert not caplog.records


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ["a made-up phone, 4 cores", cpu_name()]),
        ({"machine": HERE, "version": "0.1"}, ["torch 0.1", f"torch {torch.__version__}"]),
        ({"machine": HERE, "device": "cuda", "version": "1"}, [cpu_name(), "this is no CUDA device"]),
    ],
    ids=["machine", "version", "device"],
)
def test_another_one_is_told_with_both_names(facts: dict, words: list[str], monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not is_here(profile_of(network(), [IMAGE], **facts), where="phone.toml")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.message.startswith("phone.toml was measured on ")
    assert all(word in record.message for word in words)


def test_a_runtime_that_is_not_installed_is_not_here(monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    profile = profile_of(network(), [IMAGE], machine=HERE, runtime="openvino", version="2026.1")
    assert not is_here(profile, where="phone.toml")
    assert "openvino 2026.1; this is" in caplog.text and "openvino not installed" in caplog.text


# Devices that are not here


def test_devices_by_name(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("cpu", runtime="torch", threads=3) == Device("torch", 3, "cpu")
    assert device_of("cpu").threads == torch.get_num_threads()
    with pytest.raises(
        ValueError, match="finds no CUDA device here: give the file of a device profile, or cpu"
    ):
        device_of("cuda", runtime="torch")
    with pytest.raises(ValueError, match="must be cpu or cuda, got 'tpu'"):
        device_of("tpu")
    with pytest.raises(ValueError, match="runtime must be one of torch, onnxruntime, openvino, got 'tvm'"):
        device_of("cpu", runtime="tvm")


def test_devices_with_cuda(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("cuda", runtime="torch", threads=1) == Device("torch", 1, "cuda")
    with pytest.raises(ValueError, match="openvino as installed here runs on the CPU alone"):
        device_of("cuda", runtime="openvino")


def test_runtimes_that_are_not_installed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r'pip install "ganshrink\[openvino\]"'):
        opened("cpu", tmp_path / "device-cpu.toml", runtime="openvino")
    assert not list(tmp_path.iterdir())
    assert usual_runtime() == "onnxruntime"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert usual_runtime() == "torch" == device_of("cpu").runtime


# Budgets


def test_a_budget_learns_its_times() -> None:
    net = network()
    channels, profile = trace(net, IMAGE), profile_of(net, [IMAGE], original=8.0)
    estimate = profile.times()(channels, channels.full_widths())
    for text, amount in (("latency=25%@phone.toml", 2.0), ("latency=3ms@phone.toml, macs=50%", 3.0)):
        budget = with_times(Budget.parse(text), profile, channels)
        limit = budget.latency
        assert (limit.amount, limit.percent, limit.device) == (amount, False, "phone.toml")
        assert limit.times(channels, channels.full_widths()) == pytest.approx(estimate)
        assert budget.numbers()["latency"] == amount
        assert budget == budget.with_latency(
            replace(limit, times=None)
        )  # by what it says, not by how it knows
    assert budget.numbers()["macs"] == channels.cost().macs // 2
