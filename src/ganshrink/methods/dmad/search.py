"""DMAD, section III.B: masks that are learned with the weights, until what they leave keeps the budget."""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.linalg import vector_norm

from ganshrink.methods.base import Job, WidthSettings
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.search.annealing import Annealing, Propose
from ganshrink.pruning.search.masks import Masks, MaskShape
from ganshrink.system.copies import copied
from ganshrink.training import extended
from ganshrink.training.stages import Artefacts, Stage
from ganshrink.training.tasks import Task
from ganshrink.training.tasks.task import adam_of
from ganshrink.training.train import Nets

logger = logging.getLogger(__name__)

FAR_OVER = 2.5  # times the budget, at half of the boundary's way
LENGTH = ("epochs", "decay_epochs", "max_steps")


class SearchConfig(WidthSettings):
    """How the small architecture is found (section III.B); where the paper is silent or its code differs, with its value."""

    width: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of every layer that the search begins with; the code's: 0.75 for Pix2Pix (48 of 64 channels) "
        "and its mobile form, 0.5 for mobile CycleGAN (32 of 64)",
    )
    mask: MaskShape = Field(default="quadratic", description="of Eq. 3; linear: Table II's ablation")
    lambda_spa: NonNegativeFloat | None = Field(
        default=None,
        description="weight of the sparsity loss (Eq. 5); none: the paper's, 0.01 where images are in pairs (Pix2Pix), else "
        "0.001 (CycleGAN); the code's mobile forms: 0.002 to 0.006",
    )
    group_sparsity: Literal["paper", "code", "none"] = Field(
        default="paper",
        description="weight of a mask in a residual sum: paper: members / members above 0 (Eq. 6); code: none at all once "
        "one member has reached 1; none: 1, Table III's ablation",
    )
    group_weight: NonNegativeFloat = Field(
        default=1,
        description="factor on that weight; the code's: 5 for mobile CycleGAN, 2 for mobile Pix2Pix",
    )
    polarise: NonNegativeFloat = Field(
        default=0,
        description="kappa: layers outside the residual part are drawn to the nearer boundary, this hard, instead of to 0; "
        "the code's: 100 with ResNets (mobile CycleGAN 200), 0 with U-Nets; not in the paper",
    )
    boundary_end: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of the search by which the boundary is 0 (Eq. 4); the code's: 0.75",
    )
    boundary_moves: PositiveInt | None = Field(
        default=None,
        description="how many moves that takes; none: one at every step (paper); the code's: 150",
    )
    freeze_at: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="settle a layer outside of branches and sums once more than this share of it is 0, so that the rest "
        "stays; none: never; the code's, for U-Nets: 0.85, cityscapes 0.7, edges2shoes 0.8; not in the paper",
    )
    mask_lr: PositiveFloat | None = Field(
        default=None, description="Adam's rate for the masks; none: that of the weights, as in the paper"
    )
    if_missed: Literal["stop", "trim", "accept"] = Field(
        default="stop",
        description="what to do where the boundary has reached 0 and the channels left cost more than the budget: stop, and "
        "keep the search to go on from; trim: those go whose masks' inputs were smallest, until it is met; accept: what was "
        "reached, as the code does",
    )


def search_masks(
    stage: Stage, nets: Nets, *, job: Job, config: SearchConfig, task: Task, channels: Channels
) -> Artefacts:
    """Train every net of the task, in place, and find what lives of the generators that are made small, which have this
    structure: "plans", by name."""
    logger.info("searching for what may go")
    searches, step = {}, config.round_to or 1
    floor = math.ceil(config.floor / step) * step
    for name, one in job.by_generator().items():
        settle = partial(one.plan_within, network=copied(nets[name]), channels=channels)
        masks = Masks(nets[name], channels, shape=config.mask, floor=floor)
        searches[f"search_{name}"] = MaskSearch(
            name, masks, one.budget, config, job.steps, settle, job.longer
        )
    sought = searches.values()

    def sparsity(context: Any) -> dict[str, Tensor]:
        return {f"{s.name}_spa": sparsity_loss(s.masks, config) for s in sought if s.met_at is None}

    def after(context: Any) -> None:
        for search in sought:
            search.step(context.step)

    def watch() -> dict[str, float]:  # live and boundary, or live_A, boundary_A, live_B ...
        return {f"{k}{s.name.removeprefix('G')}": v for s in sought for k, v in s.watch().items()}

    def stuck() -> str | None:
        return next((reason for search in sought if (reason := search.missed())), None)

    inputs = adam_of(task.config, [search.masks.inputs for search in sought], lr=config.mask_lr)
    more: Any = {"optimizers": [inputs], "after": after, "watch": watch, "state": searches, "stuck": stuck}
    updates = extended(task.updates(nets, [sparsity]), "G", **more)
    masked = {f"masks_{search.name}": search.masks for search in sought}
    job.fit(stage, nets | masked, task, hooked=True, updates=updates)
    for search in sought:
        search.masks.fold()
    return {"plans": {search.name: search.masks.live().to_json(channels) for search in sought}}


