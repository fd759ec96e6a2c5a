"""Runs that exist as members of one comparison: those that differ in their seed alone are one entry."""

import json
import logging
import re
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ganshrink.comparison.matrix import entry_of
from ganshrink.comparison.results import Member
from ganshrink.training.train import INCIDENTAL
from ganshrink.workflow.recipe import resolve

logger = logging.getLogger(__name__)

# Of a recipe, what does not tell how a student is made: the teacher's weights and protocols are compared by themselves.
BESIDE = {"run", "seed", "teacher", "scratch", "metrics", "latency", "export"}


def members_of(folders: Iterable[Path]) -> list[Member]:
    """Finished runs, each with a name of its own; what is none is left out with a warning.

    An entry has the name that its matrix gave it, or else that of its folder without the seed. No two recipes share an entry
    and no seed counts twice in one: the later has a path for its name.
    """
    members: list[Member] = []
    recipe_of: dict[tuple[str, str, float], str] = {}  # of an entry at its budget and share of labels
    for folder in folders:
        try:
            member, recipe = _member(folder)
        except ValueError as error:
            logger.warning("left out: %s", error)
            continue
        for entry in (member.entry, str(folder.parent / member.entry), str(folder)):
            place = (entry, member.budget, member.label_fraction)
            seeds = [m.seed for m in members if (m.entry, m.budget, m.label_fraction) == place]
            if recipe_of.setdefault(place, recipe) == recipe and member.seed not in seeds:
                break
        members.append(replace(member, entry=entry))
    names = [member.name for member in members]
    return [m if names.count(m.name) == 1 else replace(m, name=str(m.folder)) for m in members]


def _member(folder: Path) -> tuple[Member, str]:
    """A finished run, and how its student is made but for the seed."""
    file = folder / "recipe.toml"
    if not file.is_file() or not (folder / "metrics.json").is_file():
        raise ValueError(f"{folder} is no finished run: it has no recipe.toml and metrics.json")
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    seed = int(raw.get("seed", 0))
    where = (str(raw.get("budget", "")), seed, float(raw.get("data", {}).get("label_fraction", 1.0)))
    return Member(folder.name, _entry(folder, *where), *where, folder), _but_for_the_seed(raw)


def _entry(folder: Path, budget: str, seed: int, label_fraction: float) -> str:
    if (folder / "cell.json").is_file():
        return entry_of(folder.name, budget, seed, label_fraction)
    return re.sub(rf"[-_. ]?(seed)?[-_= ]?{seed}$", "", folder.name) or folder.name


def _but_for_the_seed(raw: dict[str, Any]) -> str:
    with suppress(ValueError):  # of another version: only those of that version are alike
        raw = resolve(raw, source="recipe").model_dump(mode="json")  # what came later: by its default
    asked = {key: value for key, value in raw.items() if key not in BESIDE}
    student = raw.get("student", {}).items()
    asked["student"] = {key: value for key, value in student if key not in {"seed", *INCIDENTAL}}
    return json.dumps(asked, sort_keys=True, default=str)
