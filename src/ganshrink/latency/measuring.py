"""Teacher and student timed turn by turn in one run, so that what slows the machine slows both.

Single figures move by 2x when something else takes a core; only ratios within a round compare.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.exporters import export_onnx
from ganshrink.exporters.runtime import PACKAGES, has_openvino, load_optional, runtime_version
from ganshrink.latency.backends import Run, onnxruntime_run, openvino_run, torch_run
from ganshrink.system.generator import as_tuple
from ganshrink.system.machine import core_count, cpu_name, device_name
from ganshrink.system.spelling import first_line

logger = logging.getLogger(__name__)

RUNTIMES = ("torch", "onnxruntime", "openvino")
MIN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Contender:
    """One network in one runtime."""

    network: str
    runtime: str
    device: str
    run: Run


def measure_latency(
    networks: Mapping[str, nn.Module],
    example: Tensor | Sequence[Tensor],
    *,
    runtimes: Sequence[str] | None = None,
    threads: int | None = None,
    warmup: int = 3,
    rounds: int = 30,
    seconds: float = 30.0,
    onnx_files: Mapping[str, str | Path] | None = None,
) -> dict[str, Any]:
    """Time every network, runtime by runtime, one run each per round, in an order that rotates every round.

    Args:
        networks: by name; ratios are to `teacher`, or to the first one where none has that name.
        example: the input, (B, C, H, W), or several, on the device to measure on.
        runtimes: of `torch` (eager, float32 as the network is), `onnxruntime` and `openvino` (on the CPU, float32 where the
            file is not in integers); None takes all whose extras are installed, OpenVINO only for an example on the CPU,
            and leaves out, with the reason in `protocol`, what cannot run the networks.
        threads: inside an operator, for all runtimes; None takes torch's present number.
        rounds: at most so many; fewer, but at least three, when `seconds` have passed.
        onnx_files: files already exported, by network; the others are exported to a temporary folder. One of a name that
            is none of `networks` (`int8`) is timed in the runtimes that take files.

    Returns:
        latency.json: `device`, `protocol`, `rows` (milliseconds; `input` is the shape of one sample, or a list of shapes),
        `ratios` (by runtime: reference / student).

    Raises:
        ValueError: an unknown runtime, no network, or numbers out of range.
    """
    asked = runtimes is not None
    runtimes = _installed(as_tuple(example)[0].device) if runtimes is None else runtimes
    _check(networks, runtimes, threads, warmup, rounds)
    given, files = as_tuple(example), {name: Path(file) for name, file in (onnx_files or {}).items()}
    threads = threads or torch.get_num_threads()
    with torch_threads(threads), tempfile.TemporaryDirectory() as folder:
        contenders, failed = [], {}
        for runtime in runtimes:
            try:
                contenders += _contenders(networks, given, runtime, threads, files, Path(folder))
            except Exception as error:  # OpenVINO and ONNX Runtime raise their own kinds
                if asked or runtime == "torch":
                    raise
                failed[runtime] = first_line(error)
                logger.warning("%s cannot run these networks and is not timed: %s", runtime, failed[runtime])
        runtimes = [runtime for runtime in runtimes if runtime not in failed]
        tables = []  # a runtime's idle threads disturb the next one's runs, so that each has its own rounds
        for runtime in runtimes:
            runs = [one.run for one in contenders if one.runtime == runtime]
            tables.append(interleave(runs, warmup=warmup, rounds=rounds, seconds=seconds / len(runtimes)))
    ran = min(len(table) for table in tables)
    times = np.concatenate([table[:ran] for table in tables], axis=1)
    reference = "teacher" if "teacher" in networks else next(iter(networks))
    shapes = [list(tensor.shape[1:]) for tensor in given]
    fixed = {"threads": threads, "batch": len(given[0]), "input": shapes[0] if len(shapes) == 1 else shapes}
    rows = [_row(one, times[:, column], fixed) for column, one in enumerate(contenders)]
    for row, speedup in zip(rows, speedups(contenders, times, reference), strict=True):
        row["speedup"] = speedup
    compared = (
        "student" if "student" in networks else next((n for n in networks if n != reference), reference)
    )
    return {
        "device": device_name(given[0].device),
        "protocol": _protocol(runtimes, threads, warmup, rounds, seconds, ran, reference)
        | {f"{runtime}, not timed": reason for runtime, reason in failed.items()},
        "rows": rows,
        "ratios": {row["runtime"]: row["speedup"] for row in rows if row["network"] == compared},
    }


def interleave(
    runs: Sequence[Run],
    *,
    warmup: int,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Milliseconds (rounds, runs): every run once a round, each round starting one further on.

    Stops early, after at least `MIN_ROUNDS`, once `seconds` have passed since the warm-up began.
    """
    start = clock()
    for _ in range(warmup):
        for run in runs:
            run()
    table: list[list[float]] = []
    while len(table) < rounds and (len(table) < MIN_ROUNDS or clock() - start < seconds):
        row = [0.0] * len(runs)
        for turn in range(len(runs)):
            column = (turn + len(table)) % len(runs)
            before = clock()
            runs[column]()
            row[column] = (clock() - before) * 1000
        table.append(row)
    return np.array(table)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """So many threads for torch's operators, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _installed(device: torch.device) -> list[str]:
    try:
        load_optional(*PACKAGES)
    except ValueError:
        return ["torch"]
    return [name for name in RUNTIMES if name != "openvino" or (device.type == "cpu" and has_openvino())]


def _check(
    networks: Mapping[str, nn.Module], runtimes: Sequence[str], threads: int | None, warmup: int, rounds: int
) -> None:
    unknown = [name for name in runtimes if name not in RUNTIMES]
    if unknown or not runtimes:
        given = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"runtimes must be of {', '.join(RUNTIMES)}, got {given}")
    if not networks:
        raise ValueError("there is no network to measure: give at least one")
    for name, value, least in (
        ("threads", threads, 1),
        ("warmup", warmup, 0),
        ("rounds", rounds, MIN_ROUNDS),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _contenders(
    networks: Mapping[str, nn.Module],
    example: tuple[Tensor, ...],
    runtime: str,
    threads: int,
    files: dict[str, Path],
    folder: Path,
) -> list[Contender]:
    """All networks in one runtime; what is exported for it goes into `files`."""
    if runtime == "torch":
        place = example[0].device.type
        return [Contender(n, runtime, place, torch_run(network, example)) for n, network in networks.items()]
    contenders = []
    for number, name in enumerate(dict.fromkeys((*networks, *files))):
        if name not in files:
            export_onnx(networks[name], example, folder / f"{number}.onnx")
            files[name] = folder / f"{number}.onnx"
        if runtime == "openvino":
            run, device = openvino_run(files[name], example, threads=threads), "cpu"
        else:
            run, device = onnxruntime_run(files[name], example, threads=threads)
        contenders.append(Contender(name, runtime, device, run))
    return contenders


def _row(one: Contender, times: np.ndarray, fixed: dict[str, Any]) -> dict[str, Any]:
    q1, p50, q3, p95 = np.percentile(times, (25, 50, 75, 95))
    return {
        "network": one.network,
        "runtime": one.runtime,
        "device": one.device,
        **fixed,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "iqr_ms": float(q3 - q1),
        "runs": len(times),
    }


def speedups(contenders: Sequence[Contender], times: np.ndarray, reference: str) -> list[dict[str, float]]:
    """Per contender: quartiles over the rounds of the reference's time / its own, in the same runtime."""
    base = {one.runtime: times[:, i] for i, one in enumerate(contenders) if one.network == reference}
    answer = []
    for column, one in enumerate(contenders):
        q1, p50, q3 = np.percentile(base[one.runtime] / times[:, column], (25, 50, 75))
        answer.append({"p50": float(p50), "q1": float(q1), "q3": float(q3)})
    return answer


def _protocol(
    runtimes: Sequence[str], threads: int, warmup: int, rounds: int, seconds: float, ran: int, reference: str
) -> dict[str, Any]:
    versions = {"torch": str(torch.__version__)}
    if "onnxruntime" in runtimes:
        versions["onnxruntime"] = runtime_version("onnxruntime")
    if "openvino" in runtimes:
        versions["openvino"] = runtime_version("openvino")
    return {
        "order": "runtime by runtime, interleaved, one run of each per round, rotated every round",
        "ratio": f"median over rounds of {reference} / network within the round, in the same runtime",
        "noise": "iqr_ms, and q1 and q3 of the ratio: the middle half of the rounds",
        "precision": "float32; int8: convolutions in integers, the rest float32",
        "cpu": cpu_name(),
        "cores": core_count(),
        "threads": threads,
        "warmup": warmup,
        "rounds": ran,
        "rounds_asked": rounds,
        "seconds_cap": seconds,
        **versions,
    }
