"""CAT, Compression And Teaching: Jin et al. 2021, "Teachers Do More Than Teach: Compressing Image-to-Image Models".

A trained teacher is pruned once, by the scales of its norms, to a budget (section 3.2). The small network is trained from
fresh weights on the teacher's task, while its features are drawn towards the teacher's (section 3.3).
"""

import logging
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import TeachingConfig, distill, tap_paths
from ganshrink.pruning import Budget, Plan, add_affine, extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import norm_scale, norm_scale_basis
from ganshrink.training.stages import Artefacts, Run, Stage

logger = logging.getLogger(__name__)


class CatConfig(TeachingConfig):
    """CAT's settings; defaults are the paper's, or its scripts' where the paper gives none."""

    name: Literal["cat"] = Field(default="cat", description="the method, as `ganshrink methods` lists them")
    floor: int = Field(
        default=16, ge=1, description="c_lb: the least width of a layer outside the branches (Algorithm 1)"
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="widths are multiples of this (the paper does not round); none: 1, or for a budget in milliseconds "
        "what the device likes",
    )


def cat(run: Run, job: Job, config: CatConfig) -> Result:
    """CAT: one-step pruning of the teacher by its norm scales, then distillation by kernel alignment."""
    # Any generator can be the teacher: one without norm scales is given scales of 1.
    original = add_affine(job.build())
    channels = trace(original, *job.example)
    paths = tap_paths(config, original, channels, job)

    def prune(scores: Tensor, budget: Budget) -> Plan:
        return bisect_threshold(channels, scores, budget, floor=config.floor, round_to=config.round_to)

    # What cannot work fails here, before anything is trained.
    job.check_reachable(lambda budget: prune(torch.zeros(channels.num_atoms), budget))

    teacher = job.teacher()
    generator = add_affine(teacher["G"])
    basis = norm_scale_basis(generator, channels)

    def search(stage: Stage) -> Artefacts:
        # Section 3.2, Algorithm 1: one threshold on |gamma| over all layers, found by bisection on the cost.
        scores = norm_scale(generator, channels)
        plan = job.plan_within(lambda budget: prune(scores, budget), generator, channels)
        return {"plan": plan.to_json(channels, basis=basis)}

    limits = {"budget": job.limits(), "floor": config.floor, "round_to": config.round_to}
    searched = run.stage("search", search, made_from={"macs": channels.cost().macs, **limits})
    plan = Plan.from_json(channels, searched["plan"])
    cost = channels.cost(plan)
    logger.info("pruned to %.4g G MACs (exact) and %.4g M parameters", cost.macs / 1e9, cost.params / 1e6)

    # Section 3.3
    student = extract(generator, channels, plan)
    weights = run.stage(
        "distill",
        lambda stage: distill(stage, job, config, teacher, student, paths),
        made_from={"method": config.model_dump(mode="json"), **job.describe()},
    )
    student.load_state_dict(weights["G"])
    return Result(
        students={"G": student},
        plans={"G": plan},
        channels={"G": channels},
        originals={"G": generator},
        affine=True,
        basis=basis,
    )
