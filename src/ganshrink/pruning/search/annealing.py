"""Masks that close in on 0 and 1 while a network trains, until what they leave keeps a budget."""

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganshrink.pruning.allocate import rounded_down
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.budget import Budget
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.search.masks import Masks, boundary_at
from ganshrink.pruning.search.sparsity import overspent, spent

logger = logging.getLogger(__name__)

ROUNDING = 1e-6  # of a boundary in float32

Propose = Callable[[Budget], Plan]


@dataclass
class Annealing:
    """One network's masks, whose boundary moves to 0. Once the live channels keep the budget all masks are settled, and
    that structure stays.

    Attributes:
        name: what its messages call it, such as "G_A".
        budget: what the live channels may cost, in absolute numbers.
        steps: how many the training makes in all; the boundary is 0 after a share of them, `end`.
        plan: that of the highest scores (num_atoms,) within a budget, of widths that are multiples of `round_to`.
        settle: the plan that keeps the budget, from what is proposed for one.
        moves, freeze_at: see `boundary_at` and `Masks.freeze`; none: never frozen.
        met_at: after how many steps it had met its budget, or was done with less.
        done: how many steps were made.
    """

    name: str
    masks: Masks
    budget: Budget
    steps: int
    plan: Callable[[Tensor, Budget], Plan]
    settle: Callable[[Propose], Plan]
    _: KW_ONLY
    end: float = 1
    moves: int | None = None
    freeze_at: float | None = None
    round_to: int = 1
    met_at: int | None = None
    done: int = 0
    changed: bool = True  # the live channels, since their cost was last looked at

    @property
    def last(self) -> int:
        """After how many steps the boundary is 0."""
        return max(1, round(self.end * self.steps))

    def step(self, number: int) -> None:
        """What follows the optimizers' step of that number, counted from 0: move the boundary."""
        self.masks.pin()
        self.done = number + 1
        if self.met_at is not None:
            return
        before, now = (boundary_at(n, self.last, moves=self.moves) for n in (number, self.done))
        if now > float(self.masks.boundary) + ROUNDING:  # what goes on ended before, and is longer now
            self.masks.reopen(now)
        elif now != before:
            self._move(now)

    def failed(self) -> bool:
        """Whether the boundary is at 0 and more lives than the budget allows, which may have grown since."""
        if self.met_at is None and self.done >= self.last:
            self._move(0)
        return self.met_at is None and self.done >= self.last

    def meet(self, budget: Budget) -> None:
        """Settle every mask within this budget. Channels with the smallest inputs go first, where it or rounded widths ask
        for that."""
        scores = torch.where(self.masks.live().keep, self.masks.best_inputs(), -torch.inf)
        propose = partial(self.plan, scores)
        self.masks.finish(self.settle(propose) if budget.limits else propose(budget))
        self.met_at = self.done

    def _move(self, boundary: float) -> None:
        self.changed |= self.masks.move(boundary) > 0
        if self.freeze_at is not None:
            self.masks.freeze(self.freeze_at)
        if self.changed and self.over() <= 1:
            self.meet(self.budget)
            met = "%s meets its budget at step %d of %d, and keeps that structure"
            logger.info(met, self.name, self.done, self.steps)
        self.changed = False

    def over(self) -> float:
        """The most that the live channels cost of any of the budget's limits; 1 is all of it."""
        return overspent(self.masks.channels, self._widths(), self.budget)

    def spent(self) -> str:
        """What they cost of each, in words."""
        return spent(self.masks.channels, self._widths(), self.budget)

    def _widths(self) -> Index:
        """Those of the live channels, as `meet` would round them."""
        channels = self.masks.channels
        return rounded_down(channels, channels.widths(self.masks.live()), self.masks.floor, self.round_to)

    def watch(self) -> dict[str, float]:
        """What the live channels cost, as a share of the whole network; and the boundary."""
        channels, live = self.masks.channels, self.masks.live()
        costs = [overspent(channels, w, self.budget) for w in (channels.widths(live), channels.full_widths())]
        return {"live": costs[0] / costs[1], "boundary": float(self.masks.boundary)}

    def state_dict(self) -> dict[str, Any]:
        return {"met_at": self.met_at, "done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.met_at, self.done, self.changed = state_dict["met_at"], state_dict["done"], True
