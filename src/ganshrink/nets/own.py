"""Networks of a user's own, named `my_pkg.nets:make`. To build one is to run the code that the name says."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ganshrink.system.spelling import did_you_mean


def own_options(name: str) -> dict[str, Any]:
    """The keyword parameters of what `MODULE:NAME` names; `inspect.Parameter.empty` for those without a default.

    Imports the module.

    Raises:
        ValueError: as `build_own`, if the name leads nowhere.
    """
    return {
        p.name: p.default
        for p in _parameters(_maker(name))
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }


def build_own(name: str, options: Mapping[str, Any]) -> nn.Module:
    """What the function or class `MODULE:NAME` returns for these options.

    Imports the module, from the installed packages or else the working directory, and calls what it names: this
    runs that code.

    Raises:
        ValueError: if there is no such module or name, if what it names is not callable, does not take the options,
            raises, or returns something that is no `nn.Module`.
    """
    make = _maker(name)
    known = own_options(name)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in _parameters(make))
    for option in options:
        if option not in known and not open_ended:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, known)}")
    missing = [
        key for key, default in known.items() if default is inspect.Parameter.empty and key not in options
    ]
    if missing:
        raise ValueError(f"{name} has no default for {', '.join(missing)}; give a value")
    try:
        with _working_directory_importable():
            network = make(**options)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} failed: {_told(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} must return an nn.Module, got {type(network).__name__}")
    return network


def _maker(name: str) -> Callable[..., Any]:
    """What `MODULE:NAME` names."""
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*path.split("."), attribute)):
        raise ValueError(
            f"a network of your own is named MODULE:NAME, such as my_pkg.nets:make, got {name!r}"
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
    make = getattr(module, attribute)
    if isinstance(make, nn.Module) or not callable(make):
        raise ValueError(
            f"{name} must be a function or class that makes a network, not {type(make).__name__}"
        )
    return make


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


def _parameters(make: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(make).parameters.values())


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
