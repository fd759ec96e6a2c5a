"""DECIG: Shah and Bharaj 2022, "Towards Device Efficient Conditional Image Generation".

Stage I trains a generator from fresh weights on the task's own losses and a penalty that condenses each layer into few
channels (Eqs. 1 and 2). Stage II cuts each layer at its hinge, where its sorted channels fall to nearly nothing, and
finetunes what is left with the network of Stage I as its teacher.
"""

import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.methods.base import Job, Result
from ganshrink.methods.decig.condensing import calibrated, layer_factors, magnitudes, maker_times, penalty
from ganshrink.methods.decig.config import CUTTING, CondensingConfig, DecigConfig
from ganshrink.methods.decig.cutting import cut_at_hinges
from ganshrink.methods.decig.hinges import hinges_within
from ganshrink.methods.decig.section import hinges_section
from ganshrink.pruning import Channels, Plan, extract, initialise
from ganshrink.pruning.folding import folded_copy
from ganshrink.system.distributed import rank_and_world, sum_over_processes
from ganshrink.system.generator import generate
from ganshrink.training import Update, total_steps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.tasks import Task
from ganshrink.training.train import Nets, batches_of, fit_nets, states

logger = logging.getLogger(__name__)

Start = Mapping[str, Mapping[str, float]]  # per generator and group, the largest magnitude before Stage I


def decig(run: Run, job: Job, config: DecigConfig) -> Result:
    """DECIG: a penalty condenses layers while they train, hinges cut them, the uncut network teaches."""
    channels = job.channels
    jobs = job.by_generator()

    # What cannot work fails here, before anything is trained.
    equal = {group.name: torch.ones(len(group)) for group in channels.groups if group.frozen is None}
    limits: Any = {"least": config.floor, "round_to": config.round_to or 1, "overrides": config.hinges}
    for name, one in jobs.items():
        try:
            one.check_reachable(lambda budget: hinges_within(channels, equal, budget, **limits))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    _check(job)
    factors = _factors(job, config, channels)

    # To compare with; a task may need it besides.
    teachers = {name: one.teacher() for name, one in jobs.items()}
    method = Decig(run, job, config, jobs, channels, factors)
    condensed, start = method.condense(teachers)
    plans, hinges = method.cut(condensed, start)
    students = method.finetune(teachers, condensed, plans)
    return Result(
        students=students,
        plans=plans,
        channels=dict.fromkeys(jobs, channels),
        originals={name: folded_copy(teachers[name]["G"]) for name in jobs},
        basis={group.name: f"L1 ({config.importance})" for group in channels.groups if group.frozen is None},
        files={name: {"hinges.json": hinges[name]} for name in jobs},
        sections={name: [hinges_section(hinges[name])] for name in jobs},
    )


