"""Which subnets a network has: the widths every group may take, and how many of its blocks run at a place of varying depth.

A member is a vector of widths (groups,), the first channels of each group; a block that does not run has width 0.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels, Group
from ganshrink.pruning.plan import Plan


@dataclass(frozen=True)
class Space:
    """A set of nested subnets, to draw from and to search.

    Attributes:
        choices: per group of the `Channels` the widths it may have, rising and above 0; a frozen group its full width alone.
        sites: per place of varying depth the groups of its blocks, in the order in which these run: at depth d the
            first d run, the others have width 0.
        depth: whether sites have any depth, none, or all of their blocks.
    """

    choices: tuple[tuple[int, ...], ...]
    sites: tuple[tuple[int, ...], ...] = ()
    depth: Literal["any", "none", "full"] = "any"

    def __contains__(self, widths: Index) -> bool:
        """Whether these widths (groups,) are a member."""
        if widths.shape != (len(self.choices),):
            return False
        depths = self.depths(widths)
        if (depths < self._least).any() or (depths > self._most).any():
            return False
        alive = self._cut(np.ones_like(widths), depths) > 0
        return all(
            width in choices if lives else width == 0
            for width, choices, lives in zip(widths.tolist(), self.choices, alive.tolist(), strict=True)
        )

    def depths(self, widths: Index) -> Index:
        """(sites,) how many blocks of each site run."""
        return np.array([np.count_nonzero(widths[list(site)]) for site in self.sites], np.int64)

    def plan(self, channels: Channels, widths: Index) -> Plan:
        """Keep the first atoms of each group, so that a smaller member's channels are a larger one's first.

        Raises:
            ValueError: for widths that this network does not have.
        """
        full = channels.full_widths()
        if widths.shape != full.shape or (widths < 0).any() or (widths > full).any():
            raise ValueError(
                f"widths must be {len(full)} numbers from 0 to {full.tolist()}, got {widths.tolist()}"
            )
        keep = torch.zeros(channels.num_atoms, dtype=torch.bool)
        for group, width in zip(channels.groups, widths.tolist(), strict=True):
            keep[group.atoms[:width]] = True
        return Plan(keep)

    def largest(self) -> Index:
        """(groups,) every group at its widest, every site as deep as may be."""
        return self._cut(np.array([choices[-1] for choices in self.choices], np.int64), self._most)

    def smallest(self) -> Index:
        """(groups,) every group at its narrowest, every site as shallow as may be."""
        return self._cut(np.array([choices[0] for choices in self.choices], np.int64), self._least)

    def random(self, rng: np.random.Generator) -> Index:
        """(groups,) each group's width and each site's depth drawn uniformly."""
        return self._cut(self._widths(rng.integers(self._counts)), self._random_depths(rng))

    def fair(self, seed: int, step: int) -> Index:
        """(groups,) of a step, drawn so that in as many steps as a group has widths each of these comes once, in random
        order (the strict fairness of FairNAS, Chu et al. 2021); so with each site's depths."""

        def place(number: int, options: int) -> int:
            drawn = np.random.default_rng([seed, number, step // options]).permutation(options)
            return int(drawn[step % options])

        depths = (self._most - self._least + 1).tolist()
        places = np.array([place(*each) for each in enumerate([*self._counts.tolist(), *depths])], np.int64)
        groups = len(self.choices)
        return self._cut(self._widths(places[:groups]), self._least + places[groups:])

    def between(self, share: float, exponents: NDArray[np.float64]) -> Index:
        """(groups,) the member at a share of the way from the smallest (0) to the largest (1).

        Args:
            exponents: (groups + sites,) above 0, how late each group and site grows: it is at `share ** exponent` of its
                own way. A larger share never makes anything smaller.
        """
        at = share**exponents
        groups = len(self.choices)
        places = np.minimum((at[:groups] * self._counts).astype(np.int64), self._counts - 1)
        span = self._most - self._least
        deeper = np.minimum((at[groups:] * (span + 1)).astype(np.int64), span)
        return self._cut(self._widths(places), self._least + deeper)

    def mutated(self, widths: Index, rng: np.random.Generator, rate: float) -> Index:
        """(groups,) a member of which each group's width and each site's depth is drawn anew with probability `rate`."""
        drawn = self._widths(rng.integers(self._counts))
        anew = (rng.random(len(widths)) < rate) | (widths == 0)  # 0: a block that may come to run
        depths = np.where(rng.random(len(self.sites)) < rate, self._random_depths(rng), self.depths(widths))
        return self._cut(np.where(anew, drawn, widths), depths)

    def crossed(self, a: Index, b: Index, rng: np.random.Generator) -> Index:
        """(groups,) each group's width from either of two members, a site with all of its blocks from one."""
        from_a = rng.random(len(a)) < 0.5
        for site, choice in zip(self.sites, rng.random(len(self.sites)) < 0.5, strict=True):
            from_a[list(site)] = choice
        return np.where(from_a, a, b)

    def moves(self, widths: Index, rng: np.random.Generator, *, larger: bool) -> Iterator[Index]:
        """All members (groups,) one move away, in random order: a group at its next choice, or a site with one block more
        (its width drawn) or, if not `larger`, one less."""
        groups, depths = len(self.choices), self.depths(widths)
        for number in rng.permutation(groups + len(self.sites)).tolist():
            moved = widths.copy()
            if number < groups:
                place = bisect_left(self.choices[number], widths[number]) + (1 if larger else -1)
                if widths[number] == 0 or not 0 <= place < len(self.choices[number]):
                    continue
                moved[number] = self.choices[number][place]
            else:
                at = number - groups
                depth = int(depths[at]) + (1 if larger else -1)
                if not self._least[at] <= depth <= self._most[at]:
                    continue
                block = self.sites[at][depth - 1 if larger else depth]
                moved[block] = self.choices[block][rng.integers(self._counts[block])] if larger else 0
            yield moved

    def shallow(self) -> "Space":
        """Its members without any of the sites' blocks."""
        return replace(self, depth="none")

    def deep(self) -> "Space":
        """Its members with all of the sites' blocks."""
        return replace(self, depth="full")

    def narrower(self, widths: Index, factor: float) -> "Space":
        """Its members of which each group is at most the first choice that reaches `factor * widths`; the sites' blocks are
        as free as before."""
        free = {number for site in self.sites for number in site}
        limits = [round(factor * width, 6) for width in widths.tolist()]  # 1.1 * 50 is 55.00000000000001
        kept = tuple(
            choices if number in free else choices[: bisect_left(choices, limit) + 1]
            for number, (choices, limit) in enumerate(zip(self.choices, limits, strict=True))
        )
        return replace(self, choices=kept)

    # Arrays, so that drawing costs microseconds

    @cached_property
    def _counts(self) -> Index:
        return np.array([len(choices) for choices in self.choices], np.int64)

    @cached_property
    def _table(self) -> Index:
        table = np.zeros((len(self.choices), max(self._counts)), np.int64)
        for row, choices in zip(table, self.choices, strict=True):
            row[: len(choices)] = choices
        return table

    @cached_property
    def _least(self) -> Index:
        return self._blocks if self.depth == "full" else np.zeros_like(self._blocks)

    @cached_property
    def _most(self) -> Index:
        return np.zeros_like(self._blocks) if self.depth == "none" else self._blocks

    @cached_property
    def _blocks(self) -> Index:
        return np.array([len(site) for site in self.sites], np.int64)

    def _widths(self, places: Index) -> Index:
        return self._table[np.arange(len(places)), places]

    def _random_depths(self, rng: np.random.Generator) -> Index:
        return rng.integers(self._least, self._most + 1)

    def _cut(self, widths: Index, depths: Index) -> Index:
        """In place: no width for what lies beyond each site's depth."""
        for site, depth in zip(self.sites, depths.tolist(), strict=True):
            widths[list(site[depth:])] = 0
        return widths


def space_of(
    channels: Channels,
    *,
    steps: int = 8,
    least: int = 1,
    round_to: int = 1,
    sites: Sequence[Sequence[int]] = (),
) -> Space:
    """The subnets of a network whose free groups have 1, 2, .. `steps` of `steps` parts of their channels.

    With 8 steps on a network of base width 64 these are UGC's (section 4.1) 8, 16, .., 64 channels, times what a layer has
    of the base width. Only blocks at sites go to 0; other groups that could be removed stay.

    Args:
        least: no narrower than this, where the group itself is wider.
        round_to: widths are rounded up to multiples of this; the full width is always one.
        sites: per place of varying depth the numbers of its blocks' groups, in the order in which the blocks run.

    Raises:
        ValueError: for settings below 1, a site's group that cannot be removed, or a network of which nothing may be cut.
    """
    for name, value in (("steps", steps), ("least", least), ("round_to", round_to)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    channels.check_free()
    _check_sites(channels, sites)

    def width(group: Group, step: int) -> int:
        part = max(least, group.least, -(-len(group) * step // steps))
        return min(len(group), -(-part // round_to) * round_to)

    choices = tuple(
        (len(group),)
        if group.frozen is not None
        else tuple(sorted({width(group, step) for step in range(1, steps + 1)}))
        for group in channels.groups
    )
    return Space(choices, tuple(tuple(site) for site in sites))


def sites_of(channels: Channels, blocks: Sequence[Sequence[str]]) -> list[list[int]]:
    """Sites from the paths of their blocks: of each block the number of the first group that lies inside it."""
    number = {group.name: place for place, group in enumerate(channels.groups)}
    inside = [
        [[n for g, n in number.items() if g.startswith(f"{path}.")] for path in site] for site in blocks
    ]
    return [[groups[0] for groups in site if groups] for site in inside]


def _check_sites(channels: Channels, sites: Sequence[Sequence[int]]) -> None:
    seen: set[int] = set()
    for number in (number for site in sites for number in site):
        if not 0 <= number < len(channels.groups):
            raise ValueError(f"a site has group {number}; the network's are 0 to {len(channels.groups) - 1}")
        group = channels.groups[number]
        if group.frozen is not None or not group.removable:
            reason = f"it is frozen: {group.frozen}" if group.frozen else "no module goes with it"
            raise ValueError(f"{group.name} cannot be a block of varying depth, {reason}")
        if number in seen:
            raise ValueError(f"{group.name} is a block of varying depth twice")
        seen.add(number)
