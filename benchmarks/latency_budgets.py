"""Are budgets in milliseconds kept? Three networks, three budgets each, measured again after the search.

    python benchmarks/latency_budgets.py [--runtime onnxruntime] [--threads 1] [--nets resnet9,unet256,cartoongan]

For each network the device is looked at once. Plans come from scores that differ from layer to layer, as those of pruned
networks do. What the table gives is a measurement of its own: the exported plan beside the original, interleaved, by the
ratio of their lower quartiles. Weights are random, which takes as long as trained ones.
"""

import argparse
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ganshrink.graph import trace
from ganshrink.latency.backends import network_run
from ganshrink.latency.devices import device_of, with_times
from ganshrink.latency.measuring import interleave, torch_threads
from ganshrink.latency.plan_by_timing import Stopwatch, plan_within_time
from ganshrink.latency.profile_device import measure_profile
from ganshrink.latency.shares import share_of
from ganshrink.nets import build
from ganshrink.pruning import Budget, Channels, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold

SIZE = 256
BUDGETS = (70, 40, 15)


def uneven(channels: Channels, seed: int) -> torch.Tensor:
    """Scores from 0 to 1, each layer's to a power of its own from 1/2 to 2."""
    numbers = torch.Generator().manual_seed(seed)
    scores = torch.rand(channels.num_atoms, generator=numbers)
    for group in channels.groups:
        scores[group.atoms] **= float(2 ** (2 * torch.rand((), generator=numbers) - 1))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nets", default="resnet9,unet256,cartoongan")
    parser.add_argument("--seconds", type=float, default=20, help="for each measurement in the table")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("ganshrink").setLevel(logging.INFO)
    device = device_of("cpu", runtime=options.runtime, threads=options.threads)
    print(
        "| network | widths in steps of | budget | measured | quartiles | MACs, times fewer | times faster |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in options.nets.split(","):
        network, example = build(name).eval(), (torch.rand(1, 3, SIZE, SIZE),)
        profile, channels = measure_profile(network, example, device), trace(network, *example)
        with TemporaryDirectory() as folder:
            stopwatch = Stopwatch(profile, network, example, Path(folder) / "measured.json")
            for share in BUDGETS:
                budget = with_times(Budget.parse(f"latency={share}%@cpu"), profile, channels)
                plan = fitting(budget, channels, stopwatch, profile.step)
                student = extract(network, channels, plan)
                with torch_threads(device.threads):
                    runs = [
                        network_run(one, example, device, Path(folder) / f"{number}.onnx")
                        for number, one in enumerate((network, student))
                    ]
                    times = interleave(runs, warmup=3, rounds=400, seconds=options.seconds)
                found = share_of(times, 1, single=device.threads == 1)
                q1, taken, q3 = (100 * one for one in (found.q1, found.value, found.q3))
                fewer = channels.cost().macs / channels.cost(plan).macs
                print(
                    f"| {name} | {profile.step} | {share} % | {taken:.1f} % | {q1:.1f} to {q3:.1f} | {fewer:.1f} | "
                    f"{100 / taken:.1f} |",
                    flush=True,
                )


def fitting(budget: Budget, channels: Channels, stopwatch: Stopwatch, step: int) -> Plan:
    """What a method's job does with a budget in milliseconds."""
    scores = uneven(channels, seed=0)

    def propose(aimed: Budget) -> Plan:
        return bisect_threshold(channels, scores, aimed, round_to=step)

    return plan_within_time(propose, budget, stopwatch, stopwatch.original, channels)


if __name__ == "__main__":
    main()
