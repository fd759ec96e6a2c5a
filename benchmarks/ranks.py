"""Does a supernet rank subnets as training each of them afresh does? Spearman's rho, its interval, and its ceiling.

    python benchmarks/ranks.py [recipes/ugc/quick.toml] [--subnets 40] [--steps 600] [--seeds 2] [-o ranks] [KEY=VALUE ..]

The truth is one table for all settings: subnets of one budget's band, each trained afresh for `--steps` steps, with every
seed; a subnet's value is its mean |difference| to the targets on the recipe's `val` images. Each setting of the supernet
then scores the same subnets, by agreement with the largest network and by the distance to targets. The ceiling is the
correlation of the truth with itself, between two seeds; of 40 subnets about 0.31 is chance. Everything is a stage of a run
folder, so that the same command goes on where it was stopped.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ganshrink import nets
from ganshrink.data import Images, open_dataset, open_unlabelled
from ganshrink.data.held_out import divide
from ganshrink.data.passes import all_batches
from ganshrink.methods.base import Job
from ganshrink.methods.distill import train_alone
from ganshrink.methods.original import Original
from ganshrink.methods.ugc.search import Search, student_search
from ganshrink.methods.ugc.ugc import Ugc
from ganshrink.pruning import Budget, extract
from ganshrink.system.copies import in_evaluation
from ganshrink.system.generator import generate
from ganshrink.training.stages import Run
from ganshrink.workflow.recipe import Recipe, read_recipe

# what a setting of the supernet changes: its settings, and how many times as long it is trained
SETTINGS = {
    "as it is": ({}, 1),
    "three times as long": ({}, 3),
    "subnets weigh a tenth": ({"subnet_weight": 0.1}, 1),
    "widths drawn fairly": ({"sampling": "fair"}, 1),
}
DRAWS = 2000  # of the bootstrap over subnets


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="recipes/ugc/quick.toml")
    parser.add_argument("--subnets", type=int, default=40)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, default=Path("ranks"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args()
    if "=" in given.recipe:  # no recipe is named, and this is the first of the others
        given.recipe, given.overrides = parser.get_default("recipe"), [given.recipe, *given.overrides]
    return given


def job_of(recipe: Recipe) -> Job:
    """What UGC is given by a recipe, with a teacher that nothing learns from."""
    options, size = recipe.net.options, recipe.data.size
    side = (size, size) if isinstance(size, int) else tuple(size)

    def build() -> nn.Module:
        return nets.build(recipe.net.name, **options)

    data = open_dataset(recipe.data, "train")
    example = (data.sample(0, None)["input"][None].new_zeros(1, data.in_channels, *side),)
    original = Original(build, example, recipe.method.transforms())
    budget = Budget.parse(recipe.budget).resolve(original.channels)
    teacher = {"G": build()}
    more = open_unlabelled(recipe.data)
    return Job(
        original, lambda: teacher, recipe.new_task(), data, budget, recipe.student, False, unlabelled=more,
        metrics=recipe.metrics,
    )  # fmt: skip


def distance(network: nn.Module, images: Images) -> float:
    """Mean |difference| to the targets."""
    network = in_evaluation(network)
    with torch.no_grad():
        apart = [
            (generate(network, b["input"]) - b["target"]).abs().mean((1, 2, 3))
            for b in all_batches(images, 8)
        ]
    return torch.cat(apart).mean().item()


def ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks, ties shared."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % of Spearman's rho over subnets drawn again."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(a), size=len(a)) for _ in range(DRAWS))
    low, high = np.nanpercentile([spearman(a[some], b[some]) for some in drawn], [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    given = arguments()
    recipe = read_recipe(Path(given.recipe), [f"student.max_steps={given.steps}", *given.overrides])
    job, val = job_of(recipe), open_dataset(recipe.data, "val")
    images = divide(job.data, job.unlabelled, recipe.method.search_images)
    ugc = Ugc(Run(given.out / "truth"), job, recipe.method, images)
    drawing = recipe.method.search.model_copy(update={"population": given.subnets, "generations": 1})
    members = student_search(job.budget, ugc.space, job.channels, drawing, 0).newcomers()
    plans = [ugc.space.plan(job.channels, widths) for widths in members]

    truth = np.zeros((given.seeds, len(members)))
    for seed in range(given.seeds):
        seeded = replace(job, training=job.training.model_copy(update={"seed": seed}))
        for number, plan in enumerate(plans):
            name, stamp = (
                f"subnet-{number}-seed-{seed}",
                {"plan": plan.to_json(job.channels)["layers"], "seed": seed},
            )
            made = extract(ugc.network, job.channels, plan)
            truth[seed, number] = distance(train_alone(ugc.run, name, made, seeded, made_from=stamp), val)
            print(f"{name}: {truth[seed, number]:.4f}", flush=True)
    macs = np.array([job.channels.cost(plan).macs for plan in plans])

    scores = {}
    for name, (changed, longer) in SETTINGS.items():
        config = recipe.method.model_copy(
            update={"supernet": recipe.method.supernet.model_copy(update=changed)}
        )
        trained = job.training.model_copy(update={"max_steps": longer * given.steps})
        one = Ugc(Run(given.out / name.replace(" ", "-")), replace(job, training=trained), config, images)
        supernet = one.train_supernet()["G"]
        subnets = one.subnets(supernet, "agreement")
        search = Search(job, config.search, subnets, one.run.path / "scores.json")
        scores[f"{name}, agreement"] = np.array(search.scores.of(members))
        to_targets = [-distance(search.subnets.subnet(widths), val) for widths in members]
        scores[f"{name}, distance to targets"] = np.array(to_targets)

    best = -truth.mean(0)
    rows = {"MACs alone": macs.astype(float), **scores}
    if given.seeds > 1:
        print(
            f"ceiling, seed 0 against seed 1: {spearman(truth[0], truth[1]):.2f} {interval(truth[0], truth[1])}"
        )
    for name, values in rows.items():
        low, high = interval(values, best)
        print(f"{name:45} {spearman(values, best):5.2f}  ({low:.2f} to {high:.2f})")
    found = {
        "macs": macs.tolist(),
        "truth": truth.tolist(),
        **{name: list(map(float, v)) for name, v in rows.items()},
    }
    (given.out / "ranks.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
