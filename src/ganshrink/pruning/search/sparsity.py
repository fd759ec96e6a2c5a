"""How hard scales are pulled to zero: a fixed weight of their L1 norm, or one that is steered to a budget."""

import math
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.budget import Budget, spending
from ganshrink.pruning.channels import Channels
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.search.gates import Gates

ARRIVAL = 0.8  # of the steps, by when a steered search is to be at the budget
GAIN = 50.0  # e-folds of rho over a whole search at a steady error of one e-fold in cost
PACE = 0.02  # of the median live scale: the most that a step of a steered search takes off each
FAR_BELOW = 0.7  # of the budget


class Sparsity:
    """The proximal step after each step of an optimizer, with the weight rho of the L1 norm and what it has come to.

    Steered, rho grows while the live channels cost more than they should by now, and falls while they cost less. No step
    kills more channels than are due, or takes more than `PACE` off a scale of median size. What they should cost falls
    geometrically from the whole network to the budget at `ARRIVAL` of the steps; there the pull ends, and from there on the
    dead stay dead. A search of few steps, or one with a tiny rho at first, may not arrive.

    Args:
        gates: the scales.
        optimizer: moves them; its learning rate at the time is eta.
        rho: weight of the L1 norm, at first or for good.
        budget: what the live channels should cost in the end, in absolute numbers.
        steered: how many steps there will be, for rho to follow the cost; None: rho stays.
    """

    def __init__(
        self,
        gates: Gates,
        channels: Channels,
        optimizer: Optimizer,
        *,
        rho: float,
        budget: Budget,
        steered: int | None = None,
    ) -> None:
        self.gates, self.channels, self.optimizer = gates, channels, optimizer
        self.rho, self.budget, self.steered = rho, budget, steered
        self.rates = 0.0  # sum of eta over the steps so far
        self._whole = overspent(channels, channels.full_widths(), budget)

    def step(self, number: int) -> None:
        """What follows the optimizer's step of that number, counted from 0."""
        eta = self.optimizer.param_groups[0]["lr"]
        if self.steered is None:
            self.gates.shrink(self.rho * eta)
        else:
            done = min(1.0, (number + 1) / (ARRIVAL * self.steered))
            most = self._steer(done, self.steered, eta)
            self.gates.shrink(min(self.rho * eta, most), hold=done == 1 or not self.rho)
        self.rates += eta

    def _steer(self, done: float, steps: int, eta: float) -> float:
        """Move rho by what the live channels cost against what is due at this share of the way, in a search of so many
        steps; the amount of shrinking that kills no more than is due."""
        live = self.gates.live()
        cost = overspent(self.channels, self.channels.widths(live), self.budget)
        if cost <= 1:
            self.rho = 0.0
            return 0.0
        due = max(1.0, self._whole) ** (1 - done)
        error = max(-1.0, min(1.0, math.log(cost / due)))
        magnitudes = self.gates.magnitudes().numpy()
        pace = PACE * float(np.median(magnitudes[np.isfinite(magnitudes) & live.keep.numpy()]))
        self.rho = min(self.rho * math.exp(GAIN / steps * error), pace / max(eta, 1e-12))
        return self._threshold(magnitudes, due)

    def _threshold(self, magnitudes: np.ndarray, due: float) -> float:
        """The largest of the magnitudes such that the channels above it still cost as much as is due."""
        groups = [magnitudes[group.atoms.numpy()] for group in self.channels.groups]
        least = np.array([0 if g.removable else min(self.gates.floor, len(g)) for g in self.channels.groups])
        steps = np.unique(magnitudes[np.isfinite(magnitudes)])
        low, high = 0, len(steps)  # the first so many may die
        while low < high:
            middle = (low + high + 1) // 2
            widths = np.array([int((of_group > steps[middle - 1]).sum()) for of_group in groups])
            if overspent(self.channels, np.maximum(widths, least), self.budget) >= due:
                low = middle
            else:
                high = middle - 1
        return float(steps[low - 1]) if low else 0.0

    def watch(self) -> dict[str, float]:
        """What the live channels cost, as a share of the whole network; and rho, where it moves."""
        cost = overspent(self.channels, self.channels.widths(self.gates.live()), self.budget)
        moving = {} if self.steered is None else {"rho": self.rho}
        return {"live": cost / self._whole, **moving}

    def state_dict(self) -> dict[str, Any]:
        return {"rho": self.rho, "rates": self.rates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rho, self.rates = float(state_dict["rho"]), float(state_dict["rates"])


def overspent(channels: Channels, widths: Index, budget: Budget) -> float:
    """The most that kept widths per group cost of any of a budget's limits; 1 is all of it."""
    return max(spending(channels, widths, limit) / limit.amount for limit in budget.resolve(channels).limits)


def spent(channels: Channels, widths: Index, budget: Budget) -> str:
    """What kept widths per group cost of each of a budget's limits, in words."""
    return ", ".join(
        f"{limit.kind} {limit.write(spending(channels, widths, limit))} of {limit.write(limit.amount)}"
        for limit in budget.limits
    )


def advice(
    channels: Channels,
    magnitudes: Tensor,
    plan: Plan,
    budget: Budget,
    *,
    rho: float,
    rates: float,
    steered: bool = False,
) -> str:
    """In a sentence, what a search's live channels cost against the budget, and what rho would fit better.

    Args:
        magnitudes: (num_atoms,) what the scales came to, -inf for the dead.
        plan: those of the live channels that the budget allows.
        rho, rates: the search's weight of the L1 norm, and the sum of its learning rates.
        steered: whether rho followed the cost: then there is none to suggest.
    """
    live = Plan(magnitudes > -math.inf)
    widths = channels.widths(live)
    share = overspent(channels, widths, budget)
    found = f"the search left channels of {spent(channels, widths, budget)}"
    if share > 1:
        cut = magnitudes[live.keep & ~plan.keep]
        # a scale of that size would have gone too, had it been pulled that much more
        more = rho + float(cut.max()) / rates if len(cut) and rates else rho
        hint = f"; rho = {more:.2g} would have come close by itself" if more > rho and not steered else ""
        return f"{found}: the smallest scales are cut as well, down to the budget{hint}"
    if share < FAR_BELOW and not steered:
        return f"{found}, far below the budget: a smaller rho, such as {rho * share:.2g}, would keep more"
    return f"{found}, which is within the budget"
