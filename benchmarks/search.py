"""How long CAT's search takes: trace, score and bisect IncRes at 256 x 256 to 2.6 G MACs (paper convention), and count the
costs of 100 candidates, beside `torch.export`, which a trace calls once; by processor time.

Run: `OMP_NUM_THREADS=1 python benchmarks/search.py [ROUNDS]`; with `grow` for residual networks of up to 1,000 convolutions,
whose branches may all go.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import norm_scale

PARTS = ("export s", "trace besides", "score and bisect", "100 costs")  # of an export
EXPORT, exporting = torch.export.export, [0.0]


def timed(run: Callable[..., Any], *given: Any, **options: Any) -> tuple[Any, float]:
    started = time.process_time()
    return run(*given, **options), time.process_time() - started


def timed_export(*given: Any, **options: Any) -> Any:
    program, exporting[0] = timed(EXPORT, *given, **options)
    return program


def searched(network: torch.nn.Module, side: int, budget: str, floor: int) -> list[float]:
    """Seconds of an export, and what the rest takes as multiples of it."""
    channels, traced = timed(trace, network, torch.zeros(1, 3, side, side))
    scores, scored = timed(norm_scale, network, channels)
    _, bisected = timed(bisect_threshold, channels, scores, budget, floor=floor)
    plans = [Plan.random(channels, 0.5, seed) for seed in range(100)]
    _, counted = timed(lambda: [channels.cost(plan) for plan in plans])
    export = exporting[0]
    return [export, (traced - export) / export, (scored + bisected) / export, counted / export]


def main(rounds: int) -> None:
    network = nets.build("incres9")
    for module in network.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            torch.nn.init.uniform_(module.weight)
    searched(network, 256, "paper_macs=2.6G", 16)  # imports, schemas of operators
    table = np.array([searched(network, 256, "paper_macs=2.6G", 16) for _ in range(rounds)])
    for part, column in zip(PARTS, table.T, strict=True):
        low, middle, high = np.percentile(column, (25, 50, 75))
        print(f"{part:18} {middle:.3f} ({low:.3f} to {high:.3f})")


def grow() -> None:
    for blocks in (64, 128, 256, 500):
        network = nets.build("resnet9", ngf=4, blocks=blocks, affine=True)
        print(
            f"{2 * blocks} convolutions in branches:",
            *(f"{x:.3f}" for x in searched(network, 32, "macs=30%", 1)),
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.export.export = timed_export
    grow() if "grow" in sys.argv else main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
