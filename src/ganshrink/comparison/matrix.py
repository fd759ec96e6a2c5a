"""What is compared: methods x budgets x seeds x shares of labels, over one teacher, one data set and one training."""

import copy
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ganshrink.methods import BASELINES, METHODS
from ganshrink.metrics.config import DEFAULT as DEFAULT_METRICS
from ganshrink.metrics.weights import file_hash
from ganshrink.pruning import Budget
from ganshrink.system.spelling import did_you_mean
from ganshrink.workflow.overrides import put
from ganshrink.workflow.recipe import Recipe, dump, read_recipe, resolve

STUDENT_NET = "student_net"  # of an entry's settings, what is student.net in a recipe
PER_CELL = ("run", "seed", "budget", "method", "scratch")  # of a recipe: what a matrix decides


class Matrix(BaseModel):
    """A comparison, as its TOML file has it. Baselines are always in it, beside what `methods` names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Path = Field(description="the folder of the comparison, which gets a run folder for each cell")
    recipe: str | dict[str, Any] = Field(
        description="what all cells share, a recipe's tables or its file: net, data, task, teacher, student, metrics; what "
        "the matrix itself decides is not read from it"
    )
    methods: tuple[str, ...] = Field(
        default=tuple(method for method in METHODS if method not in {b["name"] for b in BASELINES.values()}),
        description="methods by name, MODULE:NAME, or recipe files whose [method] is taken; or names that [method.NAME] "
        "describes",
    )
    method: dict[str, dict[str, Any]] = Field(
        default={},
        description="settings of a method under a name of your own, such as [method.small-floor]; "
        "[method.NAME.student_net] is its [student.net]",
    )
    budgets: tuple[str, ...] = Field(
        default=("macs=10%",), min_length=1, description="what students may cost"
    )
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="seeds of the students")
    label_fractions: tuple[float, ...] = Field(
        default=(1.0,), min_length=1, description="shares of the training images whose targets may be used"
    )
    rank_by: str | None = Field(
        default=None, description="the metric that decides; none: the first of recipe.metrics.names"
    )
    margin: float | None = Field(
        default=None,
        gt=0,
        description="how much worse than the teacher in that metric is still as good; none: that is not asked",
    )


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        name: of its folder and recipe.
        entry: the method, as the matrix calls it.
        recipe: with every value filled in.
        path: the folder of the comparison.
        asked: the tables that the recipe was made of: a setting that another version has besides does not change them.
    """

    name: str
    entry: str
    budget: str
    seed: int
    label_fraction: float
    recipe: Recipe
    path: Path
    asked: dict[str, Any]

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.path / "cells" / self.name

    @property
    def file(self) -> Path:
        """Its recipe."""
        return self.path / "recipes" / f"{self.name}.toml"

    @property
    def text(self) -> str:
        """Its recipe's text."""
        return dump(self.recipe)

    @property
    def kind(self) -> str:
        """Its name but for the seed: of what takes as long."""
        return self.name.rpartition("_seed=")[0]

    def key(self) -> str:
        """A hash of what is asked for, and of the teacher's weights if the recipe names a file of them."""
        weights = self.asked.get("teacher", {}).get("weights")
        if weights is None or not (file := Path(weights)).is_file():
            return _hash(self.asked)
        return _hash({**self.asked, "weights": file_hash(file)})

    def kind_key(self) -> str:
        """A hash of that but for the seed."""
        student = {key: value for key, value in self.asked["student"].items() if key != "seed"}
        return _hash({**self.asked, "seed": None, "student": student})


