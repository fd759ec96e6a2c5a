"""UGC: Ren et al. 2023, "UGC: Unified GAN Compression for Efficient Image-to-Image Translation".

Stage 1 trains all subnets of a supernet at once: the largest on labelled pairs, others on its images of unlabelled inputs
(section 3.1). Evolution then finds the student, and two teachers, a wider and a deeper one. Stage 2 goes on training the
teachers on labelled pairs while the student learns from both online, without a discriminator (section 3.2). No code was
published; constants that the paper leaves open are in `config.py`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.data.held_out import TrainingImages, divide
from ganshrink.data.passes import spread_inputs
from ganshrink.losses import Connectors, OnlineDistillationLoss, OnlineWeights
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import begun, refit, start_of, widest
from ganshrink.methods.ugc.config import FinetuneConfig, SupernetConfig, UgcConfig
from ganshrink.methods.ugc.realness import RealnessFilter
from ganshrink.methods.ugc.search import TEACHERS, Search, searched_space, student_search
from ganshrink.methods.ugc.section import search_section
from ganshrink.metrics.judge import Fitness
from ganshrink.metrics.vgg import load_vgg
from ganshrink.nets.extra_blocks import begin_as_identity
from ganshrink.nets.patchgan import second_head
from ganshrink.pruning import Budget, Plan, extract
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.scores import evenly
from ganshrink.pruning.search.space import Space
from ganshrink.pruning.search.supernet import Supernet
from ganshrink.system.copies import copied
from ganshrink.system.distributed import rank_and_world
from ganshrink.system.generator import as_tuple, generate
from ganshrink.training import Context, Forward, Taps, Update, default_taps, joint, widths_at
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.subnets import SubnetScores, judgement
from ganshrink.training.tasks import Task
from ganshrink.training.tasks.generator_pass import GeneratorPass
from ganshrink.training.tasks.task import adam_of, joined
from ganshrink.training.train import Nets, train_stage

logger = logging.getLogger(__name__)


def ugc(run: Run, job: Job, config: UgcConfig) -> Result:
    """UGC: a supernet and an evolutionary search, then online distillation from two teachers, with few labels."""
    # What cannot work fails here, before anything is trained.
    images = divide(job.data, job.unlabelled, config.search_images if config.nas else 0)
    method = Ugc(run, job, config, images)
    judges = judgement(config.search.fitness, job.metrics, images) if config.nas else {}
    job.check_reachable(method.any_plan)
    if config.finetune.lambda_cd and config.finetune.taps:
        Taps(method.network, config.finetune.taps).close()
    if not method.space.sites:  # extra_blocks is 0, or no layer changes the size
        logger.warning("no deep teacher: it is one of inserted blocks, and this generator has none")

    job.teacher()  # to compare with; a task without pairs learns from it
    if config.nas:
        supernet = method.train_supernet()
        plans, found = method.search(supernet, judges)
        student = method.finetune(plans, lambda: supernet)
    else:
        plans, found = method.fixed(), {}
        student = method.finetune(plans, method.fresh_nets)
    made = student, plans["student"], job.channels, method.network
    if not found:
        return Result.of_one(*made)
    files, sections = {"search.json": found}, [search_section(found)]
    return Result.of_one(*made, files={"G": files}, sections={"G": sections})


class Ugc:
    """The stages of a run, and what they share."""

    def __init__(self, run: Run, job: Job, config: UgcConfig, images: TrainingImages) -> None:
        self.run, self.job, self.config, self.images = run, job, config, images
        self.network, self.channels = folded_copy(job.original.network), job.channels
        self.space = searched_space(self.network, self.channels, config.supernet)
        self.loss = online_loss(config, parts=rank_and_world()[1] * job.training.accumulate)
        self.start = start_of(job, "inherit" if config.nas else "fresh")
        if not config.nas and self.start != "fresh":
            raise ValueError(f"without a search there is nothing to {self.start}: leave student.start out")
        learning = replace(job, data=images.labelled)
        self.learning = {"supernet": learning.for_search(), "finetune": learning}
        # what a training from fresh weights builds on: the teacher's stage where the task learns from it
        self.before: tuple[str, ...] | None = () if "pairs" in job.task.needs else None

    def train_supernet(self) -> Nets:
        """Stage 1 (section 3.1; Algorithm 1, lines 3 to 11): the supernet "G" and, where the task has one, "D"."""

        def learn(stage: Stage, nets: Nets) -> None:
            logger.info("training the supernet")
            whole = {**nets, "G": Supernet(nets["G"], self.channels)}
            given: Any = (whole["G"], self.space, self.loss, self.config.supernet)
            updates = sandwich(self.task.updates(whole), *given, seed=self.job.training.seed)
            self._fit(stage, whole, unlabelled=self.config.supernet.unlabelled, updates=updates)

        stamp, after = self._stamp("supernet"), self.before
        return train_stage(self.run, "supernet", self.fresh_nets, learn, made_from=stamp, after=after)[0]

    def subnets(self, network: nn.Module, fitness: Fitness) -> SubnetScores:
        """How good the subnets of a trained supernet's whole network are."""
        given = network, self.channels, self.space, self.images, fitness, self.job.metrics
        return SubnetScores(*given, seen=self.config.search.calibration_images, training=self.job.training)

    def search(self, supernet: Nets, judges: dict[str, Any]) -> tuple[dict[str, Plan], dict[str, Any]]:
        """The plans of "student", "wide" and "deep", the teachers (line 13); and what search.json says of them."""

        def look(stage: Stage) -> Artefacts:
            subnets = self.subnets(supernet["G"], judges["fitness"])
            search = Search(self.job, self.config.search, subnets, stage.path / "scores.json")
            plans = {"student": self.job.plan_within(search.student, self.network, self.channels)}
            plans |= search.teachers(plans["student"])
            found = {name: plan.to_json(self.channels) for name, plan in plans.items()}
            return {**found, "found": search.report(plans)}

        stamp = {"budget": self.job.limits(), "method": self.config.for_stage("search"), **judges}
        found = self.run.stage("search", look, made_from=stamp, after=("supernet",))
        made = [name for name in ("student", *TEACHERS) if name in found]
        return {name: Plan.from_json(self.channels, found[name]) for name in made}, found["found"]

    def fixed(self) -> dict[str, Plan]:
        """Without a search (OMGD): the student of uniform widths; as teachers one so many times as wide, at most the
        original, and the student with all of the inserted blocks, as wide inside as they are."""
        student = self.job.plan_within(self._uniform, self.network, self.channels)
        widths, shallow = self.channels.widths(student), self.space.shallow().largest()
        wide = np.ceil(self.config.finetune.wide_ratio * widths).astype(np.int64)
        teachers = {"wide": np.minimum(wide, shallow)}
        if self.space.sites:
            teachers["deep"] = np.where(shallow == 0, self.space.largest(), widths)
        return {"student": student} | {n: self.space.plan(self.channels, w) for n, w in teachers.items()}

    def finetune(self, plans: dict[str, Plan], whole: Callable[[], Nets]) -> nn.Module:
        """Stage 2 (section 3.2; lines 14 to 25): the student, taught online by two teachers that go on learning.

        Args:
            whole: the nets that the plans cut; called in the stage, whose seed fresh ones start from.
        """
        config = self.config.finetune

        def learn(stage: Stage, nets: Nets) -> Artefacts:
            kept = refit(nets["G"], whole()["G"], self.job, self.start) if self.config.nas else {}
            logger.info("distilling from both teachers online")
            # the teachers only train, by the statistics of their batches
            recalibrate(nets["G"], spread_inputs(self.images.unlabelled, config.calibration_images))
            paths: Any = getattr(nets.get("connectors"), "paths", ())
            with Taps(nets["G"], paths) as ours, Taps(nets["wide"], paths) as theirs:
                taps = {"G": ours, "wide": theirs}
                online = OnlineDistillation(self.task, nets, self.loss, config, taps)
                updates, forward = online.updates(), online.forward
                self._fit(stage, nets, unlabelled=config.unlabelled, updates=updates, forward=forward)
            return kept

        kept = {name: plan.to_json(self.channels)["layers"] for name, plan in plans.items()}
        stamp = {**self._stamp("finetune"), "plans": kept}
        after = ("search",) if self.config.nas else self.before
        make = partial(self._taking_part, plans, whole)
        return train_stage(self.run, "finetune", make, learn, made_from=stamp, after=after)[0]["G"]

    def _taking_part(self, plans: dict[str, Plan], make: Callable[[], Nets]) -> Nets:
        """The nets of stage 2: the student "G", its teachers, their discriminators, and what connects their channels."""
        job, config, whole = self.job, self.config.finetune, make()
        cut = {"G" if name == "student" else name: plan for name, plan in plans.items()}
        nets: Nets = {name: extract(whole["G"], self.channels, plan) for name, plan in cut.items()}
        nets["G"] = begun(nets["G"], self.start)
        if "D" in whole:
            nets["D_wide"] = copied(whole["D"])
            if "deep" in nets:
                nets["D_deep"] = second_head(nets["D_wide"], config.shared_layers)
        if config.lambda_cd:
            # OMGD's channel distillation (section 3.3 of Ren et al. 2021), which UGC leaves out
            original, width = folded_copy(job.build()), widest(job.original.untouched)
            paths = config.taps or default_taps(original, job.example, width, least=2)
            inside, outside = (widths_at(nets[name], paths, job.example) for name in ("G", "wide"))
            nets["connectors"] = Connectors({path: (inside[path], outside[path]) for path in paths})
        return nets

    @property
    def task(self) -> Task:
        """What the largest network and the teachers learn: of a task without pairs, its teacher's images."""
        task = self.job.task
        return task.as_student_task(self.job.teacher()["G"]) if "pairs" not in task.needs else task

    def fresh_nets(self) -> Nets:
        """The whole network "G" and, where there is one, "D", built anew: by a stage's seed, since not all of a network is
        what `initialise` touches."""
        return self.job.nets(begin_as_identity(self.job.original.fresh()), self.task)

    def any_plan(self, budget: Budget) -> Plan:
        """A plan for a budget, whichever; fails where there is none."""
        if not self.config.nas:
            return self._uniform(budget)
        if not budget.limits:
            return self.space.plan(self.channels, self.space.largest())
        given = self.space, self.channels, self.config.search, self.job.training.seed
        return self.space.plan(self.channels, student_search(budget, *given).newcomers()[0])

    def _uniform(self, budget: Budget) -> Plan:
        """The same share of every layer, and none of the inserted blocks."""
        scores = evenly(self.channels, without=chain(*self.space.sites))
        return self.config.supernet.plan(self.channels, scores, budget)

    def _fit(self, stage: Stage, nets: Nets, *, unlabelled: bool, **options: Any) -> None:
        job, vgg = self.learning[stage.path.name], self.loss.network
        options["unlabelled"] = self.images.unlabelled if unlabelled else None
        options["frozen"] = [vgg] if isinstance(vgg, nn.Module) else []
        # images that are kept apart make no epoch shorter
        job.fit(stage, nets, self.task, hooked=True, whole=self.job.data, **options)

    def _stamp(self, stage: str) -> dict[str, Any]:
        own = {**self.job.original.describe(), "unlabelled": self.images.unlabelled.fingerprint()}
        if len(self.images.labelled) < len(self.job.data):
            own["epoch"] = len(self.job.data)
        vgg = getattr(self.loss.network, "sha256", None)
        return {**self.learning[stage].describe(), **own, "method": self.config.for_stage(stage), "vgg": vgg}


