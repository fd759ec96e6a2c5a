"""What a training step costs: Pix2Pix or CycleGAN beside a plain loop over the same networks, and distillation beside the
student alone.

Run: `OMP_NUM_THREADS=1 python benchmarks/training.py [--task cyclegan] [--net resnet9] [--ngf 32] [--size 128] [--steps 8]`.
The plain loop is what one writes by hand: the batches of a list, an optimiser for the generators and one for the
discriminators, which hold still while the generators learn, in float32, and again in each other precision. Student: 30 % of
each layer. Distillation compares features at four places of the teacher's trunk (CAT), without the discriminator's share,
which both trainings have; with inputs that come again, as in every epoch but the first, and with new ones.
"""

import argparse
import itertools
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from interleaved import interleaved
from torch import Tensor, nn, square
from torch.nn.functional import l1_loss, relu

from ganshrink import nets
from ganshrink.data import Batches, DataConfig, open_dataset
from ganshrink.graph import trace
from ganshrink.losses import kernel_alignment
from ganshrink.pruning import extract, initialise
from ganshrink.pruning.allocate import share_of_each
from ganshrink.system.copies import in_training
from ganshrink.training import FitConfig, Taps, default_taps, fit
from ganshrink.training.tasks.cyclegan import CycleGAN, CycleGANConfig
from ganshrink.training.tasks.pix2pix import Pix2Pix, Pix2PixConfig

TASKS = {"pix2pix": Pix2Pix(Pix2PixConfig(ndf=64)), "cyclegan": CycleGAN(CycleGANConfig(ndf=64))}
POOL = 50  # earlier fakes that CycleGAN's discriminators are shown

Networks = dict[str, nn.Module]
Batch = dict[str, Any]


def plain(task: str, networks: Networks, batches: list[Batch], steps: int, precision: str) -> None:
    """A training by hand."""
    networks = {name: in_training(network) for name, network in networks.items()}
    adam = {
        kind: torch.optim.Adam(
            itertools.chain(*(n.parameters() for name, n in networks.items() if name[0] == kind)),
            2e-4,
            (0.5, 0.999),
        )
        for kind in "GD"
    }
    step = pix2pix if task == "pix2pix" else CycleByHand()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        for batch in itertools.islice(itertools.cycle(batches), steps):
            step(networks, adam, batch["input"], batch["target"])


def learns(networks: Networks, really: bool) -> None:
    """Whether gradients of the discriminators' weights are made."""
    for name, network in networks.items():
        if name[0] == "D":
            network.requires_grad_(really)


def pix2pix(networks: Networks, adam: dict[str, torch.optim.Optimizer], x: Tensor, y: Tensor) -> None:
    """One step by hand: hinge losses and L1."""
    G, D = networks["G"], networks["D"]
    fake = G(x)
    adam["D"].zero_grad()
    real_scores, fake_scores = D(torch.cat([x, y], 1)), D(torch.cat([x, fake.detach()], 1))
    ((relu(1 - real_scores).mean() + relu(1 + fake_scores).mean()) / 2).backward()
    adam["D"].step()
    learns(networks, False)
    adam["G"].zero_grad()
    (100 * l1_loss(fake, y) - D(torch.cat([x, fake], 1)).mean()).backward()
    adam["G"].step()
    learns(networks, True)


