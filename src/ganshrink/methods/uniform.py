"""Uniform widths: every layer keeps the same share of its channels, or a random one. No method, but what every method has
to beat.

It asks nothing of a teacher's channels, so its student may as well be another network, cut to the budget in the same way.
"""

import logging
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ganshrink.methods.base import Job, MethodConfig, MethodName, Result, RoundTo
from ganshrink.methods.distill import DistillConfig, distill, start_of, tap_paths, train_alone
from ganshrink.pruning import Budget, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly, unevenly
from ganshrink.reports.section import Section, Table, Text
from ganshrink.training.stages import Run
from ganshrink.training.taps import shapes_at, taps_of_sizes

logger = logging.getLogger(__name__)

Pairs = tuple[tuple[str, ...], tuple[str, ...]]
"""Paths in the teacher, and as many in the student, whose features are compared."""


class UniformConfig(MethodConfig, DistillConfig):
    """How the narrow network is trained; what concerns teaching is read only with teaching = "distilled"."""

    student_net: ClassVar[bool] = True

    name: Annotated[Literal["uniform"], MethodName] = "uniform"
    teaching: Literal["distilled", "scratch"] = Field(
        default="distilled", description="distilled: taught as CAT's student is; scratch: on the task alone"
    )
    widths: Literal["even", "random"] = Field(
        default="even",
        description="even: every layer keeps the same share of its channels; random: a share drawn by the student's seed",
    )
    floor: int = Field(default=1, ge=1, description="the least width of a layer")
    round_to: RoundTo = None
    student_taps: tuple[str, ...] | None = Field(
        default=None,
        description="with student.net: a module of the student for each of `taps`, with maps of the same size; none: evenly "
        "spaced ones",
    )


def uniform(run: Run, job: Job, config: UniformConfig) -> Result:
    """Uniform widths, the baseline: the same share of every layer, distilled or from scratch."""
    whole, channels = job.whole, job.whole.channels
    scores = evenly(channels) if config.widths == "even" else unevenly(channels, seed=job.training.seed)

    def narrow(budget: Budget) -> Plan:
        return bisect_threshold(channels, scores, budget, floor=config.floor, round_to=config.round_to)

    plan = job.plan_within(narrow, whole.network, channels)
    logger.info("cut to %s", channels.summary(plan))
    alone = config.teaching == "scratch"
    if alone and start_of(job, "fresh") != "fresh":
        raise ValueError(
            f"teaching = 'scratch' starts fresh: leave out student.start = {start_of(job, 'fresh')!r}"
        )
    paths, own = ((), ()) if alone else tap_pairs(config, job)

    teacher = job.teacher()
    original = whole.network if job.student_net else teacher["G"]
    student = extract(original, channels, plan)  # its shapes are all that is left of it after training
    method = config.for_stage("narrow")
    del method["student_taps"]  # `own` says them
    stamp = {"plan": plan.to_json(channels)["layers"], "method": method}
    if job.student_net:
        stamp["net"] = {**whole.describe(), "options": dict(whole.net or {}), "taps": own}
    if alone:
        student = train_alone(run, "narrow", student, job, made_from=stamp)
    else:
        taps: Any = {"paths": paths, "of_student": own}
        student = distill(run, "narrow", student, teacher, job, config, made_from=stamp, **taps)
    sections = {"G": [_told(job, paths, own, alone)]} if job.student_net else {}
    return Result.of_one(student, plan, channels, original, sections=sections)


def tap_pairs(config: UniformConfig, job: Job) -> Pairs:
    """Where features of teacher and student are compared. In a network of its own these are places with maps of the same
    size; taps of the teacher for which it has none are left out, unless a setting names them.

    Raises:
        ValueError: as `tap_paths`, or for `student_taps` that do not go with the taps.
    """
    if job.student_net is None:
        if config.student_taps is not None:
            raise ValueError(
                "student_taps are for a student with another network: set student.net, or remove them"
            )
        paths = tap_paths(config, job)
        return paths, paths
    if not config.lambda_dist:
        return (), ()
    network, paths = job.student_net.network, tap_paths(config, job)
    sizes = [shape[2:] for shape in shapes_at(job.original.network, paths, job.example).values()]
    if config.student_taps is None:
        found = taps_of_sizes(network, job.example, sizes)
        pairs = [(path, own) for path, own in zip(paths, found, strict=True) if own is not None]
        if left := [path for path, own in zip(paths, found, strict=True) if own is None]:
            logger.warning("the student has no maps of the size of the teacher's at %s", ", ".join(left))
        return tuple(path for path, _ in pairs), tuple(own for _, own in pairs)
    own_sizes = [shape[2:] for shape in shapes_at(network, config.student_taps, job.example).values()]
    if own_sizes != sizes:
        raise ValueError(
            f"student_taps have maps of {_listed(own_sizes)}, taps of {_listed(sizes)}: name for each tap of the teacher "
            "one of the student of the same size, or leave student_taps out"
        )
    return paths, config.student_taps


def _listed(sizes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, size)) for size in sizes)


def _told(job: Job, paths: tuple[str, ...], own: tuple[str, ...], alone: bool) -> Section:
    assert job.student_net is not None
    about = (
        f"The student is {job.student_net.name}, with fresh weights, not cut out of the teacher, {job.original.name}: its "
        "widths below are shares of its own. Budgets in percent are of the teacher's cost. "
    )
    if alone:
        return Section("A network of its own", [Text(about + "It was trained without the teacher.")])
    if not paths:
        return Section(
            "A network of its own", [Text(about + "The teacher's images alone taught it, no features.")]
        )
    rows = list(zip(paths, own, strict=True))
    about += "Its features were drawn to the teacher's where both have maps of one size."
    return Section("A network of its own", [Text(about), Table(["Teacher", "Student"], rows)])
