"""`key=value` words of the command line that change a recipe."""

import logging
import tomllib
from collections.abc import Sequence
from typing import Any, get_args

from ganshrink.training.tasks import Direction
from ganshrink.workflow.parts import DEFAULTS

logger = logging.getLogger(__name__)

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` words as a nested dictionary.

    Raises:
        ValueError: for a word that is no key=value.
    """
    given: dict[str, Any] = {}
    for override in overrides:
        put(given, override)
    return given


def put(raw: dict[str, Any], override: str) -> None:
    """Set `a.b=value` in a nested dictionary; the value is TOML if it is valid TOML, else a string."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"{override!r} is no key=value; write for example data.size=128")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    if (key.strip() in ("method", "method.name")) and isinstance(raw.get("method"), dict):
        _drop_settings(raw, value)
    if tables == ["budget"] and isinstance(raw.get("budget"), str):
        raw["budget"] = dict.fromkeys(DIRECTIONS, raw["budget"])  # so far the same for both
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise ValueError(f"{override!r}: {table} is a value, not a table")
    if isinstance(raw.get(last), dict) and isinstance(value, str) and last != "budget":
        raw[last]["name"] = value  # `method=cat` means `method.name=cat`
    else:
        raw[last] = value


def _drop_settings(raw: dict[str, Any], name: Any) -> None:
    """A recipe's [method] without its settings where another method is asked for, since they are not that one's."""
    former = raw["method"].get("name", DEFAULTS["method"])
    dropped = [key for key in raw["method"] if key != "name"]
    if name != former:
        raw["method"] = {"name": former}
        if dropped:
            logger.warning("method=%s: settings of %s are left out: %s", name, former, ", ".join(dropped))
