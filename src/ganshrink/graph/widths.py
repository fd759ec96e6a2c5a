"""Widths that user code keeps in attributes of its modules (`self.channels`), and splits, slices or asserts by.

A number in the graph does not say where it came from. Int attributes of the modules that were being called and that equal
it are candidates; a trial cut in which the attribute follows the width proves or refutes them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from torch import nn

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import Failure

Place = tuple[str, str]  # module, attribute
MOST = 24  # trials for one module


class Candidates:
    """Which axes each attribute may state, the likelier first, as far as a graph tells."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.written: dict[Place, list[Index]] = {}  # by a number in the graph
        self.met: dict[Place, list[Index]] = {}  # by the size of what its module is called on or makes
        self.stated: dict[str, dict[int, list[str]]] = {}

    def note(self, paths: Sequence[str], axis: Index | str, *, written: bool) -> None:
        """An axis that stands at an operator called by these modules."""
        if isinstance(axis, str) or len(axis) < 2:
            return
        for path in reversed(paths):
            for attribute in self._equal(path, len(axis)):
                axes = (self.written if written else self.met).setdefault((path, attribute), [])
                if not any(axis is known for known in axes):
                    axes.append(axis)

    def _equal(self, path: str, size: int) -> list[str]:
        if path not in self.stated:
            module = self.model.get_submodule(path)
            found = self.stated.setdefault(path, {})
            if not type(module).__module__.startswith("torch."):  # torch's own are known to the rules
                for name, value in vars(module).items():
                    if type(value) is int:
                        found.setdefault(value, []).append(name)
        return self.stated[path].get(size, [])

    def compact(self, number: Callable[[Index], Index]) -> dict[Place, list[Index]]:
        """All of them in atoms, without axes that no cut reaches."""
        out: dict[Place, list[Index]] = {}
        for table in (self.written, self.met):
            for place, axes in table.items():
                for axis in map(number, axes):
                    known = out.setdefault(place, [])
                    if (axis >= 0).any() and not any(np.array_equal(axis, other) for other in known):
                        known.append(axis)
        return {place: axes for place, axes in out.items() if axes}


def follow(
    channels: Channels,
    model: nn.Module,
    written: Sequence[Place],
    possible: dict[Place, list[Index]],
    attempt: Callable[[Channels], str | None],
) -> Channels:
    """The channels whose attributes follow widths until a trial cut passes, or nothing more can be done.

    First come those that equal a number in the graph. Where a module checks a width and objects, those of all modules of
    its class follow what these are called on. Where one still fails, its attributes try all of their axes.

    Args:
        attempt: a trial cut: what fails, or None.
    """
    chosen = {place: possible[place][0] for place in written if place in possible}
    problem = attempt(_with(channels, chosen))
    classes: set[type] = set()
    paths: set[str] = set()
    while (path := _keeper(problem, possible)) is not None:
        kind = type(model.get_submodule(path))
        if isinstance(problem, Failure) and problem.checked and kind not in classes:
            classes.add(kind)
            alike = [place for place in possible if type(model.get_submodule(place[0])) is kind]
            chosen = {place: possible[place][0] for place in alike} | chosen
            problem = attempt(_with(channels, chosen))
            continue
        if path in paths:
            break
        paths.add(path)
        for more in _combinations({place: possible[place] for place in chosen if place[0] == path}):
            found = attempt(_with(channels, chosen | more))
            if _keeper(found, possible) != path:
                chosen, problem = chosen | more, found
                break
    return _with(channels, chosen)


def _keeper(problem: str | None, possible: Mapping[Place, object]) -> str | None:
    """The innermost module that was being called and keeps a width, where one raises."""
    keeping = {path for path, _ in possible}
    return next((path for path in getattr(problem, "modules", ()) if path in keeping), None)


def _combinations(possible: Mapping[Place, list[Index]]) -> Iterator[dict[Place, Index]]:
    """Each attribute on each of its axes, the likelier first."""
    every = product(*(range(len(axes)) for axes in possible.values()))
    for numbers in sorted(every, key=sum)[1:MOST]:
        yield {place: axes[n] for (place, axes), n in zip(possible.items(), numbers, strict=True)}


def _with(channels: Channels, chosen: dict[Place, Index]) -> Channels:
    more = tuple((path, attribute, axis) for (path, attribute), axis in chosen.items())
    return replace(channels, attributes=(*channels.attributes, *more), following=bool(more))
