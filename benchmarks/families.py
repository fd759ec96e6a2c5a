"""What networks of equal multiply-accumulates take: a cut ResNet-9, and the generator made for devices cut as far.

    OMP_NUM_THREADS=1 python benchmarks/families.py [BUDGET] [ROUNDS]

In ONNX Runtime on one thread, 256 x 256, all cut evenly to one budget in MACs; by the ratio to the ResNet of widths in steps
of 16 in the same round. Weights are fresh, which takes as long as trained ones.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from interleaved import interleaved

from ganshrink import nets
from ganshrink.exporters import export_onnx, open_session
from ganshrink.graph import trace
from ganshrink.pruning import extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly

EXAMPLE = torch.rand(1, 3, 256, 256)
PLAIN = {"norm": "none", "padding": "zeros", "upsample": "shuffle"}
CONTENDERS: dict[str, tuple[str, dict[str, Any], int]] = {  # name, options, step of widths
    "resnet9": ("resnet9", {}, 16),
    "resnet9, steps of 1": ("resnet9", {}, 1),
    "resnet9, no norms, zeros, shuffle": ("resnet9", PLAIN, 16),
    "devicenet": ("devicenet", {}, 16),
    "devicenet, three halvings": ("devicenet", {"downs": 3}, 16),
}


def ready(name: str, options: dict[str, Any], step: int, budget: str, file: Path) -> Callable[[], Any]:
    """A network cut evenly to the budget, exported; what runs it once."""
    network = nets.build(name, **options).eval()
    channels = trace(network, EXAMPLE)
    plan = bisect_threshold(channels, evenly(channels), budget, round_to=step)
    cost = channels.cost(plan)
    widths = sorted({int(plan.keep[group.atoms].sum()) for group in channels.groups if group.frozen is None})
    print(f"{file.stem}: {cost.macs / 1e9:.3f} G MACs, {cost.params / 1e6:.3f} M parameters, widths {widths}")
    export_onnx(extract(network, channels, plan), (EXAMPLE,), file)
    return partial(open_session(file, threads=1).run, None, {"input": EXAMPLE.numpy()})


def main(budget: str, rounds: int) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            label: ready(*contender, budget, Path(folder, f"{label}.onnx"))
            for label, contender in CONTENDERS.items()
        }
        interleaved(runs, rounds, warmup=2)


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["macs=5G"], int(sys.argv[2]) if len(sys.argv) > 2 else 15)
