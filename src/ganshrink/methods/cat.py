"""CAT, Compression And Teaching: Jin et al. 2021, "Teachers Do More Than Teach: Compressing Image-to-Image Models".

A trained teacher is pruned once, by the scales of its norms, to a budget (section 3.2). The small network is trained from
fresh weights on the teacher's task, while its features are drawn towards the teacher's (section 3.3).
"""

import logging
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field

from ganshrink.methods.base import Job, MethodConfig, MethodName, Result, WidthSettings
from ganshrink.methods.distill import DistillConfig, distill, tap_paths
from ganshrink.methods.original import Transforms
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.scores import norm_scale, norm_scale_basis
from ganshrink.training.stages import Artefacts, Run, Stage

logger = logging.getLogger(__name__)


class SearchConfig(WidthSettings):
    """One-step pruning (section 3.2)."""

    floor: int = Field(
        default=16, ge=1, description="c_lb: the least width of a layer outside the branches (Algorithm 1)"
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="widths are multiples of this (the paper does not round); none: 1, or for a budget in milliseconds "
        "what the device likes",
    )


class CatConfig(MethodConfig):
    """CAT's settings; defaults are the paper's, or its scripts' where the paper gives none."""

    name: Annotated[Literal["cat"], MethodName] = "cat"
    search: SearchConfig = SearchConfig()
    distill: DistillConfig = DistillConfig()

    def transforms(self) -> Transforms:
        """Any generator can be the teacher: one without norm scales is given scales of 1."""
        return {"affine": True}


def cat(run: Run, job: Job, config: CatConfig) -> Result:
    """CAT: one-step pruning of the teacher by its norm scales, then distillation by kernel alignment."""
    channels = job.channels
    paths = tap_paths(config.distill, job)

    # What cannot work fails here, before anything is trained.
    prune = partial(config.search.plan, channels)
    job.check_reachable(partial(prune, torch.zeros(channels.num_atoms)))

    teacher = job.teacher()
    generator = job.original.transform(teacher["G"])
    basis = norm_scale_basis(generator, channels)

    def search(stage: Stage) -> Artefacts:
        # Section 3.2, Algorithm 1: one threshold on |gamma| over all layers, found by bisection on the cost.
        scores = norm_scale(generator, channels)
        plan = job.plan_within(partial(prune, scores), generator, channels)
        return {"plan": plan.to_json(channels, basis=basis)}

    stamp = {"macs": channels.cost().macs, "budget": job.limits(), "method": config.for_stage("search")}
    plan = Plan.from_json(channels, run.stage("search", search, made_from=stamp)["plan"])
    logger.info("pruned to %s", channels.summary(plan))

    # Section 3.3
    student = extract(generator, channels, plan)
    stamp = {"method": config.for_stage("distill")}
    student = distill(run, "distill", student, teacher, job, config.distill, paths=paths, made_from=stamp)
    return Result.of_one(student, plan, channels, generator, basis=basis)
