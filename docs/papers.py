"""Writes docs/papers.md from docs/papers.toml and recipes/papers: `python docs/papers.py`. Tests compare them."""

import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.budget import SUFFIXES
from ganshrink.pruning.scores import evenly
from ganshrink.workflow.recipe import Recipe, read_recipe

PAGE = Path(__file__).with_suffix(".md")
FACTS: dict[str, Any] = tomllib.loads(PAGE.with_suffix(".toml").read_text())
RECIPES = PAGE.parent.parent / "recipes/papers"
PAPERS = [name for name, table in FACTS.items() if "rows" in table]
PRINTED = {"paper": "{} MACs", "macs": "{} exact MACs", "params": "{} parameters"}
KINDS = {"paper": "paper_macs", "macs": "macs", "params": "params"}  # of budgets, by those of papers.toml

# Of GPU hours: the FLOPs of a multiply-accumulate forward and back, what a GPU sustains, and the least time of a step.
FLOPS, RATE, STEP = 6, 20e12, 0.03
D_MACS, D_PASSES = 3.2e9, 3  # of a D of 64 channels at 256 x 256; the fake, the real one, the fake for G
SMALL, CITY = (3, 256, 256), (36, 256, 512)  # inputs: pictures; Cityscapes' ids and edges of instances
LATENT = (128,)
# How often, in trainings of the original of the same length, a method's second one runs whole networks.
SECOND = {
    "cat": 1 / 3,
    "uniform": 1 / 3,
    "dmad": 1.0,
    "decig": 1.0,
    "gan_slimming": 4 / 3,
    "ugc": 9.0,
    "omgd": 2.0,
}
PAIRED = {"cat", "uniform", "gan_slimming"}  # whose second training is of pairs that the teacher makes

INTRO = """
# The papers' rows

This page is written by `python docs/papers.py` from [papers.toml](papers.toml) and
[recipes/papers](../recipes/papers). Every row of the five papers' main tables is here, with the recipe that trains it, or
with what is missing. None of them has been trained to its end here; what has is in [results.md](results.md).

`ganshrink compress recipes/papers/cat/horse2zebra.toml` trains a row, once its data lie below `GANSHRINK_DATA` and the
weights of its judges below `GANSHRINK_WEIGHTS` ([quickstart.md](quickstart.md)).

**MACs** are for one 256 x 256 image (of labels 512 x 256; of a latent vector one image), in the papers' way of
counting, with transposed convolutions
at their output resolution (`paper_macs` in a budget); exact ones are what is computed. What a search will keep cannot
be known before it, so beside what a paper prints stands what a uniform cut of the same generator has at that cost.

**GPU hours** are arithmetic, not a measurement: images of the original's training and of the longest one after it, times
the MACs of its generators' and judges' passes, 6 FLOPs each, at 20 TFLOP/s, and no step under 30 ms. For that second
training DMAD and DECIG count one more of the same, GAN Slimming one pass and the teacher's, UGC nine (a supernet of about
4.5 times the MACs runs twice), OMGD two, others the teacher's pass. Searches, scores and reading files come on top.
"""


@dataclass(frozen=True)
class Row:
    """A row of a paper's table, and its recipe."""

    paper: str
    name: str
    facts: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return RECIPES / self.paper / f"{self.facts.get('recipe', self.name)}.toml"

    @cached_property
    def recipe(self) -> Recipe:
        """In the row's direction."""
        recipe = read_recipe(self.path)
        wanted = self.facts.get("direction", recipe.direction)
        return next(way for way in recipe.ways() if way.direction == wanted)

    @property
    def fixed(self) -> bool:
        """Whether the budget alone says how wide the student is."""
        return self.recipe.method.name == "uniform" or getattr(self.recipe.method, "nas", True) is False

    @property
    def printed(self) -> Mapping[str, str]:
        return self.facts.get("printed", {})

    def channels(self) -> Channels:
        """Of the original at full size."""
        net = {"name": self.recipe.net.name, **self.recipe.net.options}
        return channels_of(tuple(net.items()), input_of(self.recipe))

    def student(self) -> Plan | None:
        """Of a fixed student its widths; else a uniform cut within the printed cost, if there is one."""
        budgets = [f"{KINDS[kind]}={amount}" for kind, amount in self.printed.items()]
        if self.fixed:
            budgets = [self.recipe.limits]
        channels = self.channels()
        return bisect_threshold(channels, evenly(channels), budgets[0]) if budgets else None

    def told(self) -> str:
        """What is said of it without counting."""
        link = f"[{self.name}](../recipes/papers/{self.paper}/{self.path.name})"
        said = ", ".join(PRINTED[kind].format(amount) for kind, amount in self.printed.items())
        said = f" Printed: {said}{self._differing()}." if said else ""
        return f"- {link}: {self.facts['figure']}.{said} Budget `{self.recipe.limits}`. Needs {self.needs()}."

    def _differing(self) -> str:
        return f" ({self.facts['differs']})" if "differs" in self.facts else ""

    def needs(self) -> str:
        """Data and weights that are not shipped."""
        names = set(self.recipe.metrics.names or ())
        judges = {
            "Inception": names & {"fid", "kid"},
            "DRN-D-105": "miou" in names,
            "VGG-16": getattr(self.recipe.method, "vgg", None),
            "VGG-19": getattr(self.recipe.task, "vgg", None),
            "CartoonGAN's weights": self.recipe.teacher.weights,
        }
        return ", ".join(
            [data_set(self.recipe)["name"], *(name for name, needed in judges.items() if needed)]
        )

    def counted(self) -> str:
        """What its networks cost at full size."""
        hours = float(f"{gpu_hours(self.recipe, self.channels().cost().macs):.2g}")
        hours = f" About {hours:g} GPU hours."
        plan = self.student()
        if plan is None:
            return hours
        return f" {'Student' if self.fixed else 'Uniform cut'}: {counts(self.channels(), plan)}.{hours}"


