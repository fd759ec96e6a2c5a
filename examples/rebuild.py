"""Rebuild: a trained generator cut by what its outputs would lose, refitted layer by layer, and taught for a little while.

    python examples/rebuild.py [FOLDER] [STEPS]

Drawn facades, two cores, a minute or two. A method of our own; docs/rebuild.md says what is new in it and what is not.
"""

import sys

import torch

import ganshrink
from ganshrink.data import DataConfig, open_dataset


def main(folder: str = "runs/examples/rebuild", steps: int = 200) -> None:
    torch.manual_seed(0)
    facades = open_dataset(DataConfig(size=32, counts={"train": 32, "val": 4, "test": 4}), "train")
    samples = [facades.sample(index, None) for index in range(len(facades))]
    pairs = [(sample["input"], sample["target"]) for sample in samples]

    # A teacher. Yours is trained already: load its weights here.
    teacher = ganshrink.nets.build("resnet6", ngf=12, blocks=2)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for step in range(steps):
        labels, photo = (part[None] for part in pairs[step % len(pairs)])
        loss = torch.nn.functional.l1_loss(teacher(labels), photo)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    # The student begins with refitted weights, so that a tenth of the steps may do, at a low rate.
    finished = ganshrink.compress(
        teacher.eval(),
        data=pairs,
        budget="macs=30%",
        method={"name": "rebuild"},
        task={"name": "pix2pix", "ndf": 16, "lr": 1e-4},
        student={"max_steps": max(1, steps // 10), "batch_size": 4},
        export={"onnx": False},  # examples/cat.py has the whole road
        latency={"enabled": False},
        run=folder,
    )
    teacher_macs, student_macs = (finished.cost[net]["macs"]["exact"] for net in ("teacher", "student"))
    print(f"{teacher_macs:,} -> {student_macs:,} multiply-accumulates")
    print({net: round(scores["psnr"]["value"], 2) for net, scores in finished.metrics.items()}, "dB")
    print(f"the report: {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
