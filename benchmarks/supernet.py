"""What sharing costs: one step of UGC's stage 1 against the steps of its three networks, each a static one; and memory.

    python benchmarks/supernet.py [--net unet256] [--ngf 64] [--size 256] [--batch 1] [--rounds 10] [--threads 1]

Static and shared steps alternate in one process; the ratio is the median over rounds. Memory is the peak of a process that
makes steps of the one kind alone, less what it held before the first (Linux).
"""

import argparse
import copy
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.methods.ugc import UgcConfig
from ganshrink.methods.ugc.search import searched_space
from ganshrink.methods.ugc.ugc import online_loss, sandwich
from ganshrink.nets.extra_blocks import begin_as_identity, with_extra_blocks
from ganshrink.pruning import extract, initialise
from ganshrink.pruning.search.supernet import Supernet
from ganshrink.training import Context, Update, adam
from ganshrink.training.tasks import TASKS

KINDS = ("largest", "supernet")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="unet256")
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--memory", choices=KINDS, help="internal: make steps of this kind alone and print the peak"
    )
    return parser.parse_args()


class Steps:
    """Shared and static steps on the same data, SSIM and TV alone: features of VGG would cost both the same."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.image = torch.rand(given.batch, 3, given.size, given.size) * 2 - 1
        example = (self.image[:1],)
        self.config = UgcConfig(extra_blocks=given.blocks, lambda_style=0, lambda_feature=0)
        dense = nets.build(given.net, ngf=given.ngf)
        self.network = begin_as_identity(initialise(with_extra_blocks(dense, example, given.blocks)))
        self.channels = trace(self.network, *example)
        self.space = searched_space(self.network, self.channels, self.config.supernet)
        self.task, self.loss = TASKS["pix2pix"](), online_loss(self.config)
        self.count = 0

    def context(self, trained: dict[str, nn.Module]) -> Context:
        batch = {"input": self.image, "target": -self.image, "unlabelled": self.image.flip(3)}
        return self.task.forward(trained)(batch, self.count, 0)

    def largest(self) -> Callable[[], None]:
        trained = self.task.nets(copy.deepcopy(self.network), 3, 3)
        updates = self.task.updates(trained)
        return lambda: run(updates, self.context(trained))

    def shared(self) -> Callable[[], None]:
        trained = self.task.nets(Supernet(copy.deepcopy(self.network), self.channels), 3, 3)
        given = trained["G"], self.space, self.loss, self.config.supernet
        updates = sandwich(self.task.updates(trained), *given, seed=0)  # type: ignore[arg-type]
        return lambda: run(updates, self.context(trained))

    def static(self) -> Callable[[], None]:
        """The steps of the largest network, and of two that learn from its image, as networks of their own."""
        trained = self.task.nets(copy.deepcopy(self.network), 3, 3)
        updates, made = self.task.updates(trained), {}

        def subnet_step(widths: object) -> None:
            key = bytes(widths.data)  # type: ignore[attr-defined]
            if key not in made:
                network = extract(self.network, self.channels, self.space.plan(self.channels, widths)).train()  # type: ignore[arg-type]
                made[key] = network, adam(network.parameters())
            network, optimizer = made[key]

            def losses(context: Context) -> Iterator[dict[str, Tensor]]:
                image = network(context.batch["unlabelled"])
                yield self.loss.losses(self.loss.look(image), self.wanted)

            run([Update("subnet", [optimizer], losses)], context)

        context = self.context(trained)

        def step() -> None:
            nonlocal context
            context = self.context(trained)
            run(updates, context)
            with torch.no_grad():
                self.wanted = self.loss.look(trained["G"](context.batch["unlabelled"]))
            for widths in (self.random(), self.space.smallest()):
                subnet_step(widths)

        return step

    def random(self):  # type: ignore[no-untyped-def]
        """The random subnet of this step, as `sandwich` draws it."""
        return self.space.random(np.random.default_rng([0, self.count]))


def run(updates: list[Update], context: Context) -> None:
    """A step as the training loop makes it."""
    for update in updates:
        params = [p for o in update.optimizers for group in o.param_groups for p in group["params"]]
        for optimizer in update.optimizers:
            optimizer.zero_grad()
        for terms in update.losses(context):
            torch.stack(list(terms.values())).sum().backward(inputs=params)
        for optimizer in update.optimizers:
            optimizer.step()


def status(field: str) -> float:
    """A size in MB from what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def peak(kind: str) -> float:
    """Peak memory in MB of a process that makes steps of one kind."""
    done = subprocess.run([*sys.orig_argv, "--memory", kind], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    steps = Steps(given)
    if given.memory:
        step = steps.largest() if given.memory == "largest" else steps.shared()
        gc.collect()
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        for steps.count in range(3):
            step()
        print(status("VmHWM") - before)
        return
    shared, static = steps.shared(), steps.static()
    times = []
    for round_ in range(given.rounds + 1):
        steps.count, spent = round_ % 2, []  # two random subnets, so that the static ones are warm as well
        for step in (shared, static) if round_ % 2 else (static, shared):
            start = time.perf_counter()
            step()
            spent.append(time.perf_counter() - start)
        times.append(spent if round_ % 2 else spent[::-1])
    ratios = sorted(a / b for a, b in times[2:])
    middle = statistics.median(ratios)
    print(
        f"{given.net}, ngf {given.ngf}, {given.size}x{given.size}, batch {given.batch}, {given.threads} thread(s)"
    )
    print(
        f"one shared step over three static ones: {middle:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(ratios)} rounds)"
    )
    memory = {kind: peak(kind) for kind in KINDS}
    print(
        f"peak memory: {memory['supernet']:.0f} MB, of the largest network alone {memory['largest']:.0f} MB, ",
        end="",
    )
    print(f"{memory['supernet'] / memory['largest']:.3f} times")


if __name__ == "__main__":
    main()
