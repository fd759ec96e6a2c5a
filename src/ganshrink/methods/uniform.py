"""Uniform widths: every layer keeps the same share of its channels, or a random one. No method, but what every method has
to beat."""

import logging
from typing import Literal

from pydantic import Field

from ganshrink.methods.base import Job, MethodConfig, Result, RoundTo
from ganshrink.methods.distill import DistillConfig, distill, start_of, tap_paths, train_alone
from ganshrink.pruning import Budget, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly, unevenly
from ganshrink.training.stages import Run

logger = logging.getLogger(__name__)


class UniformConfig(MethodConfig, DistillConfig):
    """How the narrow network is trained; what concerns teaching is read only with teaching = "distilled"."""

    name: Literal["uniform"] = Field(
        default="uniform", description="the method, as `ganshrink methods` lists them"
    )
    teaching: Literal["distilled", "scratch"] = Field(
        default="distilled", description="distilled: taught as CAT's student is; scratch: on the task alone"
    )
    widths: Literal["even", "random"] = Field(
        default="even",
        description="even: every layer keeps the same share of its channels; random: a share drawn by the student's seed",
    )
    floor: int = Field(default=1, ge=1, description="the least width of a layer")
    round_to: RoundTo = None


def uniform(run: Run, job: Job, config: UniformConfig) -> Result:
    """Uniform widths, the baseline: the same share of every layer, distilled or from scratch."""
    channels = job.channels
    scores = evenly(channels) if config.widths == "even" else unevenly(channels, seed=job.training.seed)

    def narrow(budget: Budget) -> Plan:
        return bisect_threshold(channels, scores, budget, floor=config.floor, round_to=config.round_to)

    plan = job.plan_within(narrow, job.original.network, channels)
    cost = channels.cost(plan)
    logger.info("cut to %.4g G MACs (exact) and %.4g M parameters", cost.macs / 1e9, cost.params / 1e6)
    alone = config.teaching == "scratch"
    if alone and start_of(job, "fresh") != "fresh":
        raise ValueError(
            f"teaching = 'scratch' starts fresh: leave out student.start = {start_of(job, 'fresh')!r}"
        )
    paths = () if alone else tap_paths(config, job)

    teacher = job.teacher()
    student = extract(teacher["G"], channels, plan)  # its shapes are all that is left of it after training
    stamp = {"plan": plan.to_json(channels)["layers"], "method": config.for_stage("narrow")}
    if alone:
        student = train_alone(run, "narrow", student, job, made_from=stamp)
    else:
        student = distill(run, "narrow", student, teacher, job, config, paths=paths, made_from=stamp)
    return Result(
        students={"G": student}, plans={"G": plan}, channels={"G": channels}, originals={"G": teacher["G"]}
    )
