"""GAN Slimming: sparsity, distillation and few bits in one objective, for a generator that is its own teacher.

    python examples/gan_slimming.py [FOLDER] [STEPS]

There are no targets here: inputs alone, and a trained generator. The student is trained under quantizers, and its INT8
file is written, compared with torch and scored. Wang et al. 2020; docs/gan-slimming.md says what is the paper's.
"""

import sys

import torch

import ganshrink
from ganshrink.data import DataConfig, open_dataset


def main(folder: str = "runs/examples/gan_slimming", steps: int = 200) -> None:
    torch.manual_seed(0)
    facades = open_dataset(DataConfig(size=32, counts={"train": 32, "val": 4, "test": 4}), "train")
    samples = [facades.sample(index, None) for index in range(len(facades))]

    # A teacher. Yours is trained already: load its weights here.
    teacher = ganshrink.nets.build("resnet6", ngf=12, blocks=2)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
    for step in range(steps):
        sample = samples[step % len(samples)]
        loss = torch.nn.functional.l1_loss(teacher(sample["input"][None]), sample["target"][None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    finished = ganshrink.compress(
        teacher.eval(),
        data=[sample["input"] for sample in samples],
        budget="macs=40%",
        task={"name": "image2image"},
        method={
            "name": "gan_slimming",
            "distance": "mse",  # "perceptual" needs VGG's weights
            "prune_trunk": True,
            "quantization": {},  # 8 bits, as in the paper; leave it out for float32
            "search": {"lr": 1e-3, "rho": 0.02, "adaptive_rho": True},
            "finetune": {"lr": 1e-3},
        },
        student={"max_steps": steps, "batch_size": 4},
        export={"onnx": False},  # examples/cat.py has the whole road
        latency={"enabled": False},
        metrics={"names": ["psnr_teacher"]},
        run=folder,
    )
    teacher_bytes, student_bytes = (finished.cost[net]["bytes"] for net in ("teacher", "student"))
    print(f"{teacher_bytes:,} -> {student_bytes:,} bytes of weights in float32")
    print(
        {net: round(found["psnr_teacher"]["value"], 2) for net, found in finished.metrics.items() if found},
        "dB",
    )
    print(f"the report: {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