class CycleByHand:
    """Steps by hand: squared losses, cycles, identities, and a pool of earlier fakes."""

    def __init__(self) -> None:
        self.pools: dict[str, list[Tensor]] = {"A": [], "B": []}

    def __call__(self, nets: Networks, adam: dict[str, torch.optim.Optimizer], a: Tensor, b: Tensor) -> None:
        fake_b, fake_a = nets["G_A"](a), nets["G_B"](b)
        learns(nets, False)
        adam["G"].zero_grad()
        fooled = square(nets["D_A"](fake_b) - 1).mean() + square(nets["D_B"](fake_a) - 1).mean()
        cycle = l1_loss(nets["G_B"](fake_b), a) + l1_loss(nets["G_A"](fake_a), b)
        same = l1_loss(nets["G_A"](b), b) + l1_loss(nets["G_B"](a), a)
        (fooled + 10 * cycle + 5 * same).backward()
        adam["G"].step()
        learns(nets, True)
        adam["D"].zero_grad()
        for way, real, fake in (("A", b, fake_b), ("B", a, fake_a)):
            shown = self.exchange(way, fake.detach())
            of_real, of_fake = nets[f"D_{way}"](real), nets[f"D_{way}"](shown)
            ((square(of_real - 1).mean() + square(of_fake).mean()) / 2).backward()
        adam["D"].step()

    def exchange(self, way: str, fakes: Tensor) -> Tensor:
        """Each fake, or in half of the cases an earlier one, whose place it takes."""
        pool, shown = self.pools[way], []
        for fake in fakes:
            if len(pool) < POOL:
                pool.append(fake)
            elif random.random() < 0.5:
                place = random.randrange(POOL)
                pool[place], fake = fake, pool[place]
            shown.append(fake)
        return torch.stack(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="pix2pix")
    parser.add_argument("--net", default="resnet9")
    parser.add_argument("--ngf", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", nargs="*", default=["32-true"])
    given = parser.parse_args()
    data = open_dataset(DataConfig(name="facades-synthetic", size=given.size), "train")
    batches = Batches(data, batch_size=given.batch_size, seed=0)
    listed = list(itertools.islice(batches.stream(0), 8))
    torch.set_num_threads(1)
    teacher = nets.build(
        given.net, ngf=given.ngf, **({"affine": True} if "resnet" in given.net else {})
    ).eval()
    x = torch.zeros(1, 3, given.size, given.size)
    channels = trace(teacher, x)
    small = extract(teacher, channels, share_of_each(channels, 0.3))
    widest = max(len(group) for group in channels.groups if group.frozen is None)
    paths = default_taps(teacher, (x,), widest)

    def trained(network: nn.Module, precision: Any, *, task: Any, taught: bool = False) -> None:
        torch.manual_seed(0)
        networks = task.nets(initialise(network), 3, 3)

        def alignment(context: Any) -> dict[str, torch.Tensor]:
            theirs, ours = context.features("teacher"), context.features("G")
            return {"G_dist": -torch.stack([kernel_alignment(theirs[p], ours[p]) for p in paths]).sum()}

        config = FitConfig(max_steps=given.steps, precision=precision, threads=1, checkpoint_minutes=None)
        with tempfile.TemporaryDirectory() as folder, Taps(teacher, paths) as of, Taps(network, paths) as own:
            taps = {"teacher": of, "G": own} if taught else None
            updates = task.updates(networks, [alignment] if taught else [])
            fit(
                networks,
                updates,
                batches,
                config,
                forward=task.forward(networks, taps),
                directory=Path(folder),
            )

    task, title = TASKS[given.task], {"pix2pix": "Pix2Pix", "cyclegan": "CycleGAN"}[given.task]

    def by_hand(precision: str = "32-true") -> None:
        torch.manual_seed(0)
        plain(given.task, task.nets(initialise(teacher), 3, 3), listed, given.steps, precision)

    print(
        f"{title}, {given.net} ngf {given.ngf}, {given.size} px, batch {given.batch_size}, {given.steps} steps a turn"
    )
    runs = {"plain loop": by_hand}
    for precision in given.precision:
        if precision != "32-true":
            runs[f"plain loop, {precision}"] = lambda p=precision: by_hand(p)  # type: ignore[misc]
        runs[f"{title}, {precision}"] = lambda p=precision: trained(teacher, p, task=task)  # type: ignore[misc]
    interleaved(runs, given.rounds)
    if given.task == "cyclegan":  # its students learn as those of Pix2Pix do
        return
    teacher.eval()  # it was trained above

    def distilled(student_task: Any) -> None:
        trained(small, given.precision[0], task=student_task, taught=True)

    again = task.as_student_task(teacher)  # with what the teacher made in the rounds before
    runs = {
        "the student alone": lambda: trained(small, given.precision[0], task=task),
        "distilled": lambda: distilled(again),
        "distilled, inputs that are new": lambda: distilled(task.as_student_task(teacher)),
    }
    interleaved(runs, given.rounds)


if __name__ == "__main__":
    main()
