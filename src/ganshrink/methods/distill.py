"""How a student is trained: taught by its teacher (CAT, section 3.3), or alone, as what teaching has to beat."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ganshrink.data.passes import spread_inputs
from ganshrink.losses import kernel_alignment
from ganshrink.losses.gka import Alignment
from ganshrink.methods.base import Job, Settings
from ganshrink.nets.branches import branched, merged
from ganshrink.pruning import Channels, initialise, reconstruct
from ganshrink.pruning.fresh import trainable
from ganshrink.system.copies import copied
from ganshrink.system.distributed import sum_over_processes
from ganshrink.training import Taps, default_taps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.train import Nets, Start, train_stage

logger = logging.getLogger(__name__)


class DistillConfig(Settings):
    """How a teacher's features draw the student's; defaults are those of CAT."""

    lambda_dist: float = Field(default=1.0, ge=0, description="weight of the distillation loss (CAT, Eq. 5)")
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


def tap_paths(config: DistillConfig, job: Job) -> tuple[str, ...]:
    """Where features are compared.

    Raises:
        ValueError: if there is no such place, or the loss would be constant there.
    """
    network = job.original.network
    paths = config.taps or default_taps(network, job.example, widest(job.channels))
    Taps(network, paths).close()
    if config.alignment == "batch" and job.training.batch_size == 1:
        raise ValueError("alignment = 'batch' is constantly 1 at batch size 1: raise student.batch_size")
    return paths


def widest(channels: Channels) -> int:
    """The width in channels of the widest layer that may be cut: a residual generator's trunk.

    Raises:
        ValueError: if nothing may be cut.
    """
    channels.check_free()
    axes = [
        channels.axes[made.parameter][made.axis] for group in channels.free for made in group.producers[:1]
    ]
    return max((len(axis) for axis in axes if axis is not None), default=0)


def start_of(job: Job, own: Start) -> Start:
    """What a student's training begins with: what `student.start` says, or else the method's own."""
    return job.training.start or own


def begun(student: nn.Module, start: Start) -> nn.Module:
    """The student with fresh weights, and branches where its convolutions are trained so; or as it was cut. In place."""
    return initialise(branched(student)) if start == "fresh" else trainable(student)


def refit(student: nn.Module, whole: nn.Module, job: Job, start: Start) -> Artefacts:
    """Reconstruct the student, in place, where it is to start so; what a stage keeps of that.

    Args:
        student: what `extract` made of `whole`.
    """
    if start != "reconstruct":
        return {}
    count = job.training.start_images
    report = reconstruct(student, whole, next(spread_inputs(job.data, count, batch_size=count)))
    fitted = sum(layer.left is None for layer in report.layers)
    logger.info(
        "reconstructed %d of %d layers: the images are %.3g of their size from those before the cut, where they were %.3g",
        fitted,
        len(report.layers),
        report.after,
        report.before,
    )
    return {"reconstruction": report.to_json()}


def refit_each(students: Nets, whole: Nets, job: Job, start: Start) -> Artefacts:
    """`refit` of each generator of a job; what a stage keeps of that, by its name."""
    jobs = job.by_generator()
    return {
        f"{key}_{name}": value
        for name, network in whole.items()
        for key, value in refit(students[name], network, jobs[name], start).items()
    }


def distill(
    run: Run,
    name: str,
    student: nn.Module,
    teacher: Nets,
    job: Job,
    config: DistillConfig,
    *,
    paths: tuple[str, ...],
    made_from: Mapping[str, Any],
    start: Start = "fresh",
    of_student: tuple[str, ...] | None = None,
) -> nn.Module:
    """The student, trained as a stage of the run: the task's losses, plus `lambda_dist` times the distillation loss (Eq. 3
    and 5) that draws its features at `paths` to the teacher's.

    Args:
        start: what it begins with where `student.start` says nothing.
        of_student: where the student's features are, one place for each of `paths`; none: at the same paths. Where there
            are none at all, its images alone teach.
    """
    own_paths = paths if of_student is None else of_student
    task, start = job.task.as_student_task(teacher["G"]), start_of(job, start)
    if start == "reconstruct":
        made_from = {**made_from, "start_images": job.training.start_images}

    def make() -> Nets:
        nets = job.nets(begun(student, start), task)
        if config.inherit_discriminator and "D" in nets and "D" in teacher:
            nets["D"] = copied(teacher["D"])
        return nets

    def alignment(context: Any) -> dict[str, Tensor]:
        taught, learnt = context.features("teacher"), context.features("G")
        indices = [
            kernel_alignment(taught[path], learnt[own], mode=config.alignment, total=sum_over_processes)
            for path, own in zip(paths, own_paths, strict=True)
        ]
        return {"G_dist": -config.lambda_dist * torch.stack(indices).sum()}

    def learn(stage: Stage, nets: Nets) -> Artefacts:
        kept = refit(student, teacher["G"], job, start)
        if config.inherit_discriminator and "D" in nets and "D" not in teacher:
            logger.warning("the teacher came without its discriminator: the student's starts fresh")
        # where nobody asks for the teacher's features its images can be kept
        if not (config.lambda_dist and paths):
            job.fit(stage, nets, task)
            return kept
        logger.info("distilling, with features compared at %s", ", ".join(paths))
        with Taps(teacher["G"], paths) as of_teacher, Taps(student, own_paths) as learns:
            taps = {"teacher": of_teacher, "G": learns}
            job.fit(stage, nets, task, terms=[alignment], taps=taps)
        return kept

    return merged(train_stage(run, name, make, learn, made_from={**made_from, **job.describe()})[0]["G"])


def train_alone(
    run: Run, name: str, student: nn.Module, job: Job, *, made_from: Mapping[str, Any]
) -> nn.Module:
    """The student, trained from fresh weights on the task's own losses, for as long, as a stage of the run.

    A task without targets of its own (image2image) is taught by the teacher's images even so, but by nothing else.
    """
    alone = job.training.model_copy(update={"start": None})  # which is not that of this one
    job = replace(job, training=alone)
    task = job.task.as_student_task(job.teacher()["G"]) if job.task.needs_teacher else job.task

    def make() -> Nets:
        return job.nets(begun(student, "fresh"), task)

    def learn(stage: Stage, nets: Nets) -> None:
        logger.info("training the student's architecture from scratch")
        job.fit(stage, nets, task)

    after = ("teacher",) if job.task.needs_teacher else ()
    nets, _ = train_stage(run, name, make, learn, made_from={**made_from, **job.describe()}, after=after)
    return merged(task.one_way(nets, "AtoB")["G"])
