"""UGC in two processes, as torchrun starts them: they agree on what they find, and one would have found the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ganshrink import nets
from ganshrink.data import open_dataset, open_unlabelled
from ganshrink.data.held_out import divide
from ganshrink.graph import trace
from ganshrink.methods.base import Job
from ganshrink.methods.original import Original
from ganshrink.methods.ugc.search import Search, searched_space
from ganshrink.nets.extra_blocks import with_extra_blocks
from ganshrink.pruning import Budget
from ganshrink.training.subnets import SubnetScores
from ganshrink.training.tasks import Pix2Pix
from ganshrink.workflow.recipe import read_recipe

RECIPE = """
budget = "macs=30%"
net = { name = "resnet6", ngf = 4, blocks = 1, norm = "batch" }
data = { size = 32, label_fraction = "50%", counts = { train = 20, val = 2, test = 2 } }
task = { name = "pix2pix", ndf = 4 }
teacher = { max_steps = 1, batch_size = 2, log_every = 1, accelerator = "cpu" }
student = { max_steps = 2, batch_size = 2, log_every = 1, accelerator = "cpu" }
metrics = { names = ["psnr"] }
export = { onnx = false }
latency = { enabled = false }

[method]
name = "ugc"
extra_blocks = 1
lambda_style = 0
lambda_feature = 0
supernet.steps = 4
search = { population = 5, generations = 2, teacher_ratio = 3 }  # an odd one is left over
finetune.filter_after = 0
"""
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "--no-python",
]
# Each process leaves what it came to.
SCRIPT = """
import json, os, sys
from pathlib import Path
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import read_recipe
outcome = compress_recipe(read_recipe(Path(sys.argv[1]), sys.argv[2:]), progress=False)
weights = {name: tensor.double().sum().item() for name, tensor in outcome.student.state_dict().items()}
made = {"plan": outcome.plan.keep.tolist(), "student": weights}
Path(f"{sys.argv[1]}.{os.environ['RANK']}.json").write_text(json.dumps(made))
"""


class Knowing(Search):
    """Counts what it has to score."""

    asked: int = 0

    def score(self, widths: Any) -> float:
        self.asked += 1
        return super().score(widths)


def in_one_process(recipe_file: Path, run: Path) -> tuple[Knowing, Budget]:
    """The search of a run's supernet by the scores that it left."""
    recipe = read_recipe(recipe_file)
    data, more = open_dataset(recipe.data, "train"), open_unlabelled(recipe.data)
    original, example = nets.build("resnet6", ngf=4, blocks=1, norm="batch"), (torch.zeros(1, 3, 32, 32),)
    budget = Budget.parse("macs=30%").resolve(trace(original, *example))
    untrained = Original(lambda: original, example, recipe.method.transforms())
    teacher = {"G": original}
    job = Job(untrained, lambda: teacher, Pix2Pix(), data, budget, recipe.student, False, unlabelled=more)
    network = with_extra_blocks(original, example, recipe.method.extra_blocks)
    channels = trace(network, *example)
    network.load_state_dict(load_file(run / "stages/supernet/G.safetensors"))
    space = searched_space(network, channels, recipe.method.supernet)
    images, scores = divide(data, more, recipe.method.search_images), run / "stages/search/scores.json"
    given = network, channels, space, images, "agreement", job.metrics
    seen = recipe.method.search.calibration_images
    subnets = SubnetScores(*given, seen=seen, training=job.training)
    return Knowing(job, recipe.method.search, subnets, scores), budget


@pytest.mark.exhaustive
def test_two_processes_agree_and_find_what_one_would_by_the_same_scores(tmp_path):
    recipe, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    words = [*TORCHRUN, sys.executable, "-c", SCRIPT, str(recipe), f"run={run}"]
    loopback = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(words, env=loopback, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    made = [json.loads(Path(f"{recipe}.{rank}.json").read_text()) for rank in (0, 1)]
    assert made[0] == made[1]

    search, budget = in_one_process(recipe, run)
    student = search.student(budget)
    plans = {"student": student, **search.teachers(student)}
    assert search.asked == 0 and len(search.scores.known) > 10
    assert student.keep.tolist() == made[0]["plan"]
    for name, plan in plans.items():
        kept = json.loads((run / f"stages/search/{name}.json").read_text())
        assert plan.to_json(search.channels) == kept
    scores = json.loads((run / "stages/search/scores.json").read_text())
    for key in list(scores)[:3]:  # of both processes
        assert search.score(np.array(key.split(","), int)) == pytest.approx(scores[key], rel=1e-4, abs=1e-6)
