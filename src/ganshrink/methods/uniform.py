"""Uniform widths: every layer keeps the same share of its channels. No method, but what every method has to beat."""

import logging
from typing import Any, Literal

from pydantic import Field

from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import TeachingConfig, distill, tap_paths, train_alone
from ganshrink.pruning import extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly
from ganshrink.training.stages import Artefacts, Run, Stage

logger = logging.getLogger(__name__)


class UniformConfig(TeachingConfig):
    """How the narrow network is trained; what concerns teaching is read only with teaching = "distilled"."""

    name: Literal["uniform"] = Field(
        default="uniform", description="the method, as `ganshrink methods` lists them"
    )
    teaching: Literal["distilled", "scratch"] = Field(
        default="distilled", description="distilled: taught as CAT's student is; scratch: on the task alone"
    )
    floor: int = Field(default=1, ge=1, description="the least width of a layer")
    round_to: int | None = Field(
        default=None,
        ge=1,
        description="widths are multiples of this; none: 1, or for a budget in milliseconds what the "
        "device likes",
    )


def uniform(run: Run, job: Job, config: UniformConfig) -> Result:
    """Uniform widths, the baseline: the same share of every layer, distilled or from scratch."""
    original = job.build()
    channels = trace(original, *job.example)
    even = evenly(channels)
    limits: Any = {"floor": config.floor, "round_to": config.round_to}
    plan = job.plan_within(
        lambda budget: bisect_threshold(channels, even, budget, **limits), original, channels
    )
    cost = channels.cost(plan)
    logger.info("cut to %.4g G MACs (exact) and %.4g M parameters", cost.macs / 1e9, cost.params / 1e6)
    made_from = {
        "plan": plan.to_json(channels)["layers"],
        "method": config.model_dump(mode="json"),
        **job.describe(),
    }
    alone = config.teaching == "scratch"
    paths = () if alone else tap_paths(config, original, channels, job)
    teacher = job.teacher()
    student = extract(
        teacher["G"], channels, plan
    )  # its own shapes are all that is left of it after training

    def learn(stage: Stage) -> Artefacts:
        if alone:
            logger.info("training the narrow network from scratch")
            return train_alone(stage, job, student)
        return distill(stage, job, config, teacher, student, paths)

    before = () if alone and not job.task.needs_teacher else None
    weights = run.stage("narrow", learn, made_from=made_from, after=before)
    student.load_state_dict(weights["G"])
    return Result(
        students={"G": student}, plans={"G": plan}, channels={"G": channels}, originals={"G": teacher["G"]}
    )