def online_loss(config: UgcConfig, *, parts: int = 1) -> OnlineDistillationLoss:
    """L_OD, "the distillation loss in OMGD".

    Raises:
        FileNotFoundError: if VGG's weights are missing, and a term is by them.
    """
    style, feature = config.lambda_style, config.lambda_feature
    vgg = None if style == 0 and feature == 0 else load_vgg(config.vgg)
    own = (0.0, 0.0) if vgg is None else vgg.online
    style, feature = (own[i] if given is None else given for i, given in enumerate((style, feature)))
    weights = OnlineWeights(config.lambda_ssim, style, feature, config.lambda_tv)
    return OnlineDistillationLoss(weights, vgg, parts=parts)


# Stage 1


def sandwich(
    updates: Sequence[Update], supernet: Supernet, space: Space, loss: OnlineDistillationLoss, config: SupernetConfig, *,
    seed: int,
) -> list[Update]:  # fmt: skip
    """Eq. 1: a task's updates with, after its generator's own losses for the largest network (Eq. 4), L_OD of a random and
    of the smallest subnet (Eq. 5).

    Each is back-propagated before the next is computed, so that memory is that of the largest network.
    """

    def subnet(widths: np.ndarray) -> Any:
        return supernet.subnet(space.plan(supernet.channels, widths))

    smallest = subnet(space.smallest())
    [generation] = [update for update in updates if update.name == "G"]

    def losses(context: Any) -> Iterator[dict[str, Tensor]]:
        yield from generation.losses(context)
        inputs = as_tuple(context.batch["unlabelled"] if config.unlabelled else context.input)
        with torch.no_grad():
            wanted = loss.look(supernet(*inputs))
        # "attentively sampled" and "randomly sample" say the paper: each width and depth is drawn uniformly, or so that
        # all come equally often; in all processes the same
        rng = np.random.default_rng([seed, context.step])
        drawn = space.fair(seed, context.step) if config.sampling == "fair" else space.random(rng)
        for name, cut in (("random", subnet(drawn)), ("smallest", smallest)):
            made = loss.look(supernet(*inputs, subnet=cut))
            terms = loss.losses(made, wanted)
            yield {f"{name}_{term}": config.subnet_weight * value for term, value in terms.items()}

    return [replace(update, losses=losses) if update is generation else update for update in updates]