def stamp(job: Job, config: SearchConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What decides a search, JSON-ready: that of which another value begins it anew; and when it ends, which a search that
    missed its budget can go on to where that is further out."""
    described, ends = job.describe(), {"boundary_end", "if_missed"}
    fixed = described | {"search": config.model_dump(mode="json", exclude=ends)}
    fixed["training"] = {k: v for k, v in described["training"].items() if k not in LENGTH}
    until = config.model_dump(mode="json", include=ends) | {k: described["training"][k] for k in LENGTH}
    for name, one in job.by_generator().items():
        fixed[f"{name} timed by"] = one.timed_by()
        until |= {f"{name} {kind}": amount for kind, amount in one.budget.numbers().items()}
    return fixed, until


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
    """L_SPA (Eqs. 5 and 6): lambda_SPA times the sum of |p + b| over inputs between the boundaries.

    The equation runs over all inputs. Settled ones are left out, as in the released code: a mask that is 0 is where it is
    drawn to, and one that is 1 has no gradient of its own and would only be dragged back.

    With `polarise`, layers outside the residual part get the code's other term: that times the L2 norm of b - |p|.
    """
    soft, boundary, zero = masks.soft(), masks.boundary, torch.zeros_like(masks.inputs)
    weights = group_weights(masks, rule=config.group_sparsity, weight=config.group_weight)
    drawn = soft & ~masks.outer if config.polarise else soft
    loss = torch.where(drawn, weights * (masks.inputs + boundary), zero).sum()
    if config.polarise:
        away = torch.where(soft, boundary - masks.inputs.abs(), zero)
        norms = [vector_norm(away[layer.start : layer.stop]) for layer in masks.layers if layer.outer]
        loss = loss + config.polarise * sum(norms, zero.sum())
    assert config.lambda_spa is not None  # `DmadConfig.for_task`
    return config.lambda_spa * loss


class MaskSearch(Annealing):
    """The search for one generator: its masks until they meet the budget, and what is done where they miss it.

    Args:
        config: also has when the boundary is 0 (Eq. 4), and what happens to it on the way.
        longer: the setting that gives the search more steps.
    """

    def __init__(
        self, name: str, masks: Masks, budget: Budget, config: SearchConfig, steps: int,
        settle: Callable[[Propose], Plan], longer: str = "student.epochs",
    ) -> None:  # fmt: skip
        way: Any = {"end": config.boundary_end, "moves": config.boundary_moves, "freeze_at": config.freeze_at}
        plan = partial(config.plan, masks.channels)
        super().__init__(name, masks, budget, steps, plan, settle, round_to=config.round_to or 1, **way)
        self.config, self.longer = config, longer

    def step(self, number: int) -> None:
        super().step(number)
        self._end()
        if self.met_at is None and self.done == self.last // 2 and (over := self.over()) > FAR_OVER:
            logger.warning(
                "%s: half of the search is done and what lives costs %.1f times the budget: it will probably miss it; "
                "a higher method.search.lambda_spa or method.search.mask_lr would pull harder",
                self.name,
                over,
            )

    def _end(self) -> bool:
        """Where the search has failed, do what `if_missed` says; whether it still has."""
        if self.failed() and self.config.if_missed != "stop":
            logger.warning("%s: %s: %s", self.name, self._reached(), self.config.if_missed)
            self.meet(self.budget if self.config.if_missed == "trim" else Budget(()))
        return self.failed()

    def missed(self) -> str | None:
        """That the budget is missed and what can be done, where it is; None where the search can go on or has met it."""
        if not self._end():
            return None
        frozen = "" if self.config.freeze_at is None else " or method.search.freeze_at"
        more = "" if self.config.boundary_end == 1 else " or method.search.boundary_end"
        return (
            f"{self.name}: {self._reached()}. The search is kept and goes on with a larger budget, a larger "
            f"{self.longer}{more}, or method.search.if_missed = 'trim' or 'accept'; with a larger "
            f"method.search.lambda_spa (now {self.config.lambda_spa}), mask_lr{frozen} it begins anew"
        )

    def _reached(self) -> str:
        place = f"the masks' boundary reached 0 at step {self.done} of {self.steps}"
        return f"{place}, and the channels left cost {self.spent()}"
