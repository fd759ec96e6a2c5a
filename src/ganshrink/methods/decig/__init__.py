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

from ganshrink.channels import Channels, Plan, extract, initialise, trace
from ganshrink.channels.folding import folded_copy
from ganshrink.engine import Update, rank_and_world, sum_over_processes, total_steps
from ganshrink.generator import generate
from ganshrink.job import Job, Nets, Result, batches_of, fit_nets, states
from ganshrink.methods.decig.condensing import calibrated, layer_factors, magnitudes, penalty
from ganshrink.methods.decig.config import CondensingConfig, DecigConfig
from ganshrink.methods.decig.hinges import find_hinge, hinges_within
from ganshrink.run import Artefacts, Run, Stage
from ganshrink.tasks import Task

logger = logging.getLogger(__name__)


def decig(run: Run, job: Job, config: DecigConfig) -> Result:
    """DECIG: a penalty condenses layers while they train, hinges cut them, the uncut network teaches."""
    channels = trace(folded_copy(job.build()), *job.example)
    jobs = job.by_generator()

    # What cannot work fails here, before anything is trained.
    equal = {group.name: torch.ones(len(group)) for group in channels.groups if group.frozen is None}
    limits: Any = {"least": config.floor, "round_to": config.round_to, "overrides": config.hinges}
    for name, one in jobs.items():
        try:
            hinges_within(channels, equal, one.budget, **limits)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    _check(job)

    # To compare with; a task may need it besides.
    teachers = {name: one.teacher() for name, one in jobs.items()}
    method = Decig(run, job, config, jobs, channels)
    condensed = method.condense(teachers)
    plans = {name: method.cut(name, condensed[name]) for name in jobs}
    students = method.finetune(teachers, condensed, plans)
    names = {name: "G" if len(jobs) == 1 else name for name in jobs}
    return Result(
        students={names[name]: students[name] for name in jobs},
        plans={names[name]: plans[name] for name in jobs},
        channels={names[name]: channels for name in jobs},
        originals={names[name]: folded_copy(teachers[name]["G"]) for name in jobs},
        basis={group.name: f"L1 ({config.importance})" for group in channels.groups if group.frozen is None},
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
    """

    run: Run
    job: Job
    config: DecigConfig
    jobs: Mapping[str, Job]
    channels: Channels

    def condense(self, teachers: Mapping[str, Nets]) -> Nets:
        """Stage I: every net of the task, trained from fresh weights under the penalty."""
        job, config = self.job, self.config
        task = self._task(teachers)

        def learn(stage: Stage) -> Artefacts:
            logger.info("condensing layers into few channels")
            nets = self._fresh_nets(task)
            alpha = Alpha(config.ratio)
            updates = self._condensing(task, nets, alpha)
            fit_nets(stage, nets, task, job.data, job.training, updates=updates, progress=job.progress)
            return {**states(nets), "alpha": alpha.state_dict()}

        settings = config.model_dump(mode="json", include=set(CondensingConfig.model_fields))
        stamp = {"net": repr(job.build()), "condensed": list(self.jobs), "method": settings, **job.describe()}
        found = self.run.stage(
            "condense", learn, made_from=stamp, after=None if job.task.needs_teacher else ()
        )
        return _loaded(self._fresh_nets(task), found)

    def cut(self, name: str, network: nn.Module) -> Plan:
        """Where each layer's hinge is, or all of them together for the budget."""
        config = self.config
        sizes = {key: value.detach() for key, value in self._sizes(network).items()}
        hinges = {
            key: find_hinge(value, least=config.floor, round_to=config.round_to)
            for key, value in sizes.items()
        }
        flat = [key for key, hinge in hinges.items() if not hinge.found and key not in config.hinges]
        if flat:
            logger.warning(
                "%s: %d of %d layers have no hinge, their channels fall off evenly (%s): only the budget cuts them",
                name, len(flat), len(hinges), ", ".join(flat[:3]) + (", ..." if len(flat) > 3 else ""),
            )  # fmt: skip
        plan = hinges_within(
            self.channels, sizes, self.jobs[name].budget,
            least=config.floor, round_to=config.round_to, overrides=config.hinges,
        )  # fmt: skip
        cost = self.channels.cost(plan)
        logger.info("%s: %.4g G MACs (exact), %.4g M parameters", name, cost.macs / 1e9, cost.params / 1e6)
        return plan

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
        stamp = {"method": config.model_dump(mode="json"), "plans": kept, **job.describe()}
        # the teacher has no part in it, unless the task has nothing else to learn from
        before_it = None if job.task.needs_teacher else ("condense",)
        found = self.run.stage("finetune", learn, made_from=stamp, after=before_it)
        for name, student in students.items():
            student.load_state_dict(found[name])
            student.eval()
        return students

    def _condensing(self, task: Task, nets: Nets, alpha: Alpha) -> list[Update]:
        """The task's own updates, with alpha * L_PENAL among the generators' losses (Eq. 2)."""
        factors = layer_factors(self.channels)
        updates = task.updates(nets)
        generation = next(update for update in updates if update.name == "G")
        own = generation.losses

        def losses(context: Any) -> Iterator[dict[str, Tensor]]:
            for terms in own(context):
                l1 = sum((v.detach() for n, v in terms.items() if n in task.l1_terms), torch.zeros(()))
                penalties = {name: self._penalty(nets[name], factors) for name in self.jobs}
                yield {**terms, **alpha.times(penalties, sum_over_processes(l1) / rank_and_world()[1])}

        generation.losses = losses
        generation.state = {**generation.state, "alpha": alpha}
        return updates

    def _penalty(self, network: nn.Module, factors: Mapping[str, float]) -> Tensor:
        shape, importance = self.config.shape, self.config.importance
        return penalty(network, self.channels, factors=factors, shape=shape, importance=importance)

    def _sizes(self, network: nn.Module) -> dict[str, Tensor]:
        return magnitudes(network, self.channels, importance=self.config.importance)

    def _task(self, teachers: Mapping[str, Nets]) -> Task:
        task = self.job.task
        return task.distilling(teachers["G"]["G"]) if task.needs_teacher else task

    def _fresh_nets(self, task: Task) -> Nets:
        """Every net of the task, built anew."""
        dense = initialise(folded_copy(self.job.build()))
        return task.nets(dense, self.job.data.in_channels, self.job.data.out_channels)


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
