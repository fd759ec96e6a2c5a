"""What pulls masks to 0, how their boundary moves, and when the search has what was asked for (DMAD, section III.B)."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from ganshrink.methods.dmad.config import SearchConfig
from ganshrink.pruning import Budget, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.budget import spending
from ganshrink.pruning.search.masks import Masks
from ganshrink.pruning.search.sparsity import overspent

Settle = Callable[[Callable[[Budget], Plan]], Plan]

logger = logging.getLogger(__name__)

FAR_OVER = 2.5  # times the budget, at half of the boundary's way


def boundary_at(step: int, steps: int, *, moves: int | None = None) -> float:
    """b after so many of the `steps` iterations in which it goes from 1 to 0 (Eq. 4): 1 - (e / E)^(1/3).

    Args:
        moves: it stays between so many moves, as in the released code; none: it moves at every step.
    """
    if step >= steps:
        return 0.0
    done = step / steps if moves is None else (step * moves // steps) / moves
    return 1 - done ** (1 / 3)


def group_weights(masks: Masks, *, rule: str = "paper", weight: float = 1.0) -> Tensor:
    """(inputs,) what Eq. 6 multiplies each input's sparsity term by, without lambda_SPA; 1 outside of residual sums.

    Args:
        rule: `paper`: s / ||g||_0, of a channel's s masks those above 0 count in ||g||_0. `code`: 0 once one of them has
            settled at 1, since the channel will then live. `none`: 1 throughout.
        weight: a factor on it, in residual sums.
    """
    if rule == "none":
        return torch.ones_like(masks.inputs.detach())
    members = masks.per_atom(torch.ones_like(masks.inputs.detach()))
    alive = masks.per_atom(masks.alive().float())
    share = weight * torch.where(alive > 0, members / alive.clamp_min(1), 0)
    if rule == "code":
        share = share * (masks.per_atom((masks.settled > 0).float()) == 0)
    return torch.where(masks.summed, share[masks.index], 1)


def sparsity_loss(masks: Masks, config: SearchConfig) -> Tensor:
    """Eqs. 5 and 6 without lambda_SPA: the sum of |p + b| over inputs between the boundaries.

    The equation runs over all inputs. Settled ones are left out, as in the released code: a mask that is 0 is where it is
    drawn to, and one that is 1 has no gradient of its own and would only be dragged back.

    With `polarise`, layers outside the residual part get the code's other term: that times the L2 norm of b - |p|.
    """
    soft, boundary = masks.soft(), masks.boundary
    weights = group_weights(masks, rule=config.group_sparsity, weight=config.group_weight)
    outer = torch.zeros_like(soft)
    if config.polarise:
        for layer in masks.layers:
            outer[layer.start : layer.stop] = layer.outer
    zero = torch.zeros_like(masks.inputs)
    loss = torch.where(soft & ~outer, weights * (masks.inputs + boundary), zero).sum()
    if config.polarise:
        away = torch.where(soft, boundary - masks.inputs.abs(), zero)
        norms = [vector_norm(away[layer.start : layer.stop]) for layer in masks.layers if layer.outer]
        loss = loss + config.polarise * sum(norms, zero.sum())
    return loss


class MaskSearch:
    """The search for one generator: its masks, its budget, and whether it has met it.

    Args:
        budget: what the live channels may cost, in absolute numbers.
        steps: how many the training makes in all.
        settle: the plan that keeps the budget, from what is proposed for one.
        of: what its messages call it, such as "G_A".
    """

    def __init__(
        self, masks: Masks, budget: Budget, config: SearchConfig, steps: int, *, settle: Settle, of: str
    ) -> None:
        self.masks, self.budget, self.config, self.of = masks, budget, config, of
        self.settle = settle
        self.steps, self.moving = steps, max(1, round(config.boundary_end * steps))
        self.met_at: int | None = None
        self._whole = overspent(masks.channels, masks.channels.full_widths(), budget)
        self._changed = True  # the live channels, since their cost was last looked at

    def penalty(self) -> Tensor:
        """L_SPA (Eqs. 5 and 6)."""
        return self.config.lambda_spa * sparsity_loss(self.masks, self.config)

    def step(self, number: int) -> None:
        """What follows the optimizers' step of that number, counted from 0: move the boundary; once the budget is met,
        settle every mask, and keep that structure from then on.

        Raises:
            ValueError: if the boundary is 0 and the live channels still cost too much.
        """
        self.masks.pin()
        if self.met_at is not None:
            return
        done, moves = number + 1, self.config.boundary_moves
        boundary = boundary_at(done, self.moving, moves=moves)
        if boundary == 0 or boundary != boundary_at(number, self.moving, moves=moves):
            self._move(boundary, done)
        if self.met_at is None and boundary == 0:
            raise ValueError(self._missed(done))
        if self.met_at is None and done == self.moving // 2:
            self._warn()

    def _move(self, boundary: float, done: int) -> None:
        masks = self.masks
        self._changed |= masks.move(boundary) > 0
        if self.config.freeze_at is not None:
            masks.freeze(self.config.freeze_at)
        if self._changed:
            self._changed = False
            live = masks.live()
            if overspent(masks.channels, self._rounded(live), self.budget) <= 1:
                self._meet(live, done)

    def _meet(self, live: Plan, step: int) -> None:
        """Widths are rounded down where that is asked for, at the channels with the smallest inputs."""
        masks, config = self.masks, self.config
        best = masks.best_inputs()
        scores = torch.where(live.keep, best, -torch.inf)
        limits: Any = {"floor": config.floor, "round_to": config.round_to}
        plan = self.settle(lambda budget: bisect_threshold(masks.channels, scores, budget, **limits))
        masks.finish(plan)
        self.met_at = step
        logger.info(
            "%s meets its budget at step %d of %d, and keeps that structure", self.of, step, self.steps
        )

    def _rounded(self, plan: Plan) -> Index:
        """Widths per group, as `bisect_threshold` would round them down."""
        channels, step = self.masks.channels, self.config.round_to or 1
        widths, full = channels.widths(plan), channels.full_widths()
        least = np.array([0 if g.removable else min(self.masks.floor, len(g)) for g in channels.groups])
        return np.where(widths == full, full, np.maximum(widths // step * step, np.minimum(least, widths)))

    def _warn(self) -> None:
        """At half of the way, what will probably not be enough."""
        channels = self.masks.channels
        over = overspent(channels, self._rounded(self.masks.live()), self.budget)
        if over > FAR_OVER:
            logger.warning(
                "%s: half of the search is done and what lives costs %.1f times the budget: it will probably miss it; "
                "a higher method.lambda_spa or method.mask_lr would pull harder",
                self.of,
                over,
            )

    def _missed(self, step: int) -> str:
        channels = self.masks.channels
        widths = self._rounded(self.masks.live())
        spent = ", ".join(
            f"{limit.kind} {limit.write(spending(channels, widths, limit))} of {limit.write(limit.amount)}"
            for limit in self.budget.limits
        )
        frozen = "" if self.config.freeze_at is None else ", raise method.freeze_at"
        return (
            f"{self.of}: the masks' boundary reached 0 at step {step} of {self.steps}, and the channels left cost {spent}: "
            f"raise method.lambda_spa (now {self.config.lambda_spa:g}) or method.mask_lr, search longer (student.epochs)"
            f"{frozen}, or allow more"
        )

    def watch(self) -> dict[str, float]:
        """What the live channels cost, as a share of the whole network; and the boundary."""
        channels = self.masks.channels
        cost = overspent(channels, channels.widths(self.masks.live()), self.budget)
        return {"live": cost / self._whole, "boundary": float(self.masks.boundary)}

    def state_dict(self) -> dict[str, Any]:
        return {"met_at": self.met_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.met_at, self._changed = state_dict["met_at"], True
