"""Union-find over channel positions, on whole index arrays at a time.

Every position of every annotated axis gets a raw atom; rules tie arrays of them pair by pair. The union is solved once
at the end, by label propagation with pointer jumping, so that no Python loop runs per channel.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """The solved union: a label per raw atom, and per label what was said about its members."""

    label: Index  # (raw atoms,) the smallest raw atom of the class
    reason: list[str | None]  # (raw atoms,) by label: why the class is frozen
    dropped: NDArray[np.bool_]  # by label: positions that are no channels at all (kernel sizes, heights)


@dataclass
class Ties:
    """What the rules have said so far."""

    count: int = 0
    pairs: list[tuple[Index, Index]] = field(default_factory=list)
    frozen: list[tuple[Index, str]] = field(default_factory=list)
    fixed: list[tuple[Index, str]] = field(default_factory=list)
    channels: list[Index] = field(default_factory=list)

    def fresh(self, size: int) -> Index:
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def tie(self, left: Index, right: Index) -> None:
        if left is not right:
            assert left.shape == right.shape, (left.shape, right.shape)
            self.pairs.append((left, right))

    def solve(self) -> Classes:
        left = np.concatenate([np.ravel(a) for a, _ in self.pairs] or [np.zeros(0, np.int64)])
        right = np.concatenate([np.ravel(b) for _, b in self.pairs] or [np.zeros(0, np.int64)])
        label = components(self.count, left, right)
        reason: list[str | None] = [None] * self.count
        for atoms, text in self.frozen:
            for root in np.unique(label[atoms]):
                reason[root] = reason[root] or text
        channel = np.zeros(self.count, bool)
        for atoms in self.channels:
            channel[label[atoms]] = True
        dropped = np.zeros(self.count, bool)
        for atoms, text in self.fixed:
            for root in np.unique(label[atoms]):
                if channel[root]:
                    reason[root] = reason[root] or text
                else:
                    dropped[root] = True
        return Classes(label, reason, dropped)


def components(count: int, left: Index, right: Index) -> Index:
    """Connected components of `count` nodes under edges (left, right): the smallest member as each one's label."""
    label = np.arange(count, dtype=np.int64)
    while True:
        a, b = label[left], label[right]
        if np.array_equal(a, b):
            return label
        low = np.minimum(a, b)
        np.minimum.at(label, a, low)
        np.minimum.at(label, b, low)
        while True:
            jumped = label[label]
            if np.array_equal(jumped, label):
                break
            label = jumped
