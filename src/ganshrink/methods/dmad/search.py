"""DMAD, section III.B: masks that are learned with the weights, until what they leave keeps the budget."""

import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.linalg import vector_norm

from ganshrink.methods.base import Floor, Job, RoundTo, Settings
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold, rounded_down
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.search.masks import Masks, MaskShape
from ganshrink.pruning.search.sparsity import overspent, spent
from ganshrink.training import extended, total_steps
from ganshrink.training.stages import Artefacts, Stage
from ganshrink.training.tasks import Task
from ganshrink.training.tasks.task import adam_of
from ganshrink.training.train import Nets, batches_of, fit_nets

Settle = Callable[[Callable[[Budget], Plan]], Plan]

logger = logging.getLogger(__name__)

FAR_OVER = 2.5  # times the budget, at half of the boundary's way


class SearchConfig(Settings):
    """How the small architecture is found (section III.B); where the paper is silent or its code differs, with its value."""

    width: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of every layer that the search begins with; the code's: 0.75 for Pix2Pix (48 of 64 channels) "
        "and its mobile form, 0.5 for mobile CycleGAN (32 of 64)",
    )
    mask: MaskShape = Field(
        default="quadratic",
        description="the mask between its boundaries (Eq. 3); linear: Table II's ablation",
    )
    lambda_spa: float = Field(
        default=0.001,
        ge=0,
        description="weight of the sparsity loss (Eq. 5); the paper's for CycleGAN, 0.01 for Pix2Pix; the code's mobile "
        "forms: 0.002 to 0.006",
    )
    group_sparsity: Literal["paper", "code", "none"] = Field(
        default="paper",
        description="weight of a mask in a residual sum: paper: members / members above 0 (Eq. 6); code: none at all once "
        "one member has reached 1; none: 1, Table III's ablation",
    )
    group_weight: float = Field(
        default=1,
        ge=0,
        description="factor on that weight; the code's: 5 for mobile CycleGAN, 2 for mobile Pix2Pix",
    )
    polarise: float = Field(
        default=0,
        ge=0,
        description="kappa: layers outside the residual part are drawn to the nearer boundary, this hard, instead of to 0; "
        "the code's: 100 with ResNets (mobile CycleGAN 200), 0 with U-Nets; not in the paper",
    )
    boundary_end: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of the search by which the boundary is 0 (Eq. 4); the code's: 0.75",
    )
    boundary_moves: int | None = Field(
        default=None,
        ge=1,
        description="in how many moves it gets there; none: one at every step, as in the paper; the code's: 150",
    )
    freeze_at: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="settle a layer outside of branches and sums once more than this share of it is 0, so that the rest "
        "stays; none: never; the code's, for U-Nets: 0.85, cityscapes 0.7, edges2shoes 0.8; not in the paper",
    )
    mask_lr: float | None = Field(
        default=None,
        gt=0,
        description="Adam's rate for the masks' inputs; none: that of the weights, as in the paper",
    )
    floor: Floor = 1
    round_to: RoundTo = None

    @property
    def least(self) -> int:
        """`floor`, as `round_to` rounds it."""
        step = self.round_to or 1
        return -(-self.floor // step) * step

    def fitting(self, channels: Channels, scores: Tensor, budget: Budget) -> Plan:
        """The plan of the highest scores that keeps a budget."""
        return bisect_threshold(channels, scores, budget, floor=self.floor, round_to=self.round_to)


def search_masks(
    stage: Stage, job: Job, config: SearchConfig, task: Task, channels: Channels, nets: Nets
) -> Artefacts:
    """Train every net of the task, in place, and find what lives of the generators that are made small: "plans", by name.

    Args:
        channels: the structure of these generators.
    """
    logger.info("searching for what may go")
    steps, searches = total_steps(batches_of(job.data, job.training), job.training), {}
    for name, one in job.by_generator().items():
        settle = partial(one.plan_within, network=copy.deepcopy(nets[name]), channels=channels)
        masks = Masks(nets[name], channels, shape=config.mask, floor=config.least)
        searches[name] = MaskSearch(name, masks, one.budget, config, steps, settle=settle)
    sought = searches.values()

    def sparsity(context: Any) -> dict[str, Tensor]:
        return {f"{search.name}_spa": search.penalty() for search in sought if search.met_at is None}

    def after(context: Any) -> None:
        for search in sought:
            search.step(context.step)

    def watch() -> dict[str, float]:  # live and boundary, or live_A, boundary_A, live_B ...
        return {f"{k}{s.name.removeprefix('G')}": v for s in sought for k, v in s.watch().items()}

    inputs = adam_of(task.config, [search.masks.inputs for search in sought], lr=config.mask_lr)
    state = {f"search_{name}": search for name, search in searches.items()}
    more: Any = {"optimizers": [inputs], "after": after, "watch": watch, "state": state}
    updates = extended(task.updates(nets, [sparsity]), "G", **more)
    masked = {f"masks_{search.name}": search.masks for search in sought}
    training = job.training.model_copy(update={"compile": False})  # hooks change what the network computes
    fit_nets(stage, nets | masked, task, job.data, training, updates=updates, progress=job.progress)
    for search in sought:
        search.masks.fold()
    return {"plans": {search.name: search.masks.live().to_json(channels) for search in sought}}


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
        name: what its messages call it, such as "G_A".
        budget: what the live channels may cost, in absolute numbers.
        steps: how many the training makes in all.
        settle: the plan that keeps the budget, from what is proposed for one.
    """

    def __init__(
        self, name: str, masks: Masks, budget: Budget, config: SearchConfig, steps: int, *, settle: Settle
    ) -> None:
        self.name, self.masks, self.budget, self.config = name, masks, budget, config
        self.steps, self.settle = steps, settle
        self.moving = max(1, round(config.boundary_end * steps))
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
        self._changed |= self.masks.move(boundary) > 0
        if self.config.freeze_at is not None:
            self.masks.freeze(self.config.freeze_at)
        if self._changed and overspent(self.masks.channels, self._widths(), self.budget) <= 1:
            self._meet(done)
        self._changed = False

    def _meet(self, done: int) -> None:
        """Widths are rounded down where that is asked for, at the channels with the smallest inputs."""
        masks = self.masks
        scores = torch.where(masks.live().keep, masks.best_inputs(), -torch.inf)
        masks.finish(self.settle(lambda budget: self.config.fitting(masks.channels, scores, budget)))
        self.met_at = done
        told = "%s meets its budget at step %d of %d, and keeps that structure"
        logger.info(told, self.name, done, self.steps)

    def _widths(self) -> Index:
        """Those of the live channels, as `_meet` would round them."""
        masks, step = self.masks, self.config.round_to or 1
        return rounded_down(masks.channels, masks.channels.widths(masks.live()), masks.floor, step)

    def _warn(self) -> None:
        """At half of the way, what will probably not be enough."""
        over = overspent(self.masks.channels, self._widths(), self.budget)
        if over > FAR_OVER:
            logger.warning(
                "%s: half of the search is done and what lives costs %.1f times the budget: it will probably miss it; "
                "a higher method.search.lambda_spa or method.search.mask_lr would pull harder",
                self.name,
                over,
            )

    def _missed(self, done: int) -> str:
        frozen = "" if self.config.freeze_at is None else ", raise method.search.freeze_at"
        return (
            f"{self.name}: the masks' boundary reached 0 at step {done} of {self.steps}, and the channels left cost "
            f"{spent(self.masks.channels, self._widths(), self.budget)}: raise method.search.lambda_spa (now "
            f"{self.config.lambda_spa:g}) or method.search.mask_lr, search longer (student.epochs){frozen}, or allow more"
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
