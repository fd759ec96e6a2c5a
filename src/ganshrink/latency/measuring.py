"""Teacher and student timed turn by turn in one run, so that what slows the machine slows both.

Single figures move by 2x when something else takes a core; only ratios compare (`shares.py`).
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
from ganshrink.latency.shares import Rounds, share_of
from ganshrink.system.generator import as_tuple
from ganshrink.system.machine import core_count, cpu_name, device_name
from ganshrink.system.spelling import one_line

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
            and leaves out, with the reason in `protocol`, one that cannot run a network.
        threads: inside an operator, for all runtimes; None takes torch's present number.
        rounds: at most so many; fewer, but at least three, when `seconds` have passed.
        onnx_files: files already exported, by network; the others are exported to a temporary folder. One of a name that
            is none of `networks` (`int8`) is timed in the runtimes that take files.

    Returns:
        latency.json: `device`, `protocol`, `rows` (milliseconds; `input` is the shape of one sample, or a list of shapes),
        `ratios` (by runtime: reference / student).

    Raises:
        ValueError: an unknown runtime, no network, or numbers out of range; a runtime of `runtimes` cannot run a network.
    """
    asked = runtimes is not None
    runtimes = _installed(as_tuple(example)[0].device) if runtimes is None else runtimes
    _check(networks, runtimes, threads, warmup, rounds)
    given, files = as_tuple(example), {name: Path(file) for name, file in (onnx_files or {}).items()}
    threads = threads or torch.get_num_threads()
    with torch_threads(threads), tempfile.TemporaryDirectory() as folder:
        contenders, left_out = [], {}
        for runtime in runtimes:
            try:
                contenders += list(_contenders(networks, given, runtime, threads, files, Path(folder)))
            except ValueError as error:
                if asked or runtime == "torch":
                    raise
                logger.warning("%s is left out: %s", runtime, error)
                left_out[runtime] = str(error)
        runtimes = [runtime for runtime in runtimes if runtime not in left_out]
        tables = []  # a runtime's idle threads disturb the next one's runs, so that each has its own rounds
        for runtime in runtimes:
            runs = [one.run for one in contenders if one.runtime == runtime]
            tables.append(interleave(runs, warmup=warmup, rounds=rounds, seconds=seconds / len(runtimes)))
    ran = min(len(table.wall) for table in tables)
    times = Rounds(
        *(np.concatenate([clock[:ran] for clock in of], axis=1) for of in zip(*tables, strict=True))
    )
    reference = "teacher" if "teacher" in networks else next(iter(networks))
    shapes = [list(tensor.shape[1:]) for tensor in given]
    fixed = {"threads": threads, "batch": len(given[0]), "input": shapes[0] if len(shapes) == 1 else shapes}
    single = threads == 1 and given[0].device.type == "cpu"
    rows = [_row(one, times, column, fixed) for column, one in enumerate(contenders)]
    for row, speedup in zip(rows, speedups(contenders, times, reference, single=single), strict=True):
        row["speedup"] = speedup
    compared = (
        "student" if "student" in networks else next((n for n in networks if n != reference), reference)
    )
    return {
        "device": device_name(given[0].device),
        "protocol": _protocol(runtimes, threads, warmup, rounds, seconds, ran, reference)
        | {f"{runtime}_left_out": reason for runtime, reason in left_out.items()},
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
    processor: Callable[[], float] = time.process_time,
) -> Rounds:
    """Milliseconds by two clocks: every run once a round, each round starting one further on.

    Stops early, after at least `MIN_ROUNDS`, once `seconds` have passed since the warm-up began.
    """
    start = clock()
    for _ in range(warmup):
        for run in runs:
            run()
    wall: list[list[float]] = []
    cpu: list[list[float]] = []
    while len(wall) < rounds and (len(wall) < MIN_ROUNDS or clock() - start < seconds):
        taken, worked = [0.0] * len(runs), [0.0] * len(runs)
        for turn in range(len(runs)):
            column = (turn + len(wall)) % len(runs)
            before, idle = clock(), processor()
            runs[column]()
            taken[column], worked[column] = (clock() - before) * 1000, (processor() - idle) * 1000
        wall.append(taken)
        cpu.append(worked)
    return Rounds(np.array(wall), np.array(cpu))


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
) -> Iterator[Contender]:
    """The networks in a runtime, each run once.

    Raises:
        ValueError: one does not export, or the runtime cannot run it.
    """
    if runtime == "torch":
        for name, network in networks.items():
            yield Contender(name, runtime, example[0].device.type, torch_run(network, example))
        return
    for name in dict.fromkeys((*networks, *files)):
        if name not in files:
            file = folder / f"{len(files)}.onnx"
            export_onnx(networks[name], example, file)
            files[name] = file
        device = "cpu"
        if runtime == "openvino":
            run = openvino_run(files[name], example, threads=threads)
        else:
            run, device = onnxruntime_run(files[name], example, threads=threads)
        try:
            run()
        except Exception as error:  # each runtime has its own
            raise ValueError(f"{runtime} cannot run the {name}: {one_line(error)}") from error
        yield Contender(name, runtime, device, run)


def _row(one: Contender, times: Rounds, column: int, fixed: dict[str, Any]) -> dict[str, Any]:
    q1, p50, q3, p95 = np.percentile(times.wall[:, column], (25, 50, 75, 95))
    return {
        "network": one.network,
        "runtime": one.runtime,
        "device": one.device,
        **fixed,
        "p25_ms": float(q1),
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "iqr_ms": float(q3 - q1),
        "cpu_ms": float(np.percentile(times.cpu[:, column], 25)),
        "runs": len(times.wall),
    }


def speedups(
    contenders: Sequence[Contender], times: Rounds, reference: str, *, single: bool = False
) -> list[dict[str, Any]]:
    """Per contender the reference's time over its own, in the same runtime: `ratio`, of the lower quartiles, and quartiles
    of the ratio within rounds; by which clock, see `share_of`."""
    base = {one.runtime: i for i, one in enumerate(contenders) if one.network == reference}
    answer = []
    for column, one in enumerate(contenders):
        share = share_of(times, column, base[one.runtime], single=single)
        quartiles = {"p50": 1 / share.p50, "q1": 1 / share.q3, "q3": 1 / share.q1}
        answer.append({"ratio": 1 / share.value, **quartiles, "by": share.by})
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
        "ratio": f"{reference} / network in the same runtime, of the lower quartiles of all rounds",
        "noise": "iqr_ms, and q1 and q3 of the ratio within a round: the middle half of the rounds",
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
