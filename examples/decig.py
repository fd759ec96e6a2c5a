"""DECIG: a penalty condenses each layer into few channels while it trains; layers are cut at their hinges.

    python examples/decig.py [FOLDER] [STEPS]

Shah and Bharaj 2022; docs/decig.md says what is the paper's. The report draws each layer's channels with its hinge.
"""

import json
import sys

from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import resolve


def main(folder: str = "runs/examples/decig", steps: int = 150) -> None:
    recipe = {
        "run": folder,
        "budget": "macs=40%",
        "net": {"name": "unet128", "ngf": 8, "downs": 5},
        "data": {"size": 32, "counts": {"train": 16, "val": 4, "test": 4}},  # drawn facades
        "task": {"name": "pix2pix", "ndf": 8, "lr": 1e-3},
        "method": {
            "name": "decig",
            "condense": {"ratio": 1.0},  # ten times the paper's: this training is thousands of times shorter
            "cut": {"calibration_images": 4},
            "finetune": {"lambda_kd": 50},
        },
        "teacher": {"max_steps": steps, "batch_size": 2},
        "export": {"onnx": False},
        "latency": {"enabled": False},
    }
    finished = compress_recipe(resolve(recipe))
    teacher_macs, student_macs = (finished.cost[net]["macs"]["exact"] for net in ("teacher", "student"))
    print(f"{teacher_macs:,} -> {student_macs:,} multiply-accumulates")
    for layer in json.loads((finished.path / "hinges.json").read_text())["layers"]:
        print(f"{layer['name']}: {layer['kept']} of {layer['of']} channels, hinge: {layer['hinge']}")
    print(f"the report: {finished.path / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
