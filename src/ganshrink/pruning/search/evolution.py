"""The best subnet within a band of cost, by evolution (Once-for-All, GAN Compression; UGC, section 4.1).

The best quarter of all members scored so far are parents; each generation is made of their mutations and crossovers. What
falls outside of the band walks back into it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ganshrink.pruning.allocate import cannot_be_met
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.budget import Budget, spending
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.search.space import Space

SPREAD = 1.0  # of the logarithms of the exponents by which groups grow, so that no two grow alike
HALVINGS = 12  # of the share at which a network meets its cost: more than any group has widths
CROSSINGS = 20  # how often a walk may leap over the band before it is given up
MUTATIONS = 0.5  # of a generation; the others are crossovers, while these give anything new
TRIES = 10  # draws per member that is wanted
ENOUGH = 200  # draws before a band is called empty, however small the population


class Scored(NamedTuple):
    """A member with what it costs and how good it is."""

    widths: Index
    cost: float
    score: float


@dataclass(eq=False)
class Evolution:
    """A search, generation by generation. `evolve` drives it.

    The generation g depends on the scores so far and on (seed, g) alone: a search that was stopped is made again from the
    scores that it had, without scoring a network twice. Defaults are GAN Compression's.

    Args:
        space: where to search.
        cost: what a member (groups,) costs; the same at every call, and more for a larger member as a rule.
        band: the least and the most that a member may cost.
        population: members of a generation; fewer where the band does not hold as many.
        generations: how many of them, the random first one included.
        parents: how many of the best breed, as a share of the population.
        rate: how likely a mutation draws a group's width, or a site's depth, anew.
        write: how a cost is written in errors.

    Raises:
        ValueError: if no member is found in the band, with the nearest costs.
    """

    space: Space
    cost: Callable[[Index], float]
    band: tuple[float, float]
    _: KW_ONLY
    population: int = 100
    generations: int = 20
    parents: float = 0.25
    rate: float = 0.2
    seed: int = 0
    write: Callable[[float], str] = "{:.6g}".format
    history: list[float] = field(default_factory=list, init=False)  # per generation the best score so far
    _ranked: list[Scored] = field(default_factory=list, init=False, repr=False)  # the best first
    _seen: set[bytes] = field(default_factory=set, init=False, repr=False)
    _costs: dict[bytes, float] = field(default_factory=dict, init=False, repr=False)
    _first: list[Index] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("population", self.population), ("generations", self.generations)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        low, high = self.band
        if not low <= high:
            raise ValueError(f"a band goes from its least to its most, got {low} to {high}")
        least, most = self._cost(self.space.smallest()), self._cost(self.space.largest())
        if least <= high and most >= low:
            self._first = self._drawn()
        if not self._first:
            raise ValueError(self._nothing_found())

    @property
    def best(self) -> Index:
        """(groups,) the best member so far, once one is scored. Of equals the cheaper, then the first by widths."""
        return self._ranked[0].widths.copy()

    @property
    def best_score(self) -> float:
        """Its score."""
        return self._ranked[0].score

    @property
    def scored(self) -> int:
        """How many members have been scored."""
        return len(self._ranked)

    @property
    def generation(self) -> int:
        """How many generations are done."""
        return len(self.history)

    def newcomers(self) -> list[Index]:
        """The members (groups,) of the next generation, distinct and none of them scored before; the same at every call."""
        return self._bred() if self._ranked else [widths.copy() for widths in self._first]

    def record(self, members: Sequence[Index], scores: Sequence[float]) -> None:
        """End a generation: the scores of its newcomers, the higher the better.

        Raises:
            ValueError: if scores are missing or not finite.
        """
        if len(scores) != len(members):
            raise ValueError(f"{len(members)} networks were to be scored, got {len(scores)} scores")
        values = [float(score) for score in scores]
        for widths, value in zip(members, values, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"the score of the network with widths {widths.tolist()} is {value}")
        self._add(members, values)
        self.history.append(self.best_score)

    def _add(self, members: Sequence[Index], scores: Sequence[float]) -> None:
        for widths, score in zip(members, scores, strict=True):
            self._ranked.append(Scored(widths.copy(), self._cost(widths), score))
            self._seen.add(widths.tobytes())
        self._ranked.sort(key=lambda member: (-member.score, member.cost, member.widths.tolist()))

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.generation])

    def _drawn(self) -> list[Index]:
        """The first population: members that grow from the smallest to the largest each in its own way, at a cost drawn
        from the band."""
        rng, found = self._rng(), dict[bytes, Index]()
        for draw in range(max(ENOUGH, TRIES * self.population)):
            if len(found) == self.population or (draw == ENOUGH and not found):
                break
            member = self._into_band(self._near(rng), rng)
            if member is not None:
                found.setdefault(member.tobytes(), member)
        return list(found.values())

    def _near(self, rng: np.random.Generator) -> Index:
        """Just below a cost drawn from the band. Plain draws would all cost about the mean, far from a small student."""
        exponents = np.exp(rng.normal(0, SPREAD, len(self.space.choices) + len(self.space.sites)))
        low = max(self.band[0], self._cost(self.space.smallest()))
        high = min(self.band[1], self._cost(self.space.largest()))
        wanted = rng.uniform(min(low, high), max(low, high))
        below, above = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (below + above) / 2
            if self._cost(self.space.between(middle, exponents)) > wanted:
                above = middle
            else:
                below = middle
        return self.space.between(below, exponents)

    def _bred(self) -> list[Index]:
        """Crossovers and mutations of the best; where crossovers give nothing new, mutations take their places."""
        rng, found = self._rng(), dict[bytes, Index]()
        parents = [m.widths for m in self._ranked[: max(1, round(self.parents * self.population))]]

        def crossed() -> Index:
            one, other = rng.integers(len(parents), size=2)
            return self.space.crossed(parents[one], parents[other], rng)

        def mutated() -> Index:
            return self.space.mutated(parents[rng.integers(len(parents))], rng, self.rate)

        crossovers = self.population - round(MUTATIONS * self.population)
        for breed, count in ((crossed, crossovers), (mutated, self.population)):
            for _ in range(TRIES * (count - len(found))):
                if len(found) == count:
                    break
                child = self._into_band(breed(), rng)
                if child is not None and child.tobytes() not in self._seen:
                    found.setdefault(child.tobytes(), child)
        return list(found.values())

    def _into_band(self, widths: Index, rng: np.random.Generator) -> Index | None:
        """A walk into the band by random moves, smaller ones while it costs too much, larger ones while too little.

        Moves that leap over the band wait until there are no others: steps grow finer towards it, and a narrow band is hit.
        """
        crossings = 0
        while side := self._side(widths):
            across = None
            for moved in self.space.moves(widths, rng, larger=side < 0):
                if self._side(moved) != -side:
                    widths = moved
                    break
                across = moved if across is None else across
            else:
                crossings += 1
                if across is None or crossings > CROSSINGS:
                    return None
                widths = across
        return widths

    def _side(self, widths: Index) -> int:
        """1 above the band, -1 below, 0 in it."""
        cost = self._cost(widths)
        return int(cost > self.band[1]) - int(cost < self.band[0])

    def _cost(self, widths: Index) -> float:
        key = widths.tobytes()
        if key not in self._costs:
            self._costs[key] = float(self.cost(widths))
        return self._costs[key]

    def _nothing_found(self) -> str:
        low, high = self.band
        below = max((cost for cost in self._costs.values() if cost < low), default=None)
        above = min((cost for cost in self._costs.values() if cost > high), default=None)
        if above is None:
            near = f"the largest costs {self.write(max(self._costs.values()))}"
        elif below is None:
            near = f"the smallest costs {self.write(min(self._costs.values()))}"
        else:
            near = f"the nearest that were found cost {self.write(below)} and {self.write(above)}"
        return f"no network found that costs {self.write(low)} to {self.write(high)}: {near}"


def evolve(evolution: Evolution, score: Callable[[Sequence[Index]], Sequence[float]]) -> Index:
    """Run a search.

    Args:
        score: how good these members (groups,) are, the higher the better; called once a generation with those that are
            new, so that it may spread them over processes. No member is ever scored twice.

    Returns:
        (groups,) the widths of the best member.

    Raises:
        ValueError: if scores are missing or not finite.
    """
    while evolution.generation < evolution.generations:
        members = evolution.newcomers()
        evolution.record(members, score(members) if members else [])
    return evolution.best


def within_budget(
    budget: Budget, space: Space, channels: Channels, *, band: float, advice: str, **settings: Any
) -> Evolution:
    """A search among the subnets that cost between `band` and all of a budget.

    Args:
        advice: what to do where there is none.
        settings: of `Evolution`.

    Raises:
        ValueError: if there is none, with the nearest costs.
    """

    def share(widths: Index) -> float:
        return max(spending(channels, widths, limit) / limit.amount for limit in budget.limits)

    def write(share: float) -> str:
        if len(budget.limits) > 1:
            return f"{100 * share:.4g} % of it"
        [limit] = budget.limits
        return f"{limit.kind}={limit.write(round(share * limit.amount, 3))}"

    smallest = space.smallest()
    if share(smallest) > 1:
        raise ValueError(cannot_be_met(channels, budget, smallest))
    least = min(band, share(space.largest()))  # a budget above the largest network keeps all of it
    try:
        return Evolution(space, share, (least, 1.0), write=write, **settings)
    except ValueError as error:
        raise ValueError(f"the budget {budget} cannot be met: {error}; {advice}") from None
