"""Two gloo processes with batch 2 against one process with batch 4: how far their losses drift apart, step by step.

`python benchmarks/processes.py [--steps 30]` trains the teacher of recipes/cat/quick.toml both ways, and CAT's student
of the one teacher both ways, with batch norms and with instance norms. Printed is the largest difference of any loss term
up to a step, over that term's mean size.

Sums in another order round differently, and training (Adam's first steps above all, which take a gradient's sign)
amplifies that. The row `accumulated` shows how much: one process that takes the same images as two batches of two.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RECIPE = "recipes/cat/quick.toml"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SAME = ["teacher.log_every=1", "teacher.accelerator=cpu", "export.onnx=false", "latency.enabled=false"]


def run(verb: str, folder: Path, words: list[str], *, launcher: Sequence[str] = ()) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [*launcher, "-m", "ganshrink", verb, RECIPE, "--quiet", *SAME, *words, f"run={folder}"]
    subprocess.run([sys.executable, *command], env=environment, check=True, stdout=subprocess.DEVNULL)


def losses(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = (folder / "stages" / stage / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["losses"] for line in lines]


def drift(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """The largest difference of any term at any step, over the term's mean size."""
    assert [step.keys() for step in ours] == [step.keys() for step in theirs]
    size = {name: sum(abs(step[name]) for step in theirs) / len(theirs) for name in theirs[0]}
    return max(abs(a[name] - b[name]) / size[name] for a, b in zip(ours, theirs, strict=True) for name in b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    places = [step for step in (1, 2, 3, 5, 10, 30, 100) if step < steps] + [steps]
    print(f"{'norm':10}{'stage':9}{'against one':25}" + "".join(f"{f'step {place}':>10}" for place in places))
    for norm in ("batch", "instance"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            words = [f"net.norm={norm}", f"task.d_norm={norm}", f"teacher.max_steps={steps}"]

            def show(stage: str, other: str, *, folder: Path = folder, norm: str = norm) -> None:
                ours, theirs = losses(folder / other, stage), losses(folder / "one", stage)
                found = "".join(f"{drift(ours[:place], theirs[:place]):10.1e}" for place in places)
                print(f"{norm:10}{stage:9}{other:25}{found}", flush=True)

            run("compress", folder / "one", [*words, "teacher.batch_size=4"])
            half = [*words, "teacher.batch_size=2"]
            run("train", folder / "processes", half, launcher=TORCHRUN)
            show("teacher", "processes")
            if norm == "instance":  # batch norms see the whole batch, which accumulating does not give them
                run("train", folder / "accumulated", [*half, "teacher.accumulate=2"])
                show("teacher", "accumulated")
            taught = [*half, f"teacher.weights={folder / 'one'}"]
            run("compress", folder / "processes, same teacher", taught, launcher=TORCHRUN)
            show("distill", "processes, same teacher")


if __name__ == "__main__":
    main()
