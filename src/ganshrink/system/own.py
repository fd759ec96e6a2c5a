"""Parts by name: of the package's own tables, of installed packages that register some, or MODULE:NAME of the user's own.

A part is a network, method, metric, segmenter, data set, task or exporter. MODULE:NAME runs the code that the name says,
and so does a registered name; nothing is imported before a part is chosen.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, get_type_hints

from ganshrink.system.spelling import did_you_mean

Kind = Literal["nets", "methods", "metrics", "segmenters", "data", "tasks", "exporters"]

WORDS: Mapping[Kind, str] = {
    "nets": "network",
    "methods": "method",
    "metrics": "metric",
    "segmenters": "segmenter",
    "data": "data set",
    "tasks": "task",
    "exporters": "exporter",
}


def chosen(kind: Kind, name: str, table: Mapping[str, Any]) -> Any:
    """What a name stands for: an entry of the package's own table, else a registered one, or what MODULE:NAME names.

    Raises:
        ValueError: for an unknown name, with the nearest valid one; for code that cannot be imported.
    """
    if ":" in name:
        return _imported(kind, name)
    if name in table:
        return table[name]
    found = registered(kind)
    if name not in found:
        raise ValueError(f"unknown {WORDS[kind]} {name!r}{did_you_mean(name, [*table, *found])}")
    return _imported(kind, found[name].value)


def registered(kind: Kind) -> dict[str, EntryPoint]:
    """The parts that installed packages register, by name, in the entry points `ganshrink.{kind}`; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group=f"ganshrink.{kind}")}


def origin(entry: EntryPoint) -> str:
    """Where a registered part comes from, in words."""
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an installed package"
    return f"{entry.value} of {package}"


def call(name: str, make: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What the user's own code returns; whatever it raises is one line that names it.

    Raises:
        ValueError: if it raises.
    """
    try:
        with _working_directory_importable():
            return make(*given, **options)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} failed: {_told(error)}") from error


def settings_of(name: str, part: Any) -> Any:
    """The type of the parameter `config` of a function or class; none if it has no such annotation.

    Raises:
        ValueError: if its annotations name what does not exist.
    """
    try:
        makes = inspect.getattr_static(part, "__init__") if inspect.isclass(part) else part
        return get_type_hints(makes).get("config")
    except (NameError, TypeError) as error:
        raise ValueError(f"{name}: the type of its parameter config cannot be read: {_told(error)}") from None


def qualified(part: Any) -> str:
    """The MODULE:NAME of a class or function, or of an object's class."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{named.__qualname__}"


def _imported(kind: Kind, name: str) -> Any:
    """What `MODULE:NAME` names; its module is imported, from the installed packages or else the working directory."""
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*path.split("."), attribute)):
        article = "an" if kind == "exporters" else "a"
        raise ValueError(
            f"{article} {WORDS[kind]} of your own is named MODULE:NAME, such as my_pkg.{kind}:make, got {name!r}"
        )
    try:
        with _working_directory_importable():
            module = importlib.import_module(path)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{name}: there is no module {error.name}, neither installed nor in {Path.cwd()}"
            ) from None
        raise ValueError(f"{name}: importing {path} failed: {_told(error)}") from error
    if not hasattr(module, attribute):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise ValueError(f"{name}: {path} has no {attribute!r}{did_you_mean(attribute, public)}")
    return getattr(module, attribute)


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """The working directory as the last place to import from: a console command, unlike `python -m`, leaves it out.

    Last, and only while the user's own code is imported and called, so that no file there can stand in for a package.
    """
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
