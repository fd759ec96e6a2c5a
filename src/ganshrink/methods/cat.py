"""CAT, Compression And Teaching: Jin et al. 2021, "Teachers Do More Than Teach: Compressing Image-to-Image Models".

A trained teacher is pruned once, by the scales of its norms, to a budget (section 3.2). The small network is trained from
fresh weights on the teacher's task, while its features are drawn towards the teacher's (section 3.3).
"""

import copy
import logging
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganshrink.channels import Channels, Plan, add_affine, extract, initialise, trace
from ganshrink.channels.allocate import bisect_threshold
from ganshrink.channels.scores import norm_scale, norm_scale_basis
from ganshrink.engine import Taps, default_taps
from ganshrink.job import Job, Nets, Result, fit_nets
from ganshrink.losses import kernel_alignment
from ganshrink.losses.gka import Alignment
from ganshrink.run import Artefacts, Run, Stage

logger = logging.getLogger(__name__)


class CatConfig(BaseModel):
    """CAT's settings; defaults are the paper's, or its scripts' where the paper gives none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["cat"] = "cat"
    floor: int = Field(
        default=16, ge=1, description="c_lb: the least width of a layer outside the branches (Algorithm 1)"
    )
    round_to: int = Field(
        default=1, ge=1, description="widths are multiples of this; the paper does not round"
    )
    lambda_dist: float = Field(default=1.0, ge=0, description="weight of the distillation loss (Eq. 5)")
    alignment: Alignment = Field(
        default="global",
        description="global: the paper's GKA (Eq. 2); batch: what its released code computes, constant at batch size 1",
    )
    taps: tuple[str, ...] | None = Field(
        default=None,
        description="modules whose outputs are compared; none: four, evenly spaced along the widest group",
    )
    inherit_discriminator: bool = Field(
        default=True, description="go on with the teacher's discriminator (section 4.1)"
    )


def cat(run: Run, job: Job, config: CatConfig) -> Result:
    """CAT: one-step pruning of the teacher by its norm scales, then distillation by kernel alignment."""
    # Any generator can be the teacher: one without norm scales is given scales of 1.
    original = add_affine(job.build())
    channels = trace(original, *job.example)
    basis = norm_scale_basis(channels)
    paths = config.taps or default_taps(original, job.example, widest(channels))

    def prune(scores: Tensor) -> Plan:
        return bisect_threshold(channels, scores, job.budget, floor=config.floor, round_to=config.round_to)

    # What cannot work fails here, before anything is trained.
    Taps(original, paths).close()
    if config.alignment == "batch" and job.training.batch_size == 1:
        raise ValueError(
            "method.alignment = 'batch' is constantly 1 at batch size 1: raise student.batch_size"
        )
    prune(torch.zeros(channels.num_atoms))

    teacher = job.teacher()
    generator = add_affine(teacher["G"])

    def search(stage: Stage) -> Artefacts:
        # Section 3.2, Algorithm 1: one threshold on |gamma| over all layers, found by bisection on the cost.
        return {"plan": prune(norm_scale(generator, channels)).to_json(channels, basis=basis)}

    limits = {"budget": str(job.budget), "floor": config.floor, "round_to": config.round_to}
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


def widest(channels: Channels) -> int:
    """The width in channels of the widest layer that may be cut: a residual generator's trunk.

    Raises:
        ValueError: if nothing may be cut.
    """
    free = [group for group in channels.groups if group.frozen is None]
    if not free:
        reasons = "; ".join(sorted({str(group.frozen) for group in channels.groups}))
        raise ValueError(f"no channel of this generator may be cut: {reasons}")
    axes = [channels.axes[made.parameter][made.axis] for group in free for made in group.producers[:1]]
    return max((len(axis) for axis in axes if axis is not None), default=0)


def distill(
    stage: Stage, job: Job, config: CatConfig, teacher: Nets, student: nn.Module, paths: tuple[str, ...]
) -> Artefacts:
    """Eq. 5: the task's losses plus `lambda_dist` times the distillation loss (Eq. 3)."""
    initialise(student)  # "we train it from scratch"
    nets = job.task.nets(student, job.data.in_channels, job.data.out_channels)
    if config.inherit_discriminator and "D" in nets:
        if "D" in teacher:
            nets["D"] = copy.deepcopy(teacher["D"])
        else:
            logger.warning("the teacher came without its discriminator: the student's starts fresh")
    task = job.task.distilling(teacher["G"], target="truth", real="photos")

    def alignment(context: Any) -> dict[str, Tensor]:
        taught, learnt = context.features("teacher"), context.features("G")
        indices = [kernel_alignment(taught[path], learnt[path], mode=config.alignment) for path in paths]
        return {"G_dist": -config.lambda_dist * torch.stack(indices).sum()}

    logger.info("distilling, with features compared at %s", ", ".join(paths))
    terms = [alignment] if config.lambda_dist else []
    with Taps(teacher["G"], paths) as of_teacher, Taps(student, paths) as of_student:
        taps = {"teacher": of_teacher, "G": of_student}
        fit_nets(stage, nets, task, job.data, job.training, terms=terms, taps=taps, progress=job.progress)
    return {name: network.state_dict() for name, network in nets.items()}
