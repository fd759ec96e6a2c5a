"""formats.json: the student's files for other runtimes in one table, and their times beside the teacher's."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganshrink.exporters import EXPORTERS, exporter
from ganshrink.exporters.graph import prepare
from ganshrink.latency.measuring import interleave
from ganshrink.latency.shares import share_of
from ganshrink.system.generator import Input, as_tuple
from ganshrink.training.stages import Run, tensors_hash

FORMATS = "formats.json"
INT8 = "onnx-int8"  # written by quantizing, not by an exporter
TIMED = {"onnx": ("student", "onnxruntime"), INT8: ("int8", "onnxruntime")}  # rows of latency.json


def provenance(student: nn.Module, licence: str | None) -> dict[str, str]:
    """Who made a file of what, for its metadata."""
    made = {"made_by": f"ganshrink {_version('ganshrink')}", "weights": tensors_hash(student.state_dict())}
    return made | ({"licence": licence} if licence else {})


def write_formats(run: Run) -> None:
    """formats.json, from parity.json and latency.json, where anything is exported.

    Its `rows` hold `format`, `file`, `bytes`, `precision`, `runtime` and `version`; `pictures`, the difference from torch on
    held-out pictures in levels of 255, or `unchecked`, why it was not compared; `fell_back`, operators by number that the
    runtime leaves to slower code, none where it cannot tell; and `latency`, the teacher's time over the student's in the
    same runtime and format, none where it was not measured.
    """
    parity = run.read("parity.json") if (run.path / "parity.json").is_file() else {}
    times = run.read("latency.json").get("rows", []) if (run.path / "latency.json").is_file() else []
    rows = [_row(file, entry, times) for file, entry in parity.items() if "format" in entry]
    if rows or (run.path / FORMATS).is_file():
        run.write(FORMATS, {"rows": rows})


def _row(file: str, entry: Mapping[str, Any], times: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name = entry["format"]
    runtime = "onnxruntime" if name == INT8 else EXPORTERS[name].runtime if name in EXPORTERS else ""
    pictures = entry.get("pictures")
    if name == INT8 and entry.get("images"):
        keys = ("max_abs_diff", "mean_abs_diff", "psnr_db")
        pictures = {"images": entry["images"]}
        pictures |= dict(zip(("max_levels", "mean_levels", "psnr_db"), (entry[k] for k in keys), strict=True))
    timed = next((row for row in times if (row["network"], row["runtime"]) == TIMED.get(name)), None)
    latency = entry.get("latency") or (timed and {**timed["speedup"], "threads": timed["threads"]})
    return {
        "format": name,
        "file": file,
        "bytes": entry.get("bytes"),
        "precision": "int8" if name == INT8 else entry.get("precision", "float32"),
        "runtime": runtime,
        "version": _version(runtime) if runtime else "",
        "pictures": pictures if pictures and pictures["images"] else None,
        "unchecked": entry.get("unchecked"),
        "fell_back": entry.get("fell_back"),
        "latency": latency,
    }


def time_format(
    run: Run,
    name: str,
    teacher: nn.Module,
    example: Input,
    *,
    image_io: Any,
    threads: int | None,
    seconds: float,
) -> None:
    """Time the student's file of a format beside the teacher's, which is written for it into a temporary folder; the entry
    in parity.json gets `latency`. Nothing where no runtime for it is here.

    Raises:
        ValueError: the teacher does not convert.
    """
    found = exporter(name)
    if found.open is None:
        return
    threads = threads or torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / found.file
        found.export(teacher, example, path, inputs=(), image_io=image_io)
        _, encode, given = prepare(teacher, example, image_io, False)
        files = (path, run.path / found.file)
        runs = [partial(found.open(file, threads), encode(given)) for file in files]
        rounds = interleave(runs, warmup=2, rounds=30, seconds=seconds)
    share = share_of(rounds, 1)
    latency: dict[str, Any] = {"ratio": 1 / share.value, "q1": 1 / share.q3, "q3": 1 / share.q1}
    latency |= {"rounds": len(rounds.wall), "threads": threads}
    latency["sizes"] = ["x".join(str(side) for side in tensor.shape[1:]) for tensor in as_tuple(example)]
    parity = run.read("parity.json")
    parity[found.file]["latency"] = latency
    run.write("parity.json", parity)
    write_formats(run)


def in_words(folder: Path, parity: Mapping[str, Any], names: Sequence[str] | None) -> list[str]:
    """A line for each file of the formats `names`; None: for student.onnx and the files of the recipe's formats."""
    lines = []
    for file, entry in parity.items():
        if "format" not in entry or (names is not None and entry["format"] not in names):
            continue
        if entry.get("unchecked"):
            lines.append(f"{folder / file}: {entry['unchecked']}")
            continue
        step = entry.get("size_multiple", 1)
        sizes = f", for multiples of {step} pixels from {entry['size_least']} on" if step > 1 else ""
        if "max_abs_diff" in entry:
            far = f"at most {entry['max_abs_diff']:.2g} from torch, {entry['psnr_db']:.1f} dB"
            lines.append(f"{folder / file}: {far}{sizes}")
        else:
            lines.append(f"{folder / file}: {json.dumps(entry)}")
    return lines


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution of the module, such as onnxruntime-gpu
        return "unknown"
