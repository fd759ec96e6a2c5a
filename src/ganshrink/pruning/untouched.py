"""Trying out a user's network leaves no trace: what its code keeps outside of the copies that ran is put back.

Grids kept in a module's dictionary, in a class, a closure or a cached function would otherwise hold what an export made of
them, and the user's own network would fail on them afterwards.
"""

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

NOT_FOLLOWED = {"torch", "numpy", "ganshrink", *sys.stdlib_module_names} - {"__main__"}
INSTALLED = (
    "site-packages",
    "dist-packages",
)  # folders of packages: an environment's, its parent's, a user's own
LONGEST = 4096  # entries of a container that are looked into
ATOMS = {type(None), bool, int, float, complex, str, bytes}  # hold nothing
MISSING = object()


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Attributes of the model's modules, state of the code that they are written in, and all random numbers: afterwards
    as before. What tensors hold is not looked at: only copies may run inside."""
    restore = _restorers(list(model.modules()))
    try:
        with random_numbers_kept():
            yield
    finally:
        for put_back in restore:
            put_back()


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Attributes of the model's modules, and containers in them: afterwards as before."""
    restore = _restorers(list(model.modules()), code=False)
    try:
        yield
    finally:
        for put_back in restore:
            put_back()


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Python's, numpy's and torch's, on the CPU and on CUDA devices in use."""
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _restorers(modules: list[nn.Module], *, code: bool = True) -> list[Callable[[], None]]:
    """Walk from the modules through the functions, classes and containers that their code can reach."""
    names = {cls.__module__ for module in modules for cls in type(module).__mro__}
    roots = {name.partition(".")[0] for name in names} - NOT_FOLLOWED

    def followed(name: Any) -> bool:
        root = str(name).partition(".")[0]
        if root in roots or root in NOT_FOLLOWED:
            return root in roots
        file = getattr(sys.modules.get(name), "__file__", None) or INSTALLED[0]
        return not any(folder in file for folder in INSTALLED)

    todo: list[Any] = [vars(module) for module in modules]
    if code:
        todo += [sys.modules.get(name) for name in names]
        todo += [cls for module in modules for cls in type(module).__mro__]
    seen: dict[int, Any] = {}
    restore: list[Callable[[], None]] = []
    while todo:
        thing = todo.pop()
        if type(thing) in ATOMS or id(thing) in seen or isinstance(thing, torch.Tensor):
            continue
        seen[id(thing)] = thing
        inside: Any = ()
        if isinstance(thing, dict):
            restore.append(partial(_dict_back, thing, dict(thing)))
            inside = thing.values()
        elif isinstance(thing, (list, deque)):
            restore.append(partial(_list_back, thing, list(thing)))
            inside = thing
        elif isinstance(thing, tuple):
            inside = thing
        elif not code:
            pass
        elif isinstance(thing, FunctionType) and followed(thing.__module__):
            inside = (thing.__globals__, thing.__defaults__, thing.__kwdefaults__, vars(thing))
            inside = (*inside, *(thing.__closure__ or ()))
        elif isinstance(thing, MethodType):
            inside = (thing.__self__, thing.__func__)
        elif isinstance(thing, CellType):
            inside = _cell(thing)
            restore.extend(partial(setattr, thing, "cell_contents", value) for value in inside)
        elif isinstance(thing, ModuleType):
            inside = (vars(thing),) if followed(thing.__name__) else ()
        elif isinstance(thing, type):
            if followed(thing.__module__):
                restore.append(partial(_class_back, thing, dict(vars(thing))))
                inside = vars(thing).values()
        elif hasattr(
            type(thing), "cache_clear"
        ):  # functools.cache, lru_cache; the object itself may answer anything
            restore.append(partial(_cache_back, thing, thing.cache_info().currsize))
            inside = (getattr(thing, "__wrapped__", None),)
        elif isinstance(thing, (staticmethod, classmethod)):
            inside = (thing.__func__,)
        elif isinstance(thing, property):
            inside = (thing.fget,)
        elif followed(type(thing).__module__):
            inside = (getattr(thing, "__dict__", None),)
        if len(inside) <= LONGEST:
            todo.extend(inside)
    return restore


def _cell(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty
        return ()


def _dict_back(held: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key in [key for key in held if key not in before]:
        del held[key]
    for key, value in before.items():
        if held.get(key, MISSING) is not value:
            held[key] = value


def _list_back(held: Any, before: list[Any]) -> None:
    if len(held) != len(before) or any(a is not b for a, b in zip(held, before, strict=True)):
        held.clear()
        held.extend(before)


def _class_back(cls: type, before: dict[str, Any]) -> None:
    for name in [name for name in vars(cls) if name not in before]:
        delattr(cls, name)
    for name, value in before.items():
        if vars(cls).get(name) is not value:
            setattr(cls, name, value)


def _cache_back(function: Any, size: int) -> None:
    if function.cache_info().currsize != size:
        function.cache_clear()
