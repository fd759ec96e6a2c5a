"""Uniform widths: the baseline that every method has to beat, taught as CAT's student is, and from scratch.

    python examples/uniform.py [FOLDER] [STEPS]

Both runs share the budget, the data and the length of training, so that their scores can be compared. One seed shows
nothing: repeat it with others before you believe a difference.
"""

import sys

import torch

import ganshrink
from ganshrink.data import DataConfig, open_dataset


def main(folder: str = "runs/examples/uniform", steps: int = 200) -> None:
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

    for teaching in ("distilled", "scratch"):
        finished = ganshrink.compress(
            teacher.eval(),
            data=pairs,
            budget="macs=30%",
            method={"name": "uniform", "teaching": teaching, "round_to": 2},
            task={"name": "pix2pix", "ndf": 16},
            student={"max_steps": steps, "batch_size": 4},
            export={"onnx": False},  # examples/cat.py has the whole road
            latency={"enabled": False},
            run=f"{folder}/{teaching}",
        )
        scores = {net: round(found["psnr"]["value"], 2) for net, found in finished.metrics.items()}
        macs = finished.cost["student"]["macs"]["exact"]
        print(f"{teaching}: {macs:,} multiply-accumulates, {scores} dB, {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
