"""How much of its saved MACs a student realises in time: the teacher's time over the student's, by the ratio of their MACs.

Run: `OMP_NUM_THREADS=1 python benchmarks/realised.py [--cut 10 20 40] [--runtime onnxruntime openvino]`. ResNet-9 with 64
filters at 256 x 256, fresh weights, one thread; students are the same share of every layer, a multiple of 16 (`--round-to`).
Variants of the student beside it: zeros for mirrored padding, batch norms (which a runtime folds into convolutions) for
instance norms, sub-pixel convolutions for transposed ones. `--profile` prints where ONNX Runtime spends the time.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import interleaved, told

from ganshrink import nets
from ganshrink.exporters.onnx import export_onnx
from ganshrink.exporters.runtime import infer_openvino, open_openvino, open_session, run_session
from ganshrink.graph import trace
from ganshrink.pruning import extract
from ganshrink.pruning.allocate import share_of_each

VARIANTS: dict[str, dict[str, Any]] = {
    "as the teacher": {},
    "zeros": {"padding": "zeros"},
    "norms folded": {"norm": "batch"},
    "folded, zeros": {"norm": "batch", "padding": "zeros"},
    "folded, zeros, shuffle": {"norm": "batch", "padding": "zeros", "upsample": "shuffle"},
}


def written(folder: Path, cut: float, round_to: int, size: int, variant: dict[str, Any]) -> tuple[Path, int]:
    """The ONNX file of a student of at most a `cut`th of its network's MACs (1: the network itself), and its MACs."""
    model = nets.build("resnet9", **{"affine": True} | variant).eval()
    x = torch.zeros(1, 3, size, size)
    channels = trace(model, x)
    steps = np.linspace(1, 0.01, 200)
    plans = (share_of_each(channels, share, round_to=round_to if share < 1 else 1) for share in steps)
    whole = channels.cost().macs
    plan = next(plan for plan in plans if channels.cost(plan).macs <= whole / cut)
    file = folder / f"{cut}-{'-'.join(map(str, variant.values()))}.onnx"
    export_onnx(extract(model, channels, plan), x, file)
    return file, channels.cost(plan).macs


def runner(file: Path, runtime: str, x: torch.Tensor) -> Callable[[], Any]:
    if runtime == "openvino":
        request = open_openvino(file, threads=1)
        return lambda: infer_openvino(request, (x,))
    session = open_session(file, threads=1)
    return lambda: run_session(session, (x,))


def profile(file: Path, x: torch.Tensor) -> None:
    """Print the share of each operator in ONNX Runtime's time."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(file.with_suffix(""))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    for _ in range(5):
        session.run(None, {session.get_inputs()[0].name: x.numpy()})
    spent: dict[str, float] = defaultdict(float)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event["cat"] == "Node" and event["name"].endswith("kernel_time"):
            sizes = [next(iter(one.values())) for one in event["args"]["input_type_shape"]]
            side = f" {sizes[0][-1]} px" if sizes and len(sizes[0]) == 4 else ""
            spent[event["args"]["op_name"] + side] += event["dur"]
    whole = sum(spent.values())
    shares = sorted(spent.items(), key=lambda item: -item[1])[:10]
    print("   " + ", ".join(f"{name} {took / whole:.0%}" for name, took in shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cut", type=float, nargs="*", default=[10, 20, 40])
    parser.add_argument("--runtime", nargs="*", default=["onnxruntime", "openvino"])
    parser.add_argument("--round-to", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    x = torch.rand(1, 3, given.size, given.size) * 2 - 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher, whole = written(folder, 1, 1, given.size, {})
        students = {
            f"{cut:g}x {text}": written(folder, cut, given.round_to, given.size, variant)
            for cut in given.cut
            for text, variant in VARIANTS.items()
        }
        for runtime in given.runtime:
            print(runtime)
            runs = {"teacher": runner(teacher, runtime, x)}
            runs |= {text: runner(file, runtime, x) for text, (file, _) in students.items()}
            ratios = interleaved(runs, given.rounds)
            print(f"{'':34} {'MACs, times fewer':>18} {'time, times less':>26} {'realised':>26}")
            for text, (_, macs) in students.items():
                fewer, faster = whole / macs, 1 / ratios[text]
                print(f"{text:34} {fewer:18.1f} {told(faster):>26} {told(faster / fewer):>26}")
        for text, (file, _) in ({"teacher": (teacher, whole)} | students).items() if given.profile else ():
            print(text)
            profile(file, x)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