class Alpha:
    """alpha of Eq. 2: found at the first step, then kept."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.value: float | None = None

    def times(self, penalties: Mapping[str, Tensor], reconstruction: Tensor) -> dict[str, Tensor]:
        """The weighted penalties, whose sum at the first step is `ratio` of the L1 terms then."""
        if self.value is None:
            total = torch.stack(list(penalties.values())).sum()
            self.value = calibrated(total, reconstruction, ratio=self.ratio)
        return {f"{name}_penal": self.value * value for name, value in penalties.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]


@dataclass(frozen=True)
class Decig:
    """The trainings of a run, and what they share.

    Attributes:
        jobs: of each generator that is made small, by its name in the task's nets.
        channels: the structure of the original generator.
        factors: l(i) of Eq. 2, per free group.
    """

    run: Run
    job: Job
    config: DecigConfig
    jobs: Mapping[str, Job]
    channels: Channels
    factors: Mapping[str, float]

    def condense(self, teachers: Mapping[str, Nets]) -> tuple[Nets, Start]:
        """Stage I: every net of the task, trained from fresh weights under the penalty; and how large these were."""
        job, config = self.job, self.config
        task = self._task(teachers)

        def learn(stage: Stage) -> Artefacts:
            logger.info("condensing layers into few channels")
            nets = self._fresh_nets(task)
            start = {name: self._largest(nets[name]) for name in self.jobs}
            alpha = Alpha(config.ratio)
            updates = self._condensing(task, nets, alpha)
            fit_nets(stage, nets, task, job.data, job.training, updates=updates, progress=job.progress)
            return {**states(nets), "alpha": alpha.state_dict(), "start": start}

        settings = config.model_dump(
            mode="json", include=set(CondensingConfig.model_fields), exclude={"factor"}
        )
        if config.factor != "macs":
            settings["factors"] = dict(self.factors)  # the device's times, whatever it is called
        stamp = {"net": repr(job.build()), "condensed": list(self.jobs), "method": settings, **job.describe()}
        found = self.run.stage(
            "condense", learn, made_from=stamp, after=None if job.task.needs_teacher else ()
        )
        # earlier versions did not keep the start: dead layers are then not looked for
        return _loaded(self._fresh_nets(task), found), found.get("start", {})

    def cut(self, condensed: Nets, start: Start) -> tuple[dict[str, Plan], dict[str, Any]]:
        """Where every layer is cut, per generator: plans, and what hinges.json says of them.

        A stage of its own, so that nothing is looked at again while the students learn.
        """

        def look(stage: Stage) -> Artefacts:
            found = {}
            for name in self.jobs:
                network, job = condensed[name], self.jobs[name]
                plan, said = cut_at_hinges(
                    network, self.channels, self._sizes(network), self.config, job,
                    start=start.get(name, {}), name=name,
                )  # fmt: skip
                found[name] = {"plan": plan.to_json(self.channels), "hinges": said}
            return found

        settings = self.config.model_dump(mode="json", include=CUTTING)
        budgets = {name: one.limits() for name, one in self.jobs.items()}
        stamp = {"macs": self.channels.cost().macs, "budgets": budgets, "method": settings}
        found = self.run.stage("hinges", look, made_from=stamp, after=("condense",))
        plans = {name: Plan.from_json(self.channels, found[name]["plan"]) for name in self.jobs}
        return plans, {name: found[name]["hinges"] for name in self.jobs}

    def finetune(
        self, teachers: Mapping[str, Nets], condensed: Nets, plans: Mapping[str, Plan]
    ) -> dict[str, nn.Module]:
        """Stage II: the small generators, finetuned, the network before the cut as their teacher."""
        job, config = self.job, self.config
        task = self._task(teachers)
        before = {name: copy.deepcopy(condensed[name]) for name in plans}
        students = {name: extract(condensed[name], self.channels, plan) for name, plan in plans.items()}
        nets = {**condensed, **students}

        def remembered(context: Any) -> dict[str, Tensor]:
            losses = {}
            for name, network in before.items():
                way = context.ways[name]
                with torch.no_grad():
                    taught = generate(network, way.input)
                losses[f"{name}_kd"] = config.lambda_kd * l1_loss(way.fake.float(), taught.float())
            return losses

        def learn(stage: Stage) -> Artefacts:
            logger.info("finetuning what is left")
            terms = [remembered] if config.lambda_kd else []
            options: Any = {"terms": terms, "frozen": list(before.values()), "progress": job.progress}
            fit_nets(stage, nets, task, job.data, job.training, **options)
            return states(nets)

        kept = {name: plan.to_json(self.channels)["layers"] for name, plan in plans.items()}
        stamp = {"lambda_kd": config.lambda_kd, "plans": kept, **job.describe()}
        # the teacher has no part in it, unless the task has nothing else to learn from
        before_it = None if job.task.needs_teacher else ("condense",)
        found = self.run.stage("finetune", learn, made_from=stamp, after=before_it)
        for name, student in students.items():
            student.load_state_dict(found[name])
            student.eval()
        return students

    def _condensing(self, task: Task, nets: Nets, alpha: Alpha) -> list[Update]:
        """The task's own updates, with alpha * L_PENAL among the generators' losses (Eq. 2)."""
        updates = task.updates(nets)
        generation = next(update for update in updates if update.name == "G")
        own = generation.losses

        def losses(context: Any) -> Iterator[dict[str, Tensor]]:
            for terms in own(context):
                l1 = sum((v.detach() for n, v in terms.items() if n in task.l1_terms), torch.zeros(()))
                penalties = {name: self._penalty(nets[name]) for name in self.jobs}
                yield {**terms, **alpha.times(penalties, sum_over_processes(l1) / rank_and_world()[1])}

        generation.losses = losses
        generation.state = {**generation.state, "alpha": alpha}
        return updates

    def _penalty(self, network: nn.Module) -> Tensor:
        shape, importance = self.config.shape, self.config.importance
        return penalty(network, self.channels, factors=self.factors, shape=shape, importance=importance)

    def _sizes(self, network: nn.Module) -> dict[str, Tensor]:
        found = magnitudes(network, self.channels, importance=self.config.importance)
        return {name: size.detach() for name, size in found.items()}

    def _largest(self, network: nn.Module) -> dict[str, float]:
        return {name: float(size.max()) for name, size in self._sizes(network).items()}

    def _task(self, teachers: Mapping[str, Nets]) -> Task:
        task = self.job.task
        return task.as_student_task(teachers["G"]["G"]) if task.needs_teacher else task

    def _fresh_nets(self, task: Task) -> Nets:
        """Every net of the task, built anew."""
        dense = initialise(folded_copy(self.job.build()))
        return task.nets(dense, self.job.data.in_channels, self.job.data.out_channels)


def _factors(job: Job, config: DecigConfig, channels: Channels) -> dict[str, float]:
    """l(i) of Eq. 2: by MACs, or by the times of a device."""
    if config.factor == "macs":
        return layer_factors(channels)
    assert job.device is not None
    return layer_factors(channels, measured=maker_times(channels, job.device(config.factor)))


def _check(job: Job) -> None:
    """Refuse a training of no steps, and one without an L1 term, which alpha is measured against."""
    if total_steps(batches_of(job.data, job.training), job.training) == 0:
        raise ValueError(
            "DECIG condenses while it trains, and student.epochs and student.max_steps leave no step to do so"
        )
    weight = "lambda_cycle" if job.task.both_ways else "lambda_recon"
    if not getattr(job.task.config, weight, 0):
        raise ValueError(f"alpha cannot be found: L_l1 is 0 with task.{weight} = 0: set it above 0")


def _loaded(nets: Nets, found: Artefacts) -> Nets:
    for name, net in nets.items():
        net.load_state_dict(found[name])
        net.eval()
    return nets
