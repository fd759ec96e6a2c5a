"""How long CAT's search takes: trace, score and bisect IncRes at 256 x 256 to 2.6 G MACs (paper convention).

Run on an idle machine: `python benchmarks/search.py`. The first round is cold (imports, compilation of operator schemas).
"""

import time

import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import norm_scale


def main(rounds: int = 5) -> None:
    torch.manual_seed(0)
    network = nets.build("incres9")
    for module in network.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            torch.nn.init.uniform_(module.weight)
    print("round  trace s  score and bisect s  paper G MACs")
    for number in range(rounds):
        started = time.perf_counter()
        channels = trace(network, torch.zeros(1, 3, 256, 256))
        traced = time.perf_counter()
        plan = bisect_threshold(channels, norm_scale(network, channels), "paper_macs=2.6G", floor=16)
        done = time.perf_counter()
        macs = channels.cost(plan, "paper").macs / 1e9
        print(f"{number:5}  {traced - started:7.2f}  {done - traced:18.3f}  {macs:12.6f}")


if __name__ == "__main__":
    main()
