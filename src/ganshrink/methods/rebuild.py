"""Rebuild: a method of our own, without a search that trains.

Channels are ranked by what the outputs of the trained generator lose without them, on a few training images. What is left
after the cut is not begun anew: each layer is refitted, by least squares, to what it put out before the cut. Then it is
taught, with its features drawn to the teacher's.

What is not ours: second-order saliency (LeCun et al. 1990, Optimal Brain Damage), layers refitted after a cut (He et al.
2017, Channel Pruning), distillation by kernel alignment (Jin et al. 2021).
"""

import logging
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ganshrink.data.passes import spread_inputs
from ganshrink.methods.base import Job, MethodConfig, Result, RoundTo, Settings
from ganshrink.methods.distill import DistillConfig, distill, tap_paths
from ganshrink.methods.original import Transforms
from ganshrink.pruning import Budget, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly, norm_scale
from ganshrink.pruning.search.effect import balanced, output_effect, pivoted
from ganshrink.training.stages import Artefacts, Run, Stage

logger = logging.getLogger(__name__)


class SearchConfig(Settings):
    """Which channels stay."""

    score: Literal["effect", "pivoted", "norm_scale", "even"] = Field(
        default="effect",
        description="effect: how far the outputs move without a channel; pivoted: that, less what the channels chosen "
        "before it can give in its stead; norm_scale: the scale of its norm, without looking at images; even: every "
        "layer keeps the same share",
    )
    balance: bool = Field(
        default=False, description="scores over their layers' means, so that every layer is cut about alike"
    )
    images: int = Field(default=24, ge=1, description="training images that are looked at")
    floor: int = Field(default=4, ge=1, description="the least width of a layer outside the branches")
    round_to: RoundTo = None


class RebuildConfig(MethodConfig):
    """The settings; how the student's training begins is `student.start`, here by default "reconstruct"."""

    name: Literal["rebuild"] = Field(
        default="rebuild", description="the method, as `ganshrink methods` lists them"
    )
    search: SearchConfig = SearchConfig()
    distill: DistillConfig = DistillConfig()

    def transforms(self) -> Transforms:
        """A factor on a channel acts through its norm's scale: norms without one are given scales of 1."""
        return {"affine": True}


def rebuild(run: Run, job: Job, config: RebuildConfig) -> Result:
    """Rebuild: cut by what the outputs lose, refit every layer by least squares, then distil."""
    channels, settings = job.channels, config.search
    paths = tap_paths(config.distill, job)

    def cut(scores: Tensor, budget: Budget) -> Plan:
        return bisect_threshold(channels, scores, budget, floor=settings.floor, round_to=settings.round_to)

    # What cannot work fails here, before anything is trained.
    job.check_reachable(lambda budget: cut(torch.zeros(channels.num_atoms), budget))

    teacher = job.teacher()
    generator = job.original.transform(teacher["G"])

    def search(stage: Stage) -> Artefacts:
        scores = _scores(generator, job, settings)
        plan = job.plan_within(lambda budget: cut(scores, budget), generator, channels)
        return {"plan": plan.to_json(channels, basis=basis)}

    basis = {group.name: settings.score for group in channels.groups if group.frozen is None}
    stamp = {"budget": job.limits(), "method": config.for_stage("search"), "data": job.describe()["data"]}
    plan = Plan.from_json(channels, run.stage("search", search, made_from=stamp)["plan"])
    cost = channels.cost(plan)
    logger.info("cut to %.4g G MACs (exact) and %.4g M parameters", cost.macs / 1e9, cost.params / 1e6)

    student = extract(generator, channels, plan)
    stamp = {"method": config.for_stage("distill")}
    whole = {**teacher, "G": generator}
    student = distill(
        run, "distill", student, whole, job, config.distill, paths=paths, made_from=stamp, start="reconstruct"
    )
    return Result(
        students={"G": student},
        plans={"G": plan},
        channels={"G": channels},
        originals={"G": generator},
        basis=basis,
    )


def _scores(generator: torch.nn.Module, job: Job, settings: SearchConfig) -> Tensor:
    """(num_atoms,) what channels are ranked by."""
    if settings.score == "even":
        return evenly(job.channels)
    if settings.score == "norm_scale":
        scores = norm_scale(generator, job.channels)
    else:
        images = list(spread_inputs(job.data, settings.images, batch_size=1))
        scores = output_effect(generator, job.channels, images)
        if settings.score == "pivoted":
            scores = pivoted(generator, job.channels, images, scores)
    return balanced(scores, job.channels) if settings.balance else scores
