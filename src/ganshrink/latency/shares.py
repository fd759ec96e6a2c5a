"""How long one network takes beside another, by rounds in which each ran once: figures that survive a busy machine."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BUSY = 0.2  # quartiles further apart than this share of the figure: something else ran
RESAMPLES = 100


class Rounds(NamedTuple):
    """Milliseconds (rounds, runs): by the clock, and of processor time of this process and all its threads."""

    wall: Floats
    cpu: Floats

    def and_then(self, more: "Rounds") -> "Rounds":
        """These rounds and further ones of the same runs."""
        return Rounds(np.concatenate([self.wall, more.wall]), np.concatenate([self.cpu, more.cpu]))


@dataclass(frozen=True, slots=True)
class Share:
    """A network's time as a share of a reference's.

    Attributes:
        value: the ratio of their lower quartiles: of several runs of each the least disturbed count.
        q1, q3: quartiles of the ratio within rounds.
        p50: its median.
        error: standard error of the value, as a share of it, by bootstrap over rounds.
        by: `wall` or `cpu`: the clock it was read from.
    """

    value: float
    q1: float
    p50: float
    q3: float
    error: float
    by: Literal["wall", "cpu"] = "wall"

    @property
    def busy(self) -> bool:
        """Whether rounds differ so much that the value says little."""
        return max(self.q3, self.value) - min(self.q1, self.value) > BUSY * self.value

    def to_json(self) -> dict[str, Any]:
        return {"share": self.value, "q1": self.q1, "q3": self.q3, "by": self.by}


def share_of(rounds: Rounds, column: int, reference: int = 0, *, single: bool = False) -> Share:
    """One run's time as a share of another's.

    Args:
        single: everything ran in one thread on the processor. Then its own processor time is what it takes when nothing else
            runs, and counts where the clock's rounds differ too much.
    """
    wall = _share(rounds.wall[:, column], rounds.wall[:, reference], "wall")
    if not single or not wall.busy or not rounds.cpu.all():
        return wall
    cpu = _share(rounds.cpu[:, column], rounds.cpu[:, reference], "cpu")
    return wall if cpu.busy else cpu


def _share(times: Floats, base: Floats, by: Literal["wall", "cpu"]) -> Share:
    q1, p50, q3 = np.percentile(times / base, (25, 50, 75))
    drawn = np.random.default_rng(0).integers(len(times), size=(RESAMPLES, len(times)))
    lower = np.percentile(times[drawn], 25, axis=1) / np.percentile(base[drawn], 25, axis=1)
    value = np.percentile(times, 25) / np.percentile(base, 25)
    return Share(float(value), float(q1), float(p50), float(q3), float(lower.std() / value), by)
