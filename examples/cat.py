"""CAT: a generator of your own, pruned once by its norm scales, then taught by kernel alignment.

    python examples/cat.py [FOLDER] [STEPS]

Drawn facades, two cores, a minute or two. Jin et al. 2021; docs/cat.md says what is the paper's.
"""

import sys

import torch
from torch import nn

import ganshrink
from ganshrink.data import DataConfig, open_dataset


class Painter(nn.Module):
    """Label maps to facades: any module will do that torch.export can trace."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(
            *(nn.Conv2d(3, width, 7, padding=3), nn.InstanceNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU()),
        )
        self.block = nn.Sequential(
            *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU()),
            *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.InstanceNorm2d(2 * width)),
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            *(nn.InstanceNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 7, padding=3), nn.Tanh()),
        )

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        features = self.down(labels)
        return self.up(features + self.block(features))


def main(folder: str = "runs/examples/cat", steps: int = 200) -> None:
    torch.manual_seed(0)
    facades = open_dataset(DataConfig(size=32, counts={"train": 32, "val": 4, "test": 4}), "train")
    samples = [facades.sample(index, None) for index in range(len(facades))]
    pairs = [(sample["input"], sample["target"]) for sample in samples]

    # A teacher. Yours is trained already: load its weights here.
    teacher = Painter()
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for step in range(steps):
        labels, photo = (part[None] for part in pairs[step % len(pairs)])
        loss = nn.functional.l1_loss(teacher(labels), photo)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    finished = ganshrink.compress(
        teacher.eval(),
        data=pairs,
        budget="macs=30%",
        method={"name": "cat", "search": {"floor": 4}, "distill": {"taps": ("down.5", "block")}},
        task={"name": "pix2pix", "ndf": 16},
        student={"max_steps": steps, "batch_size": 4},
        latency={"seconds": 0.3},
        run=folder,
    )
    teacher_macs, student_macs = (finished.cost[net]["macs"]["exact"] for net in ("teacher", "student"))
    print(f"{teacher_macs:,} -> {student_macs:,} multiply-accumulates")
    print({net: round(scores["psnr"]["value"], 2) for net, scores in finished.metrics.items()}, "dB")
    print(f"the report: {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
