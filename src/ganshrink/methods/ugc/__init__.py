"""UGC: Ren et al. 2023, "UGC: Unified GAN Compression for Efficient Image-to-Image Translation".

Stage 1 trains all subnets of a supernet at once: the largest on labelled pairs, others on its images of unlabelled inputs
(section 3.1). Evolution then finds the student, and two teachers, a wider and a deeper one. Stage 2 goes on training the
teachers on labelled pairs while the student learns from both online, without a discriminator (section 3.2). No code was
published; constants that the paper leaves open are in `config.py`.
"""

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.ugc.config import FINETUNING, SEARCHING, LossConfig, SpaceConfig, UgcConfig
from ganshrink.methods.ugc.connectors import Connectors, connect
from ganshrink.methods.ugc.distillation import TEACHERS, OnlineDistillation, two_headed
from ganshrink.methods.ugc.fitness import check_enough, chosen, hashes_of, inputs_of, label_size
from ganshrink.methods.ugc.images import TrainingImages, divided
from ganshrink.methods.ugc.sandwich import Sandwich
from ganshrink.methods.ugc.search import Search, within
from ganshrink.methods.ugc.section import search_section
from ganshrink.methods.ugc.teaching import DistillationLoss
from ganshrink.nets.extra_blocks import begin_as_identity, extra_sites
from ganshrink.pruning import Budget, Channels, Plan, extract, initialise
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.scores import evenly
from ganshrink.pruning.search.space import Space, space_of
from ganshrink.pruning.search.supernet import Supernet
from ganshrink.training import Taps
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.tasks import Task
from ganshrink.training.train import Nets, describe, fit_nets, states

logger = logging.getLogger(__name__)


def ugc(run: Run, job: Job, config: UgcConfig) -> Result:
    """UGC: a supernet and an evolutionary search, then online distillation from two teachers, with few labels."""
    network, channels = _grown(job), job.channels
    space = searched_space(network, channels, config)

    # What cannot work fails here, before anything is trained.
    images = divided(job, config)
    method = Ugc(
        run,
        job,
        config,
        network,
        channels,
        space,
        images,
        DistillationLoss(config, accumulate=job.training.accumulate),
    )
    job.check_reachable(method.reachable)
    if config.lambda_cd and config.taps:
        Taps(network, config.taps).close()

    job.teacher()  # to compare with; a task without pairs learns from it
    found: dict[str, Any] | None = None
    if config.search:
        trained = method.train_supernet()
        plans, found = method.search(trained)
        student = method.finetune(plans, lambda: trained)
    else:
        plans = method.fixed()
        student = method.finetune(plans, method.fresh_nets)
    return Result(
        students={"G": student},
        plans={"G": plans["student"]},
        channels={"G": channels},
        originals={"G": network},
        files={"G": {"search.json": found}} if found else {},
        sections={"G": [search_section(found)]} if found else {},
    )


