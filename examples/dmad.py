"""DMAD: masks that anneal to 0 and 1 while the network trains, then attention of the teacher and of its discriminator.

    python examples/dmad.py [FOLDER] [STEPS]

The method looks at the teacher's discriminator, so that the teacher is trained as the task trains it: a recipe does all.
Li et al. 2022; docs/dmad.md says what is the paper's.
"""

import sys

from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import resolve


def main(folder: str = "runs/examples/dmad", steps: int = 150) -> None:
    recipe = {
        "run": folder,
        "budget": "macs=50%",
        "net": {"name": "resnet6", "ngf": 8, "blocks": 2},
        "data": {"size": 32, "counts": {"train": 32, "val": 4, "test": 4}},  # drawn facades
        "task": {"name": "pix2pix", "ndf": 8, "lr": 1e-3},
        "method": {
            "name": "dmad",
            # a search this short needs a higher rate for the masks than for the weights, and a harder pull
            "search": {"lambda_spa": 0.05, "mask_lr": 0.05},
            "distill": {"fusion": "sum"},
        },
        "teacher": {"max_steps": steps, "batch_size": 4},
        "export": {"onnx": False},
        "latency": {"enabled": False},
    }
    finished = compress_recipe(resolve(recipe))
    teacher_macs, student_macs = (finished.cost[net]["macs"]["exact"] for net in ("teacher", "student"))
    print(f"{teacher_macs:,} -> {student_macs:,} multiply-accumulates")
    print(f"the report: {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
