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
from ganshrink.methods.base import Floor, Job, MethodConfig, Result, RoundTo, Settings
from ganshrink.methods.distill import DistillConfig, distill, tap_paths
from ganshrink.methods.original import Transforms
from ganshrink.pruning import Budget, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.effect import output_effect, over_mean, pivoted
from ganshrink.pruning.scores import evenly, norm_scale
from ganshrink.training.stages import Artefacts, Run, Stage

logger = logging.getLogger(__name__)


class SearchConfig(Settings):
    """Which channels stay."""

    score: Literal["pivoted", "effect", "norm_scale", "none"] = Field(
        default="pivoted",
        description="what decides inside a layer; effect: how far the outputs move without a channel; pivoted: that, less "
        "what those chosen before it can make up for; norm_scale: the scale of its norm; none: the first ones stay",
    )
    widths: Literal["even", "by_score"] = Field(
        default="even",
        description="even: every layer keeps the same share; by_score: one threshold for all layers, on scores over "
        "their layer's mean",
    )
    images: int = Field(default=24, ge=1, description="training images that are looked at")
    floor: Floor = 1
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
    """(num_atoms,) what one threshold is found on."""
    channels = job.channels
    if settings.score == "none":
        return evenly(channels)
    if settings.score == "norm_scale":
        scores = norm_scale(generator, channels)
    else:
        [images] = spread_inputs(job.data, settings.images, batch_size=settings.images)
        scores = output_effect(generator, channels, zip(*(tensor.split(1) for tensor in images), strict=True))
        if settings.score == "pivoted":
            scores = pivoted(generator, channels, images, scores)
    return evenly(channels, by=scores) if settings.widths == "even" else over_mean(scores.sqrt(), channels)