@dataclass(frozen=True)
class Ugc:
    """The trainings of a run, and what they share.

    Attributes:
        network: the original generator with the inserted blocks, not trained.
        channels: its structure.
        space: its subnets.
        lesson: L_OD.
    """

    run: Run
    job: Job
    config: UgcConfig
    network: nn.Module
    channels: Channels
    space: Space
    images: TrainingImages
    lesson: DistillationLoss

    def reachable(self, budget: Budget) -> Plan:
        """A plan for a budget, whichever; fails where there is none, or its judge's weights are missing."""
        held = self.images.held
        if held is None:
            return self._uniform(budget)
        fitness = chosen(self.config.fitness, self.job.metrics, held)
        hashes_of(fitness, self.job.metrics)
        check_enough(fitness, held, self.images.labelled)
        return self.space.plan(
            self.channels,
            within(budget, self.space, self.channels, self.config, self.job.training.seed).newcomers()[0],
        )

    def train_supernet(self) -> Nets:
        """Stage 1: the supernet "G" and, where the task has one, "D"."""
        job, config = self.job, self.config

        def learn(stage: Stage) -> Artefacts:
            logger.info("training the supernet")
            nets = self.fresh_nets()
            supernet = Supernet(nets["G"], self.channels)
            sandwich = Sandwich(supernet, self.space, self.lesson, config, seed=job.training.seed)
            whole = {**nets, "G": supernet}
            updates = sandwich.updates(self.task.updates(whole))
            self._fit(stage, whole, unlabelled=config.search_unlabelled, updates=updates)
            return states(nets)

        decisive = SpaceConfig.model_fields.keys() - LossConfig.model_fields.keys() - {"search_images"}
        settings = config.model_dump(mode="json", include=decisive)
        found = self.run.stage(
            "supernet", learn, made_from={**self._stamp(), "method": settings}, after=self._before()
        )
        return _loaded(self.fresh_nets(), found)

    def search(self, nets: Nets) -> tuple[dict[str, Plan], dict[str, Any]]:
        """The plans of "student", "wide" and "deep", the teachers; and what search.json says of them."""
        job, config, held = self.job, self.config, self.images.held
        assert held is not None

        def look(stage: Stage) -> Artefacts:
            search = Search(
                job, config, self.space, self.channels, self.images, nets["G"], stage.path / "scores.json"
            )
            plans = {"student": job.plan_within(search.student, self.network, self.channels)}
            plans |= search.teachers(plans["student"])
            found = {name: plan.to_json(self.channels) for name, plan in plans.items()}
            return {**found, "found": search.report(plans)}

        settings = config.model_dump(mode="json", include=SEARCHING)
        stamp = {"budget": job.limits(), "method": settings, "held": held.fingerprint()}
        stamp["fitness"] = fitness = chosen(config.fitness, job.metrics, held)
        stamp["judges"] = hashes_of(fitness, job.metrics)
        stamp["metrics"] = {"seed": job.metrics.seed, "labels": label_size(held)}
        found = self.run.stage("search", look, made_from=stamp, after=("supernet",))
        plans = {name: Plan.from_json(self.channels, found[name]) for name in ("student", *TEACHERS)}
        return plans, found["found"]

    def fixed(self) -> dict[str, Plan]:
        """Without a search (OMGD): the student of uniform widths, the original as the wide teacher, and as the deep one the
        student with all of the inserted blocks, four times as wide inside or as wide as they are."""
        student = self.job.plan_within(self._uniform, self.network, self.channels)
        widths = self.channels.widths(student)
        deep = widths.copy()
        for number in (number for site in self.space.sites for number in site):
            deep[number] = len(self.channels.groups[number])
        return {
            "student": student,
            "wide": self.space.plan(self.channels, self.space.shallow().largest()),
            "deep": self.space.plan(self.channels, deep),
        }

    def finetune(self, plans: dict[str, Plan], whole: Callable[[], Nets]) -> nn.Module:
        """Stage 2: the student, taught online by two teachers that go on learning.

        Args:
            whole: the nets that the plans cut; called in the stage, whose seed fresh ones start from.
        """
        config = self.config

        def learn(stage: Stage) -> Artefacts:
            logger.info("distilling from both teachers online")
            nets = self._taking_part(plans, whole())
            with ExitStack() as stack:
                taps = {}
                if isinstance(connectors := nets.get("connectors"), Connectors):
                    paths = connectors.paths
                    taps = {name: stack.enter_context(Taps(nets[name], paths)) for name in ("G", "wide")}
                online = OnlineDistillation(self.task, nets, self.lesson, config, taps)
                updates, forward = online.updates(), online.forward()
                self._fit(
                    stage, nets, unlabelled=config.finetune_unlabelled, updates=updates, forward=forward
                )
            return states(nets)

        kept = {name: plan.to_json(self.channels)["layers"] for name, plan in plans.items()}
        settings = config.model_dump(mode="json", include=FINETUNING)
        stamp = {**self._stamp(), "method": settings, "plans": kept}
        before = ("search",) if config.search else self._before()
        weights = self.run.stage("finetune", learn, made_from=stamp, after=before)
        student = extract(self.network, self.channels, plans["student"])
        student.load_state_dict(weights["G"])
        return student.eval()

    def _taking_part(self, plans: dict[str, Plan], whole: Nets) -> Nets:
        """The nets of stage 2: the student "G", its teachers, their discriminators, and what connects their channels."""
        cut = {"G": plans["student"], **{name: plans[name] for name in TEACHERS}}
        nets: Nets = {name: extract(whole["G"], self.channels, plan) for name, plan in cut.items()}
        # the teachers only train, by the statistics of their batches
        recalibrate(nets["G"], inputs_of(self.images.unlabelled, self.config.calibration_images))
        if "D" in whole:
            nets |= two_headed(whole["D"], self.config.shared_layers)
        if self.config.lambda_cd:
            original, example = folded_copy(self.job.build()), self.job.example
            paths, widest = self.config.taps, trace(original, *example)
            nets["connectors"] = connect(original, nets["G"], nets["wide"], example, widest, paths)
        return nets

    @property
    def task(self) -> Task:
        """What the largest network and the teachers learn: of a task without pairs, its teacher's images."""
        task = self.job.task
        return task.as_student_task(self.job.teacher()["G"]) if "pairs" not in task.needs else task

    def fresh_nets(self) -> Nets:
        """The whole network "G" and, where there is one, "D", built anew: by a stage's seed, since not all of a network is
        what `initialise` touches."""
        network = begin_as_identity(initialise(_grown(self.job)))
        return self.task.nets(network, self.job.data.in_channels, self.job.data.out_channels)

    def _uniform(self, budget: Budget) -> Plan:
        """The same share of every layer, and none of the inserted blocks."""
        scores = evenly(self.channels)
        for number in (number for site in self.space.sites for number in site):
            scores[self.channels.groups[number].atoms] = -math.inf
        limits: Any = {"floor": self.config.floor, "round_to": self.config.round_to}
        return bisect_threshold(self.channels, scores, budget, **limits)

    def _fit(self, stage: Stage, nets: Nets, *, unlabelled: bool, **options: Any) -> None:
        training = self.job.training.model_copy(
            update={"compile": False}
        )  # cuts are views of changing shapes
        fit_nets(
            stage, nets, self.task, self.images.labelled, training,
            unlabelled=self.images.unlabelled if unlabelled else None,
            frozen=[] if self.lesson.vgg is None else [self.lesson.vgg], progress=self.job.progress, **options,
        )  # fmt: skip

    def _stamp(self) -> dict[str, Any]:
        described = describe(self.job.task, self.images.labelled, self.job.training)
        return {
            "net": repr(self.network),
            "unlabelled": self.images.unlabelled.fingerprint(),
            "loss": self.lesson.describe(),
            **described,
        }

    def _before(self) -> tuple[str, ...] | None:
        """The stages that a training from fresh weights builds on: the teacher's where the task learns from it."""
        return () if "pairs" in self.job.task.needs else None


def searched_space(network: nn.Module, channels: Channels, config: SpaceConfig) -> Space:
    """The widths of every layer, and at every place where blocks were inserted how many of them run."""
    number = {group.name: place for place, group in enumerate(channels.groups)}
    sites = []
    for site in extra_sites(network):
        inside = [[n for name, n in number.items() if name.startswith(f"{path}.")] for path in site]
        sites.append([groups[0] for groups in inside if groups])
    round_to = config.round_to or 1
    return space_of(channels, steps=config.steps, least=config.floor, round_to=round_to, sites=sites)


def _grown(job: Job) -> nn.Module:
    """The original generator with the inserted blocks."""
    return folded_copy(job.original.transform(job.build()))


def _loaded(nets: Nets, found: Artefacts) -> Nets:
    for name, net in nets.items():
        net.load_state_dict(found[name])
        net.eval()
    return nets