# Stage 2


@dataclass
class OnlineContext(Context):
    """What one step knows: the contexts that the task makes of it for each teacher, and the student's pass as "G"."""

    labelled: Mapping[str, Any]
    unlabelled: Mapping[str, Any]
    ways: Mapping[str, GeneratorPass]


class OnlineDistillation:
    """Eq. 6: two teachers go on learning from labelled pairs, and a student without a discriminator learns from both
    online, on labelled images and on those unlabelled ones whose pseudo-labels a discriminator lets through.

    Args:
        task: one that learns from pairs.
        nets: "G", the student; "wide" and perhaps "deep", its teachers; "D_wide" and "D_deep", their discriminators, which
            may share layers; none of these where the task has no GAN loss; "connectors", where channels are distilled.
        taps: on the student as "G" and on the wide teacher as "wide", at the connectors' paths.
    """

    def __init__(
        self, task: Task, nets: Nets, loss: OnlineDistillationLoss, config: FinetuneConfig, taps: Mapping[str, Taps]
    ) -> None:  # fmt: skip
        self.task, self.nets, self.loss, self.config, self.taps = task, nets, loss, config, taps
        self.of_teacher: dict[str, Nets] = {name: {"G": nets[name]} for name in TEACHERS if name in nets}
        self.filter = RealnessFilter(config, tuple(self.of_teacher))
        self.forwards: dict[str, Forward] = {}
        for name, own in self.of_teacher.items():
            if f"D_{name}" in nets:
                own["D"] = nets[f"D_{name}"]
            self.forwards[name] = task.forward(own, {"G": taps[name]} if name in taps else None)

    def forward(self, batch: dict[str, Any], step: int, epoch: int) -> OnlineContext:
        """How a batch becomes a context."""
        parts = batch, {"input": batch["unlabelled"]} if "unlabelled" in batch else {}
        labelled, unlabelled = (
            {name: of(part, step, epoch) for name, of in self.forwards.items()} for part in parts
        )
        given: Any = labelled["wide"]
        ways = {"G": GeneratorPass(self.nets["G"], given.input, taps=self.taps)}
        return OnlineContext(batch, step, epoch, labelled, unlabelled, ways)

    def updates(self) -> list[Update]:
        """At every n-th step D, then the teachers, as in stage 1 (Eq. 4); at every step the student (Eqs. 7 and 9)."""
        own = {name: {u.name: u for u in self.task.updates(nets)} for name, nets in self.of_teacher.items()}
        teaching = [
            joint(name, {t: own[t][kind] for t in own}, self._labelled, every=self.config.teachers_every)
            for name, kind in (("D", "D"), ("teachers", "G"))
            if kind in own["wide"]
        ]
        learning = [p for n in ("G", "connectors") if n in self.nets for p in self.nets[n].parameters()]
        optimizer = adam_of(self.task.config, learning)
        state = {"filter": self.filter}
        return [*teaching, Update("student", [optimizer], self._learn, state=state, watch=self.filter.watch)]

    def _labelled(self, context: OnlineContext, name: str) -> Any:
        """What a teacher learns from. The images that the student learns from are of before this: they are made first."""
        for other in context.unlabelled.values() if self.config.unlabelled else ():
            image_of(other)
        return context.labelled[name]

    def _learn(self, context: OnlineContext) -> Iterator[dict[str, Tensor]]:
        own = context.ways["G"]
        losses = self._online("A", own.fake, context.labelled, own.features("G"))  # Eq. 7
        yield joined(losses, getattr(self.task, "terms", ()), context)
        if self.config.unlabelled:
            made = generate(self.nets["G"], context.unlabelled["wide"].input)
            yield self._online("U", made, context.unlabelled, filtered=True)  # Eq. 9

    def _online(
        self, part: str, fake: Tensor, contexts: Mapping[str, Any], mine: Any = None, *, filtered: bool = False
    ) -> dict[str, Tensor]:  # fmt: skip
        """L_OD of the student's images to those of both teachers, term by term; `mine`: its features, if channels count."""
        made = self.loss.look(fake)
        total: dict[str, Any] = {}
        for name in self.of_teacher:
            image, phi = image_of(contexts[name]), None
            if filtered and self.config.filter != "none" and f"D_{name}" in self.nets:
                with torch.no_grad():
                    scores = contexts[name].scores(image).float().flatten(1).mean(1)
                phi = self.filter(name, scores)  # Eq. 8
            for term, loss in self.loss.losses(made, self.loss.look(image), phi).items():
                total[f"{part}_{term}"] = total.get(f"{part}_{term}", 0) + loss
        if mine:  # OMGD's channel distillation, which has labelled images alone
            distance = self.nets["connectors"].distance(mine, contexts["wide"].features("G"))  # type: ignore[operator]
            total[f"{part}_cd"] = self.config.lambda_cd * distance
        return total


def image_of(context: Any) -> Tensor:
    """A teacher's image of this step, from before its own update where it had one. (A training that accumulates batches
    makes the images anew for each update, so that this one is then from after it.)"""
    with torch.no_grad():
        return context.fake.detach()  # type: ignore[no-any-return]
