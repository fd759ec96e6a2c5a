"""Widths that user code keeps in attributes of its modules (`self.channels`), and splits, slices or asserts by.

A number in the graph does not say where it came from. Int attributes of the modules that were being called and that equal
it are candidates; a trial cut in which the attribute follows the width proves or refutes them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import Failure

Place = tuple[str, str]  # module, attribute
MOST = 32  # trials


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

    First those that equal a number in the graph. Then, where a module checks a width and objects, those of all modules of
    its class that equal the width of what these are called on, or make.

    Args:
        attempt: a trial cut: what fails, or None.
    """
    chosen = {place: possible[place][0] for place in written if place in possible}
    candidate = _with(channels, chosen)
    problem = attempt(candidate)
    waiting = {place: axes[place in chosen :] for place, axes in possible.items()}
    for _ in range(MOST):
        if not isinstance(problem, Failure) or not problem.checked:
            break
        places = next((p for path in problem.modules if (p := list(_alike(model, path, waiting)))), [])
        if not places:
            break
        chosen |= {place: waiting[place].pop(0) for place in places}
        candidate = _with(channels, chosen)
        problem = attempt(candidate)
    return candidate


def _alike(model: nn.Module, path: str, waiting: dict[Place, list[Index]]) -> Iterator[Place]:
    """Attributes with axes left to try, of the modules of this one's class."""
    kind = type(model.get_submodule(path))
    yield from (p for p, axes in waiting.items() if axes and type(model.get_submodule(p[0])) is kind)


def _with(channels: Channels, chosen: dict[Place, Index]) -> Channels:
    more = tuple((path, attribute, axis) for (path, attribute), axis in chosen.items())
    return replace(channels, attributes=(*channels.attributes, *more), following=bool(more))
