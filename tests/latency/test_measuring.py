"""What latency.json holds; how long anything takes is not asserted."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ganshrink.exporters import export_onnx
from ganshrink.exporters.runtime import has_openvino
from ganshrink.latency import measure_latency
from ganshrink.latency.measuring import Contender, _row, interleave, speedups, torch_threads
from ganshrink.latency.shares import Rounds

FILE_RUNTIMES = ["onnxruntime", "openvino"] if has_openvino() else ["onnxruntime"]


@pytest.mark.slow
def test_rows_ratios_and_protocol(tmp_path: Path) -> None:
    networks = {"teacher": nn.Conv2d(3, 3, 5), "student": nn.Conv2d(3, 3, 1)}
    file = tmp_path / "student.onnx"
    example = torch.rand(2, 3, 16, 16)
    export_onnx(networks["student"], example, file)
    before = torch.get_num_threads()
    found = measure_latency(
        networks, example, threads=1, warmup=1, rounds=5, onnx_files={"student": file, "int8": file}
    )
    assert torch.get_num_threads() == before
    assert json.loads(json.dumps(found)) == found
    pairs = [(row["network"], row["runtime"]) for row in found["rows"]]
    files = [(n, r) for r in FILE_RUNTIMES for n in ("teacher", "student", "int8")]
    assert pairs == [
        ("teacher", "torch"),
        ("student", "torch"),
        *files,
    ]  # what is a file alone runs where files do
    for row in found["rows"]:
        assert row["runs"] == 5 and row["batch"] == 2 and row["input"] == [3, 16, 16] and row["threads"] == 1
        assert 0 < row["p25_ms"] <= row["p50_ms"] <= row["p95_ms"] and row["iqr_ms"] >= 0
        assert row["cpu_ms"] >= 0 and row["speedup"]["ratio"] > 0
        assert row["speedup"]["q1"] <= row["speedup"]["p50"] <= row["speedup"]["q3"]
        if row["network"] == "teacher":
            assert row["speedup"] == {"ratio": 1, "p50": 1, "q1": 1, "q3": 1, "by": "wall"}
        elif row["network"] == "student":
            assert found["ratios"][row["runtime"]] == row["speedup"]
    assert found["device"] and found["protocol"]["rounds"] == 5
    assert found["protocol"]["torch"] == str(torch.__version__)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_networks_of_several_inputs() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind = nn.Embedding(4, 3)

        def forward(self, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
            return x + self.kind(kind)[:, :, None, None]

    example = torch.rand(2, 3, 4, 4), torch.tensor([1, 3])
    found = measure_latency({"student": Placed()}, example, rounds=3)
    assert [row["runtime"] for row in found["rows"]] == ["torch", *FILE_RUNTIMES]
    assert all(row["batch"] == 2 and row["input"] == [[3, 4, 4], []] for row in found["rows"])


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(not has_openvino(), reason="it is OpenVINO that lacks the operator")
def test_an_optional_runtime_that_cannot_run_a_network_is_left_out() -> None:
    seamless = nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")
    found = measure_latency({"student": seamless}, torch.rand(1, 3, 8, 8), rounds=3)
    assert [row["runtime"] for row in found["rows"]] == ["torch", "onnxruntime"]
    assert found["protocol"]["openvino_left_out"].startswith("OpenVINO does not take the file: ")
    with pytest.raises(ValueError, match=r"^OpenVINO does not take the file: .*$"):
        measure_latency({"student": seamless}, torch.rand(1, 3, 8, 8), runtimes=["openvino"], rounds=3)


def test_networks_stay_as_they_are() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    measure_latency({"student": net}, torch.rand(2, 3, 4, 4), runtimes=["torch"], rounds=3)
    assert net.training and net[1].num_batches_tracked == 0 and all(p.requires_grad for p in net.parameters())


def test_each_round_runs_all_and_starts_one_further_on() -> None:
    order: list[str] = []
    runs = [lambda name=name: order.append(name) for name in "abc"]
    table = interleave(runs, warmup=1, rounds=4, seconds=100)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert table.wall.shape == table.cpu.shape == (4, 3)


def test_times_stand_in_the_column_of_their_run() -> None:
    now = worked = 0.0

    def lasting(seconds: float):
        def run() -> None:
            nonlocal now, worked
            now, worked = now + seconds, worked + seconds / 2

        return run

    def timed(*seconds: float, **options):
        clocks = {"clock": lambda: now, "processor": lambda: worked}
        return interleave([lasting(one) for one in seconds], rounds=9, **clocks, **options)

    table = timed(0.1, 0.4, warmup=1, seconds=2.2)
    # half a second a round, the warm-up's too: 2.2 s are over after the fourth
    np.testing.assert_allclose(table.wall, np.tile([100, 400], (4, 1)))
    np.testing.assert_allclose(table.cpu, np.tile([50, 200], (4, 1)))
    assert len(timed(60, warmup=0, seconds=1).wall) == 3  # a few rounds at least


def test_ratios_are_of_lower_quartiles_within_a_runtime() -> None:
    # a machine that gets ten times slower half-way, and each run now and then by itself
    pace = np.repeat([1, 10], 6)
    times = np.stack([8 * pace, 2 * pace, 9 * pace, 3 * pace], axis=1).astype(float)
    times[::4, 0] *= 3
    times[1::4, 1] *= 5
    contenders = [
        Contender(n, r, "cpu", lambda: None) for r in ("torch", "onnxruntime") for n in ("teacher", "student")
    ]
    found = speedups(contenders, Rounds(times, times), "teacher")
    assert [one["ratio"] for one in found] == [1, 4, 1, 3]
    assert [one["by"] for one in found] == ["wall"] * 4
    assert found[1]["q1"] < found[1]["p50"] == 4 and found[1]["q3"] > 4
    assert found[3] == {"ratio": 3, "p50": 3, "q1": 3, "q3": 3, "by": "wall"}


def test_threads_are_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_without_onnxruntime_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    networks = {"teacher": nn.Identity(), "student": nn.Identity()}
    found = measure_latency(networks, torch.rand(1, 3, 4, 4), rounds=3)
    assert {row["runtime"] for row in found["rows"]} == {"torch"}
    with pytest.raises(ValueError, match="pip install"):
        measure_latency(networks, torch.rand(1, 3, 4, 4), runtimes=["onnxruntime"], rounds=3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_without_openvino_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = measure_latency({"student": nn.Identity()}, torch.rand(1, 3, 4, 4), rounds=3)
    assert {row["runtime"] for row in found["rows"]} == {"torch", "onnxruntime"}
    with pytest.raises(ValueError, match=r'OpenVINO needs .*pip install "ganshrink\[openvino\]"'):
        measure_latency({"student": nn.Identity()}, torch.rand(1, 3, 4, 4), runtimes=["openvino"], rounds=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtimes": ["tvm"]}, "runtimes must be of torch, onnxruntime, openvino, got 'tvm'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"rounds": 1}, "rounds must be at least 3, got 1"),
        ({"networks": {}}, "no network"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    networks = options.pop("networks", {"student": nn.Identity()})
    with pytest.raises(ValueError, match=message):
        measure_latency(networks, torch.rand(1, 3, 4, 4), **options)


def test_a_row_has_the_median_the_95th_percentile_and_the_quartiles_distance():
    contender = Contender("student", "torch", "cpu", lambda: None)
    times = np.arange(101.0)[:, None]
    row = _row(contender, Rounds(times, times / 2), 0, {"threads": 1})
    assert (row["p25_ms"], row["p50_ms"], row["p95_ms"], row["iqr_ms"]) == (25, 50, 95, 50)
    assert (row["cpu_ms"], row["runs"]) == (12.5, 101)