def read_matrix(path: str | Path, overrides: Sequence[str] = ()) -> Matrix:
    """The matrix of a TOML file with `key=value` overrides.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one line for each thing that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no matrix {path}: name a TOML file with `methods` and `recipe`")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        put(raw, override)
    raw.setdefault("run", f"runs/{path.stem}")
    try:
        return Matrix.model_validate(raw)
    except ValidationError as error:
        lines = [_told(one) for one in error.errors()]
        raise ValueError("\n".join(f"{path}: {line}" for line in lines)) from None


def _told(error: Any) -> str:
    key = ".".join(map(str, error["loc"][:2]))
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{did_you_mean(error['loc'][-1], Matrix.model_fields)}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"


def shared_recipe(matrix: Matrix) -> dict[str, Any]:
    """The tables that all cells share, without what the matrix decides.

    Raises:
        ValueError: if there is no such file, or the tables are no recipe.
    """
    if isinstance(matrix.recipe, str):
        read_recipe(matrix.recipe)  # which says what is wrong with it
        raw = tomllib.loads(Path(matrix.recipe).read_text(encoding="utf-8"))
    else:
        raw = copy.deepcopy(matrix.recipe)
    if isinstance(matrix.recipe, Mapping) and (given := [key for key in PER_CELL if key in raw]):
        raise ValueError(f"recipe.{given[0]}: the matrix decides this, for every cell: remove it")
    data, student = raw.get("data", {}), raw.get("student", {})
    if "label_fraction" in data:
        raise ValueError("recipe.data.label_fraction: write label_fractions in the matrix instead")
    if data.get("direction") == "both":
        raise ValueError("recipe.data.direction = 'both': compare each direction in a matrix of its own")
    if "seed" in student:
        raise ValueError("recipe.student.seed: write seeds in the matrix instead")
    names = raw.get("metrics", {}).get("names")
    if matrix.rank_by is not None and matrix.rank_by not in (names or DEFAULT_METRICS):
        known = names or DEFAULT_METRICS
        raise ValueError(f"rank_by: {matrix.rank_by!r} is not measured{did_you_mean(matrix.rank_by, known)}")
    return {key: value for key, value in raw.items() if key not in PER_CELL}


def cells(matrix: Matrix, teacher: Path | None = None) -> list[Cell]:
    """The cells in the order in which they are run: one seed of all before the next.

    Args:
        teacher: a run whose teacher all take; none: as the recipe has it.

    Raises:
        ValueError: for what is wrong in any of them, by its name.
    """
    shared = shared_recipe(matrix)
    for budget in matrix.budgets:
        Budget.parse(budget)
    found = []
    chosen = list(_entries(matrix))
    for seed, fraction, budget, (entry, settings) in itertools.product(
        matrix.seeds, matrix.label_fractions, matrix.budgets, chosen
    ):
        name = _slug(entry) + _tail(budget, seed, fraction)
        method = copy.deepcopy(settings)
        net = {"net": method.pop(STUDENT_NET)} if STUDENT_NET in method else {}
        raw = copy.deepcopy(shared) | {"method": method, "budget": budget, "seed": seed}
        raw["student"] = {
            **raw.get("student", {}),
            **net,
            "seed": seed,
        }  # a teacher's own seed is not for students
        if fraction < 1:
            raw["data"] = {**raw.get("data", {}), "label_fraction": fraction}
        own: dict[str, Any] = {"run": str((matrix.run / "cells" / name).resolve())}
        if teacher is not None:  # what [student] leaves open it takes from [teacher], so that stays
            kept = {key: value for key, value in shared.get("teacher", {}).items() if key != "start"}
            own["teacher"] = kept | {"weights": str(teacher.resolve())}
        recipe = resolve(raw | own, source=f"cell {name}")
        found.append(Cell(name, entry, budget, seed, fraction, recipe, matrix.run, raw))
    names = [cell.name for cell in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two cells are called {min(twice)}: name methods, budgets and seeds once each")
    return found


def _entries(matrix: Matrix) -> Iterator[tuple[str, dict[str, Any]]]:
    """The baselines, then what `methods` names: its name in the table, and its settings."""
    for name, settings in BASELINES.items():
        yield name, dict(settings)
    for name in matrix.methods:
        if name in BASELINES:
            raise ValueError(f"methods: {name} is a baseline, which is always there: remove it")
        if name in matrix.method:
            settings = copy.deepcopy(matrix.method[name])
            settings.setdefault("name", name)
            yield name, settings
        elif name.endswith(".toml"):
            settings = {"name": read_recipe(name).method.name}
            method = tomllib.loads(Path(name).read_text(encoding="utf-8")).get("method", {})
            settings |= method if isinstance(method, dict) else {}
            yield f"{Path(name).parent.name}-{Path(name).stem}", settings
        elif name in METHODS or ":" in name:
            yield name, {"name": name}
        else:
            known = [*METHODS, *matrix.method]
            raise ValueError(f"methods: unknown method {name!r}{did_you_mean(name, known)}")
    if unused := [name for name in matrix.method if name not in matrix.methods]:
        raise ValueError(f"method.{unused[0]}: methods does not name it: add it there, or remove the table")


def entry_of(name: str, budget: str, seed: int, label_fraction: float) -> str:
    """What a cell's name says of its entry."""
    return name.removesuffix(_tail(budget, seed, label_fraction))


def _tail(budget: str, seed: int, label_fraction: float) -> str:
    return _slug(f"_{budget}" + f"_labels={label_fraction:g}" * (label_fraction < 1) + f"_seed={seed}")


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=,@+-]+", "-", text.replace("%", "pct"))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
