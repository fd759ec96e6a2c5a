"""What tracing knows of one tensor: atoms per axis, and what a dead channel of it would hold."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganshrink.pruning.atoms import Index

# An axis holds atoms, or its size never changes: then the text says why ("" where that goes without saying).
Axis = Index | str

# What a dead position holds: None = zero everywhere, else one number per position (NaN: not known; inf: not finite).
Dead = NDArray[np.float64] | None

UNKNOWN = math.nan


@dataclass
class Value:
    """A traced tensor. Rules never change one in place, except for what in-place operators do to `dead`."""

    shape: tuple[int, ...]
    axes: list[Axis]
    dead: list[Dead] = field(default_factory=list)
    why: str = ""  # the operator after which a dead channel was no longer zero
    parameter: str | None = None  # the parameter or buffer that this is
    origin: str | None = None  # the parameter that this is a pointwise function of
    producer: int | None = None  # set on the direct output of a convolution or linear layer
    from_input: bool = True
    number: float | None = None  # of a constant with one element: what it holds

    def __post_init__(self) -> None:
        if not self.dead:
            self.dead = [None] * len(self.axes)
        assert len(self.shape) == len(self.axes) == len(self.dead), (self.shape, len(self.axes))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def annotated(self) -> list[int]:
        return [d for d, axis in enumerate(self.axes) if not isinstance(axis, str)]

    def but(self, **changes: Any) -> "Value":
        return replace(self, parameter=None, producer=None, **changes)


def dead_vector(dead: Dead, size: int) -> NDArray[np.float64]:
    return np.zeros(size) if dead is None else dead


def simplified(dead: NDArray[np.float64]) -> Dead:
    return dead if dead.any() else None  # NaN counts as true


def joined(deads: list[Dead], sizes: list[int]) -> Dead:
    """The dead values of arrays laid end to end."""
    if all(dead is None for dead in deads):
        return None
    return np.concatenate([dead_vector(dead, size) for dead, size in zip(deads, sizes, strict=True)])


def agreed(deads: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number per column where all rows of a (rows, columns) array agree, else unknown."""
    same = (deads == deads[:1]).all(axis=0)
    return np.where(same, deads[0], np.where(np.isinf(deads).any(axis=0), np.inf, UNKNOWN))
