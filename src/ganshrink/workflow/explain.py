"""Every value of a recipe, where it comes from and what it means: what `--explain` shows."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ganshrink.training.train import Training
from ganshrink.workflow.overrides import DIRECTIONS, parse_overrides
from ganshrink.workflow.recipe import Recipe


class Setting(NamedTuple):
    """A resolved value of a recipe."""

    key: str  # with its tables, such as data.size
    value: Any
    origin: str  # command line, recipe, seed, as teacher or default
    changed: bool  # whether somebody gave it another value than the default
    meaning: str


def explain(
    recipe: Recipe, written: str | Path | Mapping[str, Any], overrides: Sequence[str]
) -> list[Setting]:
    """Every resolved value, where it comes from and what it means.

    Args:
        written: the recipe's file, or its tables where it was written for a checkpoint.
    """
    tables = written if isinstance(written, Mapping) else tomllib.loads(Path(written).read_text())
    written = _flatten(tables)
    typed = _flatten(parse_overrides(overrides))

    def given(key: str, names: Mapping[str, Any]) -> bool:
        table, _, name = key.rpartition(".")
        return key in names or (name in ("name", *DIRECTIONS) and table in names)

    def origin(key: str) -> str:
        if given(key, typed):
            return "command line"
        if given(key, written):
            return "recipe"
        table, _, name = key.partition(".")
        if name == "seed" and table in ("teacher", "student"):
            return "seed" if origin("seed") != "default" else "default"
        as_teacher = (
            table == "student" and name in Training.model_fields and origin(f"teacher.{name}") != "default"
        )
        return "as teacher" if as_teacher else "default"

    settings = []
    for key, value, field in _fields(recipe):
        whence = origin(key)
        changed = whence != "default" and (field is None or value != field.default)
        meaning = "an option of the network" if field is None else field.description or ""
        settings.append(Setting(key, value, whence, changed, meaning))
    return settings


def _fields(table: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, FieldInfo | None]]:
    """Every value of a table and the tables in it, with its key and what is declared of it."""
    for name, value in table:
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        elif isinstance(table, Recipe) and isinstance(value, Mapping):  # a budget for each direction
            yield from (
                (f"{name}.{key}", entry, type(table).model_fields[name]) for key, entry in value.items()
            )
        else:
            yield f"{prefix}{name}", value, type(table).model_fields.get(name)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
