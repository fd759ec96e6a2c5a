"""The memory of activations in closed form (`memory=`) against what ONNX Runtime takes, each network in its own process.

Run on Linux: `python benchmarks/memory.py`; with `--limit memory=100MB --size 512` of a plan for that budget. Measured is
how far the process's resident memory rises during a run above what it was before, the input added, in three ways: each
tensor allocated and freed on its own (no arena, no reuse), in the second run; the same where a dead tensor's memory is kept
for a later one of its shape (reuse, a default of ONNX Runtime); and all defaults, with the arena, in the first run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganshrink import nets
from ganshrink.exporters.onnx import export_onnx
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.allocate import bisect_threshold

NETWORKS = ("resnet9", "incres9", "unet256")
WAYS = ("alone", "reuse", "default")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument(
        "--limit", help="a budget, whose plan by random scores is measured instead of all and half"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure[0], given.size, given.measure[1])))
        return
    print("network    channels  closed form MB  " + "  ".join(f"{way} MB (ratio)" for way in WAYS))
    for name in given.networks:
        model, x = nets.build(name), torch.zeros(1, 3, given.size, given.size)
        channels = trace(model, x)
        plans = {"all": Plan.full(channels), "half": Plan.random(channels, 0.5)}
        if given.limit:
            scores = torch.rand(channels.num_atoms)
            plans = {given.limit: bisect_threshold(channels, scores, given.limit, floor=4, round_to=4)}
        for text, plan in plans.items():
            said = channels.cost(plan).memory / 1e6
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "student.onnx"
                export_onnx(extract(model, channels, plan), x, file)
                rises = [_apart(file, given.size, way) for way in WAYS]
            cells = "  ".join(f"{rise:10.1f} ({rise / said:.2f})" for rise in rises)
            print(f"{name:10} {text:8}  {said:14.1f}  {cells}", flush=True)
            if given.limit:
                macs = channels.cost(plan).macs / channels.cost().macs
                print(f"{macs:.1%} of the MACs, {channels.cost().memory / 1e6:.0f} MB uncut")


def _apart(file: Path, size: int, way: str) -> float:
    command = [sys.executable, __file__, "--size", str(size), "--measure", str(file), way]
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=exact)
    return float(json.loads(done.stdout))


def measured(file: str, size: int, way: str) -> float:
    """MB by which resident memory rises at most in a run, the input included."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = way == "default"
    options.enable_mem_reuse = way != "alone"
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    [name] = [given.name for given in session.get_inputs()]
    image, rise = np.ones((1, 3, size, size), np.float32), 0.0
    for _ in range(1 if way == "default" else 2):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _status("VmRSS")
        session.run(None, {name: image})
        rise = _status("VmHWM") - before
    return rise / 1e3 + image.nbytes / 1e6


def _status(key: str) -> float:
    """kB * 1.024, thousands of bytes, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) * 1.024


if __name__ == "__main__":
    main()
