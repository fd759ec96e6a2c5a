"""UGC: few labels. A supernet of widths and depths, searched by evolution; a student taught online by two teachers.

    python examples/ugc.py [FOLDER] [STEPS]

Twelve of forty pairs keep their targets, the others are inputs alone. Ren et al. 2023;
docs/ugc.md says what is the paper's.
"""

import json
import sys

import torch

import ganshrink
from ganshrink.data import DataConfig, open_dataset


def main(folder: str = "runs/examples/ugc", steps: int = 150) -> None:
    torch.manual_seed(0)
    facades = open_dataset(DataConfig(size=32, counts={"train": 40, "val": 4, "test": 4}), "train")
    samples = [facades.sample(index, None) for index in range(len(facades))]
    labelled = [(sample["input"], sample["target"]) for sample in samples[:12]]

    # A teacher. Yours is trained already: load its weights here.
    teacher = ganshrink.nets.build("resnet6", ngf=8, blocks=2)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for step in range(steps):
        labels, photo = (part[None] for part in labelled[step % len(labelled)])
        loss = torch.nn.functional.l1_loss(teacher(labels), photo)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    finished = ganshrink.compress(
        teacher.eval(),
        data=labelled,
        unlabelled=[sample["input"] for sample in samples[12:]],
        budget="macs=25%",
        task={"name": "pix2pix", "ndf": 8},
        method={
            "name": "ugc",
            **{
                "lambda_style": 0,
                "lambda_feature": 0,
            },  # these look through VGG, whose weights are not shipped
            "extra_blocks": 1,
            "search": {"population": 6, "generations": 2, "fitness": "agreement"},
        },
        student={"max_steps": steps, "batch_size": 4},
        export={"onnx": False},  # examples/cat.py has the whole road
        latency={"enabled": False},
        run=folder,
    )
    for name, found in json.loads((finished.path / "search.json").read_text())["networks"].items():
        print(
            f"{name}: {found['macs']:,} multiply-accumulates, {found['of_student']:.1f} times the student's"
        )
    print(f"the report: {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
