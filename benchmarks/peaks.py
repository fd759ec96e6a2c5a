"""What this machine reaches at best: large matrix products in fp32, bf16 and int8, and copying memory; by processor time.

Run: `OMP_NUM_THREADS=1 python benchmarks/peaks.py`.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

SIDE, ROUNDS = 512, 9


def main() -> None:
    a, b = torch.randn(2, SIDE, SIDE)
    whole = [torch.randint(-9, 9, (SIDE, SIDE), dtype=torch.int8) for _ in range(2)]
    source, target = torch.zeros(2, 1 << 24)  # 64 MiB each, more than caches hold
    half = a.bfloat16(), b.bfloat16()
    products: dict[str, Callable[[], Any]] = {
        "fp32": lambda: a @ b,
        "bf16": lambda: half[0] @ half[1],
        "int8": lambda: torch._int_mm(*whole),
    }
    for name, run in products.items():
        print(f"{name}: {_told(2e-9 * SIDE**3, run)} G operations a second")
    print(f"copies: {_told(2e-9 * source.nbytes, lambda: target.copy_(source))} GB read and written a second")


def _told(amount: float, run: Callable[[], Any]) -> str:
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        run()
        rates.append(amount / (time.process_time() - started))
    low, middle, high = np.percentile(rates[1:], (25, 50, 75))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
