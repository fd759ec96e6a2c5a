"""Rebuild: a method of our own, without a search that trains.

Several rankings of channels each propose a cut of the trained generator. Every cut network is refitted, layer by layer, by
least squares, to what the uncut one computes on some training images; the one whose pictures of other training images are
nearest to the teacher's is kept. It is not begun anew: it goes on from there, with its features drawn to the teacher's.

What is not ours: second-order saliency (LeCun et al. 1989, Optimal Brain Damage), layers refitted after a cut (He et al.
2017, Channel Pruning), distillation by kernel alignment and its inherited discriminator (Jin et al. 2021).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganshrink.data.passes import spread_inputs
from ganshrink.methods.base import Job, MethodConfig, MethodName, Result, WidthSettings
from ganshrink.methods.distill import DistillConfig, distill, tap_paths
from ganshrink.methods.original import Transforms
from ganshrink.pruning import Channels, Plan, extract, reconstruct
from ganshrink.pruning.check import evaluating
from ganshrink.pruning.effect import output_effect, pivoted
from ganshrink.pruning.scores import evenly, norm_scale
from ganshrink.reports.section import Section, Table, Text
from ganshrink.system.generator import generate
from ganshrink.training.stages import Artefacts, Run, Stage

logger = logging.getLogger(__name__)

Score = Literal["norm_scale", "effect", "pivoted"]
Widths = Literal["even", "by_score"]


class SearchConfig(WidthSettings):
    """Which channels stay: cuts are proposed by each of `scores` with each of `widths`."""

    scores: tuple[Score, ...] = Field(
        default=("norm_scale", "effect", "pivoted"),
        min_length=1,
        description="what channels are ranked by; norm_scale: the scale of their norm; effect: how far the outputs move "
        "without them; pivoted: that, less what those chosen before in the same layer can make up for",
    )
    widths: tuple[Widths, ...] = Field(
        default=("even", "by_score"),
        min_length=1,
        description="even: every layer keeps the same share; by_score: one threshold for all layers",
    )
    images: int = Field(
        default=24,
        ge=1,
        description="training images that cuts are refitted to, and as many to compare them on",
    )


class RebuildConfig(MethodConfig):
    """The settings; how the student's training begins is `student.start`, here by default "reconstruct"."""

    name: Annotated[Literal["rebuild"], MethodName] = "rebuild"
    search: SearchConfig = SearchConfig()
    distill: DistillConfig = DistillConfig()

    def transforms(self) -> Transforms:
        """A factor on a channel acts through its norm's scale: norms without one are given scales of 1."""
        return {"affine": True}


def rebuild(run: Run, job: Job, config: RebuildConfig) -> Result:
    """Rebuild: of several cuts the one that least squares repair best, then distillation."""
    channels, settings = job.channels, config.search
    paths = tap_paths(config.distill, job)

    # What cannot work fails here, before anything is trained.
    cut = partial(settings.plan, channels)
    job.check_reachable(partial(cut, torch.zeros(channels.num_atoms)))

    teacher = job.teacher()
    generator = job.original.transform(teacher["G"])

    def search(stage: Stage) -> Artefacts:
        seen, unseen = images_of(job, settings.images)
        plans: list[Plan] = []
        tried: list[dict[str, Any]] = []
        for name, scores in proposals(generator, channels, seen, settings):
            plan = job.plan_within(partial(cut, scores), generator, channels)
            student = extract(generator, channels, plan)
            before = distance(student, generator, unseen)
            reconstruct(student, generator, seen)
            plans.append(plan)
            tried.append({"name": name, "cut": before, "refitted": distance(student, generator, unseen)})
            logger.info("%s: %.3g from the teacher's pictures, refitted %.3g", *tried[-1].values())
        best = min(range(len(tried)), key=lambda number: tried[number]["refitted"])
        basis = {group.name: tried[best]["name"] for group in channels.free}
        return {"plan": plans[best].to_json(channels, basis=basis), "tried": tried, "basis": basis}

    decided = {"method": config.for_stage("search"), "data": job.data.fingerprint()}
    found = run.stage("search", search, made_from={"budget": job.limits(), **decided})
    plan = Plan.from_json(channels, found["plan"])
    logger.info("cut to %s", channels.summary(plan))

    student = extract(generator, channels, plan)
    whole, stamp = {**teacher, "G": generator}, {"method": config.for_stage("distill")}
    options: Any = {"paths": paths, "made_from": stamp, "start": "reconstruct"}
    student = distill(run, "distill", student, whole, job, config.distill, **options)
    sections = {"G": [_told(found["tried"])]}
    return Result.of_one(student, plan, channels, generator, basis=found["basis"], sections=sections)


def images_of(job: Job, count: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs of training images to refit to, and of others; the same ones where there are too few."""
    [both] = spread_inputs(job.data, 2 * count, batch_size=2 * count)
    if len(both[0]) < 2:
        return both, both
    return tuple(tensor[::2] for tensor in both), tuple(tensor[1::2] for tensor in both)


def proposals(
    generator: nn.Module, channels: Channels, seen: tuple[Tensor, ...], settings: SearchConfig
) -> Iterator[tuple[str, Tensor]]:
    """Scores (num_atoms,) that one threshold is to be found on, and what they are called."""
    one_by_one = list(zip(*(tensor.split(1) for tensor in seen), strict=True))
    effect = (
        output_effect(generator, channels, one_by_one) if {"effect", "pivoted"} & {*settings.scores} else None
    )
    for name in settings.scores:
        if effect is None or name == "norm_scale":
            scores = norm_scale(generator, channels)
        else:
            scores = effect if name == "effect" else pivoted(generator, channels, seen, effect)
        for widths in settings.widths:
            yield f"{name}, {widths}", evenly(channels, by=scores) if widths == "even" else scores


@torch.no_grad()
def distance(student: nn.Module, teacher: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The root mean square of how far a student's images are from its teacher's, over that of the teacher's."""
    with evaluating(student), evaluating(teacher):
        ours, theirs = generate(student, inputs), generate(teacher, inputs)
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))


def _told(tried: Sequence[Mapping[str, Any]]) -> Section:
    rows = [[one["name"], f"{one['cut']:.3g}", f"{one['refitted']:.3g}"] for one in tried]
    about = (
        "How far the pictures of each cut are from the teacher's, on training images that nothing was fitted to, before "
        "any training: the root mean square over that of the teacher's. The least was kept."
    )
    return Section(
        "Cuts that were tried", [Text(about, note=True), Table(["Ranking", "Cut", "Refitted"], rows)]
    )
