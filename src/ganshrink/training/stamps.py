"""What code and objects of a user's own go into a stage's stamp: qualified names, settings, hashes of source and weights.

What cannot be told apart from another by these gets a stamp that is never the same again, so that nothing that another
one made is taken for its work.
"""

import functools
import hashlib
import inspect
import logging
import secrets
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ganshrink.data import Images, Subset
from ganshrink.data.images import whole_of
from ganshrink.system.distributed import broadcast
from ganshrink.system.own import qualified
from ganshrink.training.stages import tensors_hash

logger = logging.getLogger(__name__)

# Known by their versions, not by their source; changed code of this package only warns.
_KNOWN = ("ganshrink", "torch", "builtins", "numpy", "pydantic", "functools", "collections")
_NOT_STATE = {"_parameters", "_buffers", "_modules", "training"}


class _Unstampable(Exception):
    """What has no stamp, and why."""


def stamp(thing: Any) -> Any:
    """JSON that two things share only if they are made of the same code, settings and weights.

    Code is the module that a function or class is written in, not what that imports. What has no such stamp (a lambda,
    code without source, a setting that no JSON holds) gets one of this call alone, and a warning says why.
    """
    try:
        return _stamp(thing, ())
    except _Unstampable as error:
        logger.warning("%s: what is made with it is not taken up by a later run", error)
        return {"once": broadcast(secrets.token_hex(8))}


def stamp_if_own(thing: Any) -> Any:
    """The stamp of what is not this package's, None of what is."""
    return None if _known(_code(thing)) else stamp(thing)


def sources(*things: Any) -> dict[str, str]:
    """The source hash of each function or class by its MODULE:NAME, of a network's all classes; not of known packages."""
    classes: set[Any] = set()
    for thing in things:
        found = [type(part) for part in thing.modules()] if isinstance(thing, nn.Module) else [_code(thing)]
        classes.update(one for one in found if not _known(one))
    try:
        return {qualified(one): _source(one) for one in sorted(classes, key=qualified)}
    except _Unstampable as error:
        logger.warning("%s: what is made with it is not taken up by a later run", error)
        return {"once": broadcast(secrets.token_hex(8))}


class _WithSource(Subset):
    """A data set of a user's own, whose fingerprint tells its code too."""

    def __init__(self, images: Images, own: Mapping[str, str]) -> None:
        super().__init__(images, range(len(images)))
        self.own = own

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.whole.fingerprint()} {self.own}".encode()).hexdigest()[:16]


def with_source(images: Images) -> Images:
    """The images; those of a user's own class have its code in their fingerprint."""
    own = sources(whole_of(images))
    return _WithSource(images, own) if own else images


def _stamp(thing: Any, above: tuple[int, ...]) -> Any:
    if thing is None or isinstance(thing, str | int | float):
        return thing
    if id(thing) in above:
        return "the same again"
    within = (*above, id(thing))
    if isinstance(thing, Tensor | np.ndarray):
        return tensors_hash({"": torch.as_tensor(thing)})
    if isinstance(thing, Path | torch.dtype | torch.device):
        return str(thing)
    if isinstance(thing, Mapping):
        return [[_stamp(key, within), _stamp(value, within)] for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [_stamp(part, within) for part in thing]
    if isinstance(thing, set | frozenset):
        return sorted(map(str, (_stamp(part, within) for part in thing)))
    if isinstance(thing, nn.Module):
        return _network(thing, within)
    if isinstance(thing, functools.partial):
        return [_stamp(part, within) for part in (thing.func, thing.args, thing.keywords)]
    if isinstance(thing, MethodType):
        return [thing.__name__, _stamp(thing.__self__, within)]
    if isinstance(thing, type) or inspect.isroutine(thing):
        return _function(thing, within)
    if isinstance(thing, BaseModel | Enum) or hasattr(thing, "__dict__"):
        return {**_named(type(thing)), "settings": _stamp(vars(thing), within)}
    raise _Unstampable(f"a {type(thing).__name__} has no stamp")


def _network(network: nn.Module, within: tuple[int, ...]) -> dict[str, Any]:
    """Classes, structure, weights, and what a user's own classes and hooks hold besides these."""
    held = {}
    for path, part in network.named_modules():
        own = not _known(type(part))
        for key, value in vars(part).items():
            hooks = key.endswith("_hooks") and value
            if key not in _NOT_STATE and (hooks or own) and not (key.startswith("_") and not value):
                # hooks are numbered by a counter of the process
                held[f"{path}.{key}"] = _stamp(list(value.values()) if hooks else value, within)
    state = {**dict(network.named_buffers()), **network.state_dict()}
    classes = {part: _named(part) for part in {type(part) for part in network.modules()} if not _known(part)}
    return {
        "net": repr(network),
        "classes": sorted(classes.values(), key=str),
        "held": held,
        "weights": tensors_hash({name: value for name, value in state.items() if isinstance(value, Tensor)}),
    }


def _function(thing: Any, within: tuple[int, ...]) -> Any:
    found = _named(thing)
    if isinstance(thing, FunctionType) and not _known(thing):
        if "<lambda>" in thing.__qualname__:
            raise _Unstampable(f"a lambda of {thing.__module__} has no name to know it by")
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        found["given"] = _stamp([thing.__defaults__, thing.__kwdefaults__, cells], within)
        if "<locals>" in thing.__qualname__:
            found["line"] = thing.__code__.co_firstlineno  # a function may define two of one name
    return found


def _named(thing: Any) -> dict[str, Any]:
    name = {"name": qualified(thing)}
    return name if _known(thing) else {**name, "source": _source(thing)}


def _code(thing: Any) -> Any:
    """The function or class that a thing is written as."""
    while isinstance(thing, functools.partial | MethodType):
        thing = thing.func if isinstance(thing, functools.partial) else thing.__self__
    return thing if isinstance(thing, type) or inspect.isroutine(thing) else type(thing)


def _known(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "builtins").partition(".")[0] in _KNOWN


def _source(thing: Any) -> str:
    """The hash of the module's file; in a notebook, of the functions of a class, or of the function."""
    try:
        module = sys.modules[thing.__module__]
        if getattr(module, "__file__", None):
            text = inspect.getsource(module)
        else:
            parts = vars(thing).values() if isinstance(thing, type) else [thing]
            text = "\n".join(inspect.getsource(part) for part in parts if inspect.isfunction(part))
            if not text:
                raise OSError("there is no function in it")
    except (OSError, TypeError, KeyError) as error:
        raise _Unstampable(f"{qualified(thing)} has no source to know it by ({error})") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]
