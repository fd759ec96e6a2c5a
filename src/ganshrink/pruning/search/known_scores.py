"""Scores of subnets, kept in a file as they come: a search that was stopped goes on without scoring a network twice."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.search.evolution import Evolution, evolve
from ganshrink.system.atomic import write_json
from ganshrink.system.distributed import broadcast, is_main_process, rank_and_world, spread

logger = logging.getLogger(__name__)


class KnownScores:
    """Scores by widths; each is computed by one of the processes, and known to all.

    Args:
        score: how good the subnet of such widths (groups,) is.
        file: of the stage that searches; what an earlier attempt at it left is taken over.
    """

    def __init__(self, score: Callable[[Index], float], file: Path) -> None:
        self.score, self.file = score, file
        self.known: dict[str, float] = broadcast(_read(file) if is_main_process() else {})

    def of(self, members: Sequence[Index], watch: Callable[[int], None] | None = None) -> list[float]:
        """The scores of these members, new ones computed and kept.

        Args:
            watch: is told as they come for how many there are scores.
        """
        at_once = rank_and_world()[1]
        for start in range(0, len(members), at_once):
            self._add(members[start : start + at_once])
            if watch is not None:
                watch(start + 1)
        return [self.known[_key(widths)] for widths in members]

    def best(self, evolution: Evolution, watch: Callable[[int], None]) -> Index:
        """(groups,) the best member that a search finds by these scores.

        Args:
            watch: is told as they come how many members are done, those included that the band does not hold.
        """

        def score(members: Sequence[Index]) -> list[float]:
            begin, size = evolution.population * evolution.generation, evolution.population
            scores = self.of(members, lambda count: watch(begin + count))
            if len(members) < size:
                watch(begin + size)
            return scores

        return evolve(evolution, score)

    def get(self, widths: Index) -> float | None:
        """The score of a member, where it was computed."""
        return self.known.get(_key(widths))

    def _add(self, members: Sequence[Index]) -> None:
        new = [widths for widths in members if _key(widths) not in self.known]
        if not new:
            return
        self.known |= {_key(widths): s for widths, s in zip(new, spread(self.score, new), strict=True)}
        if is_main_process():
            write_json(self.file, {key: s for key, s in self.known.items() if math.isfinite(s)})


def _key(widths: Index) -> str:
    return ",".join(map(str, widths.tolist()))


def _read(file: Path) -> dict[str, float]:
    try:
        found = json.loads(file.read_text(encoding="utf-8")).items()
        return {key: float(score) for key, score in found if math.isfinite(score)}
    except FileNotFoundError:
        return {}
    except (AttributeError, TypeError, ValueError):
        logger.warning("%s is damaged: networks are scored again", file)
        return {}