def rows(paper: str) -> list[Row]:
    """Those of a paper that have a recipe, in its order."""
    return [Row(paper, name, facts) for name, facts in FACTS[paper]["rows"].items()]


@cache
def channels_of(net: tuple[tuple[str, Any], ...], size: tuple[int, ...] = SMALL) -> Channels:
    """Those of a network on inputs (C, H, W), or latent vectors (C,)."""
    given = {"in_channels" if len(size) > 1 else "latent": size[0]}
    return trace(nets.build(**{**given, **dict(net)}), torch.zeros(1, *size))


def input_of(recipe: Recipe) -> tuple[int, ...]:
    """What its generator takes."""
    return size_of(recipe.data.name if recipe.data is not None else "")


def size_of(data: str) -> tuple[int, ...]:
    """What generators take of a kind of data."""
    return {"labelled": CITY, "latents": LATENT}.get(data, SMALL)


def pixels_of(recipe: Recipe) -> float:
    """Of an image, in those of 256 x 256."""
    size = input_of(recipe)
    assert recipe.data is not None
    height, width = size[1:] if len(size) > 1 else recipe.data.height_width
    return height * width / (256 * 256)


def counts(channels: Channels, plan: Plan | None = None) -> str:
    """MACs in the paper's way and exact ones, and parameters."""
    exact, paper = (channels.cost(plan, convention) for convention in ("exact", "paper"))
    return f"{paper.macs:,} MACs, {exact.macs:,} exact, {exact.params:,} parameters"


def agrees(printed: str, number: float) -> bool:
    """Whether a number can have been printed so, such as 11.3M: rounded or cut off."""
    amount, suffix = re.fullmatch(r"([\d.]+)([kMG]?)", printed).groups()  # type: ignore[union-attr]
    last = 10.0 ** -len(amount.partition(".")[2])
    return abs(number / SUFFIXES[suffix] - float(amount)) < last


def data_set(recipe: Recipe) -> dict[str, Any]:
    """What is said of a recipe's images."""
    assert recipe.data is not None
    path = str(recipe.data.root or recipe.data.a or recipe.data.photos)
    return FACTS["data"][path.partition("/")[0]]  # type: ignore[no-any-return]


def gpu_hours(recipe: Recipe, macs: int) -> float:
    """As the page says."""
    images = data_set(recipe)["epoch"] * (1 if recipe.data is None else recipe.data.label_fraction)
    both, method = 6 if recipe.task.name == "cyclegan" else 1, recipe.method.name
    method = "omgd" if getattr(recipe.method, "nas", True) is False else method
    work = macs + D_PASSES * D_MACS * pixels_of(recipe) * (recipe.task.ndf / 64) ** 2
    trainings = [(recipe.student, SECOND[method] * (1 if method in PAIRED else both))]
    if not recipe.teacher.weights:
        trainings.append((recipe.teacher, both))
    seconds = 0.0
    for training, passes in trainings:
        needed = FLOPS * work * passes / RATE
        epochs = training.epochs + training.decay_epochs
        seconds += epochs * images * max(needed, STEP / training.batch_size)
    return seconds / 3600


def page() -> str:
    """The whole page."""
    lines = [*paragraphs(INTRO), "## The originals", _originals(), "## Data sets", _data_sets()]
    for paper in PAPERS:
        table = FACTS[paper]
        lines += [f"## {table['title']}", *paragraphs(table["text"])]
        lines.append("\n".join(_wrapped(row.told() + row.counted(), "  ") for row in rows(paper)))
        if "without" in table:
            lines += ["Without a recipe:", "\n".join(map(_without, table["without"].items()))]
    return "\n\n".join(lines) + "\n"


def _originals() -> str:
    entries = []
    for original in FACTS["original"]:
        options = " ".join(f"{key}={value}" for key, value in original["net"].items() if key != "name")
        name = f"`{original['net']['name']}{' ' * bool(options)}{options}`"
        said = ", ".join(PRINTED[kind].format(amount) for kind, amount in original["printed"].items())
        said += f" ({original['differs']})" if "differs" in original else ""
        found = counts(channels_of(tuple(original["net"].items()), size_of(original.get("data", ""))))
        entries.append(
            _wrapped(f"- {name}, {original['by']}.{f' Printed: {said}.' if said else ''} Here {found}.", "  ")
        )
    return "\n".join(entries)


def _data_sets() -> str:
    entries = FACTS["data"].items()
    return "\n".join(
        _wrapped(
            f"- `{folder}`, {about['name']}: {about['layout']}. {about['epoch']:,} images an epoch.", "  "
        )
        for folder, about in entries
    )


def _without(entry: tuple[str, str]) -> str:
    return _wrapped(f"- {entry[0]}: {entry[1]}.", "  ")


def paragraphs(text: str) -> list[str]:
    return [_wrapped(part) for part in text.strip().split("\n\n")]


def _wrapped(text: str, indent: str = "") -> str:
    """Lines of at most 100 columns."""
    return textwrap.fill(
        " ".join(text.split()),
        100,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    PAGE.write_text(page())
