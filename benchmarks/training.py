"""What a training step costs: Pix2Pix beside a plain loop over the same networks, and distillation beside the student alone.

Run: `OMP_NUM_THREADS=1 python benchmarks/training.py [--net resnet9] [--ngf 32] [--size 128] [--steps 8] [--rounds 5]`.
The plain loop is what one writes by hand: the batches of a list, two optimisers, hinge losses and L1, in float32, and again
in each other precision. Student: 30 % of each layer. Distillation compares features at four places of the teacher's trunk
(CAT), without the discriminator's share, which both trainings have; with inputs that come again, as in every epoch but
the first, and with new ones.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch
from interleaved import interleaved
from torch import nn
from torch.nn.functional import l1_loss, relu

from ganshrink import nets
from ganshrink.data import Batches, DataConfig, open_dataset
from ganshrink.graph import trace
from ganshrink.losses import kernel_alignment
from ganshrink.pruning import extract, initialise
from ganshrink.pruning.allocate import share_of_each
from ganshrink.system.copies import in_training
from ganshrink.training import FitConfig, Taps, default_taps, fit
from ganshrink.training.tasks.pix2pix import Pix2Pix, Pix2PixConfig

TASK = Pix2Pix(Pix2PixConfig(ndf=64))


def plain(
    networks: dict[str, nn.Module], batches: list[dict[str, Any]], steps: int, precision: str = "32-true"
) -> None:
    """Pix2Pix by hand."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        _plain(networks, batches, steps)


def _plain(networks: dict[str, nn.Module], batches: list[dict[str, Any]], steps: int) -> None:
    G, D = (in_training(networks[name]) for name in ("G", "D"))
    adam = {name: torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for name, net in networks.items()}
    for batch in itertools.islice(itertools.cycle(batches), steps):
        x, y = batch["input"], batch["target"]
        fake = G(x)
        adam["D"].zero_grad()
        real_scores, fake_scores = D(torch.cat([x, y], 1)), D(torch.cat([x, fake.detach()], 1))
        ((relu(1 - real_scores).mean() + relu(1 + fake_scores).mean()) / 2).backward()
        adam["D"].step()
        adam["G"].zero_grad()
        (100 * l1_loss(fake, y) - D(torch.cat([x, fake], 1)).mean()).backward()
        adam["G"].step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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

    def trained(name: str, network: nn.Module, precision: Any, *, task: Pix2Pix = TASK) -> None:
        torch.manual_seed(0)
        taught = task.teacher is not None
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

    def by_hand(precision: str = "32-true") -> None:
        torch.manual_seed(0)
        plain(TASK.nets(initialise(teacher), 3, 3), listed, given.steps, precision)

    print(
        f"{given.net} ngf {given.ngf}, {given.size} px, batch {given.batch_size}, {given.steps} steps a turn"
    )
    runs = {"plain loop": by_hand}
    for precision in given.precision:
        if precision != "32-true":
            runs[f"plain loop, {precision}"] = lambda p=precision: by_hand(p)  # type: ignore[misc]
        runs[f"Pix2Pix, {precision}"] = lambda p=precision: trained("teacher", teacher, p)  # type: ignore[misc]
    interleaved(runs, given.rounds)
    alone = lambda: trained("student", small, given.precision[0])  # noqa: E731
    teacher.eval()  # it was trained above
    again = TASK.as_student_task(teacher)  # with what the teacher made in the rounds before
    runs = {
        "the student alone": alone,
        "distilled": lambda: trained("student", small, given.precision[0], task=again),
        "distilled, inputs that are new": lambda: trained(
            "student", small, given.precision[0], task=TASK.as_student_task(teacher)
        ),
    }
    interleaved(runs, given.rounds)


if __name__ == "__main__":
    main()
