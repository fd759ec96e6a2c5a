"""DMAD: Li et al., "Learning Efficient GANs for Image Translation via Differentiable Masks and co-Attention Distillation".

A generator and its masks are trained together from fresh weights, with a fresh discriminator, on the task's own losses and a
pull towards sparsity, until what lives fits the budget (section III.B). What is left goes on training with its weights and
its discriminator, on the same losses, while its attention is drawn to that of the trained teacher and its discriminator
(section III.C). The generators of a CycleGAN are made small together, each to its own budget.
"""

import copy
import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import widest
from ganshrink.methods.dmad.config import DmadConfig, SearchConfig
from ganshrink.methods.dmad.lesson import DistillationLoss, check_taps, needs_judge
from ganshrink.methods.dmad.search import MaskSearch
from ganshrink.pruning import Channels, Plan, extract, initialise
from ganshrink.pruning.allocate import bisect_threshold, share_of_each
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.search.masks import Masks, maskable
from ganshrink.training import Taps, Update, adam, default_taps, total_steps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.tasks import Task, with_settings
from ganshrink.training.train import Nets, batches_of, fit_nets, states

logger = logging.getLogger(__name__)

DO_WITHOUT = "do without, with method.fusion = 'none' and method.lambda_fea = 0"


def dmad(run: Run, job: Job, config: DmadConfig) -> Result:
    """DMAD: masks that anneal to 0 and 1 while the network trains, then distillation of attention."""
    dense = _dense(job)
    channels = maskable(job.channels)
    first = share_of_each(channels, config.width)
    searched = (
        channels if config.width == 1 else maskable(trace(extract(dense, channels, first), *job.example))
    )

    # What cannot work fails here, before anything is trained.
    paths = config.taps or default_taps(dense, job.example, widest(channels), least=4)
    _check(job, config, dense, paths)
    jobs = job.by_generator()
    equal = torch.zeros(searched.num_atoms)
    limits: Any = {"floor": config.floor, "round_to": config.round_to}
    for name, one in jobs.items():
        try:
            one.check_reachable(lambda budget: bisect_threshold(searched, equal, budget, **limits))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    method = Dmad(run, job, config, jobs, channels, first, searched, paths)
    teachers = {name: _checked(one.teacher(), config) for name, one in jobs.items()}
    found = method.search(teachers)
    plans = {name: Plan.from_json(searched, found["plans"][name]) for name in jobs}
    for name, plan in plans.items():
        cost = searched.cost(plan)
        logger.info("%s: %.4g G MACs (exact), %.4g M parameters", name, cost.macs / 1e9, cost.params / 1e6)
    students = method.distill(teachers, found, plans)
    return Result(
        students=students,
        plans={name: plan.whole(searched, channels, first) for name, plan in plans.items()},
        channels=dict.fromkeys(jobs, channels),
        originals={name: folded_copy(job.original.transform(teachers[name]["G"])) for name in jobs},
        basis={group.name: "mask" for group in channels.groups if group.frozen is None},
    )


@dataclass(frozen=True)
class Dmad:
    """The trainings of a run, and what they share.

    Attributes:
        jobs: of each generator that is made small, by its name in the task's nets.
        channels: the structure of the original generator, with scales for masks to act on.
        first: what of it the search begins with.
        searched: the structure of that.
        paths: where attention is compared.
    """

    run: Run
    job: Job
    config: DmadConfig
    jobs: Mapping[str, Job]
    channels: Channels
    first: Plan
    searched: Channels
    paths: tuple[str, ...]

    def search(self, teachers: Mapping[str, Nets]) -> Artefacts:
        """Section III.B: every net of the task, trained from fresh weights, and a "plans" of what lives in `searched`."""
        job, config = self.job, self.config
        task = job.task.as_student_task(teachers["G"]["G"]) if job.task.needs_teacher else job.task

        def learn(stage: Stage) -> Artefacts:
            logger.info("searching for what may go")
            nets = self._fresh_nets(task)
            steps = total_steps(batches_of(job.data, job.training), job.training)
            step = config.round_to or 1
            floor = -(-config.floor // step) * step
            training = job.training.model_copy(
                update={"compile": False}
            )  # hooks change what the network computes
            searches = {}
            for name, one in self.jobs.items():
                bare = copy.deepcopy(nets[name])  # without the masks' hooks
                settle = partial(one.plan_within, network=bare, channels=self.searched)
                masks = Masks(nets[name], self.searched, shape=config.mask, floor=floor)
                searches[name] = MaskSearch(masks, one.budget, config, steps, settle=settle, of=name)
            updates = self._searching(task, nets, searches)
            masked = {f"masks_{name}": search.masks for name, search in searches.items()}
            fit_nets(
                stage,
                {**nets, **masked},
                task,
                job.data,
                training,
                updates=updates,
                progress=job.progress,
            )
            plans = {}
            for name, search in searches.items():
                plans[name] = search.masks.live().to_json(self.searched)
                search.masks.fold()
            return {**states(nets), "plans": plans}

        settings = config.model_dump(mode="json", include=set(SearchConfig.model_fields))
        budgets = {name: one.limits() for name, one in self.jobs.items()}
        stamp = {"net": repr(job.build()), "method": settings, "budgets": budgets, **job.describe()}
        # It begins anew and looks at no teacher, so that another one changes nothing, unless the task has nothing else.
        return self.run.stage("search", learn, made_from=stamp, after=None if job.task.needs_teacher else ())

    def distill(
        self, teachers: Mapping[str, Nets], found: Artefacts, plans: Mapping[str, Plan]
    ) -> dict[str, nn.Module]:
        """Section III.C: the small generators, trained."""
        job, config = self.job, self.config
        for plan in plans.values():
            check_taps(self.paths, _gone(self.searched, plan))
        task = job.task.with_teachers({name: nets["G"] for name, nets in teachers.items()})
        if config.ndf is not None:
            task = with_settings(task, ndf=config.ndf)
        nets = self._searched_nets(task, found)
        students = {name: extract(nets[name], self.searched, plan) for name, plan in plans.items()}
        nets |= students

        def learn(stage: Stage) -> Artefacts:
            logger.info("teaching the small network, with attention compared at %s", ", ".join(self.paths))
            for name, net in nets.items():
                judging = name.startswith("D")
                anew = config.init == "fresh" and (judging or name in students)
                if anew or (judging and config.ndf is not None):
                    initialise(net)
            with ExitStack() as stack:
                taps: dict[str, Taps] = {}
                lessons = []
                for name, of_teacher in teachers.items():
                    watched = {name: students[name], name.replace("G", "teacher"): of_teacher["G"]}
                    taps |= {
                        net: stack.enter_context(Taps(module, self.paths)) for net, module in watched.items()
                    }
                    judge = copy.deepcopy(of_teacher["D"]) if needs_judge(config) else None
                    lessons.append(DistillationLoss(name, config, judge, self.paths))
                    stack.callback(lessons[-1].close)
                mixes = {f"mix_{lesson.name}": lesson.mixes for lesson in lessons if lesson.mixes}
                updates = self._teaching(task, nets, lessons, mixes.values())
                judges = [lesson.judge for lesson in lessons if lesson.judge is not None]
                options: Any = {"updates": updates, "frozen": judges, "taps": taps, "progress": job.progress}
                fit_nets(stage, {**nets, **mixes}, task, job.data, job.training, **options)
            return states(nets)

        stamp = {"method": config.model_dump(mode="json"), "taps": self.paths, **job.describe()}
        trained = self.run.stage("distill", learn, made_from=stamp)
        for name, student in students.items():
            student.load_state_dict(trained[name])
            student.eval()  # also where the training was done on an earlier occasion
        return students

    def _searching(self, task: Task, nets: Nets, searches: Mapping[str, MaskSearch]) -> list[Update]:
        """The task's own updates, with L_SPA among the generators' losses; the masks' inputs step with the weights."""

        def sparsity(context: Any) -> dict[str, Tensor]:
            sought = {name: search for name, search in searches.items() if search.met_at is None}
            return {f"{name}_spa": search.penalty() for name, search in sought.items()}

        def after(context: Any) -> None:
            if earlier is not None:
                earlier(context)
            for search in searches.values():
                search.step(context.step)

        def watch() -> dict[str, float]:
            ways = {name: name.removeprefix("G") for name in searches}  # live, or live_A and live_B
            return {
                f"{key}{ways[name]}": value
                for name, s in searches.items()
                for key, value in s.watch().items()
            }

        updates = task.updates(nets, [sparsity])
        generation = next(update for update in updates if update.name == "G")
        inputs = [search.masks.inputs for search in searches.values()]
        generation.optimizers = [*generation.optimizers, self._adam(task, inputs, lr=self.config.mask_lr)]
        earlier, generation.after, generation.watch = generation.after, after, watch
        generation.state = {**generation.state, **{f"search_{name}": s for name, s in searches.items()}}
        return updates

    def _teaching(
        self, task: Task, nets: Nets, lessons: Iterable[DistillationLoss], mixes: Iterable[nn.Module]
    ) -> list[Update]:
        """The task's own updates, with what the lessons add to the generators' losses."""

        def terms(context: Any) -> dict[str, Tensor]:
            return {k: v for lesson in lessons for k, v in lesson.losses(context.ways[lesson.name]).items()}

        updates = task.updates(nets, [terms])
        generation = next(update for update in updates if update.name == "G")
        learned = [parameter for mix in mixes for parameter in mix.parameters()]
        if learned:
            generation.optimizers = [*generation.optimizers, self._adam(task, learned)]
        return updates

    def _adam(self, task: Task, parameters: Iterable[nn.Parameter], *, lr: float | None = None) -> Any:
        """As the task trains its generators, perhaps at another rate."""
        settings: Any = task.config
        return adam(parameters, lr=lr or settings.lr, betas=(settings.beta1, settings.beta2))

    def _fresh_nets(self, task: Task) -> Nets:
        """Every net of the task, built anew; those that are searched begin at the search's width."""
        dense = initialise(_dense(self.job))
        nets = task.nets(dense, self.job.data.in_channels, self.job.data.out_channels)
        for name in self.jobs:
            nets[name] = initialise(extract(dense, self.channels, self.first))
        return nets

    def _searched_nets(self, task: Task, found: Artefacts) -> Nets:
        """Every net of the task as the search left it; a discriminator of another width is not there."""
        nets = self._fresh_nets(task)
        for name, net in nets.items():
            if not (name.startswith("D") and self.config.ndf is not None):
                net.load_state_dict(found[name])
        return nets


def _dense(job: Job) -> nn.Module:
    """The original generator, untrained, with scales for masks to act on."""
    return folded_copy(job.original.transform(job.build()))


def _gone(channels: Channels, plan: Plan) -> dict[str, bool]:
    """The modules that a plan takes away, and whether each passes its input on."""
    removed = channels.removed(channels.widths(plan))
    return dict.fromkeys(removed.zeros, False) | dict.fromkeys(removed.identities, True)


def _check(job: Job, config: DmadConfig, dense: nn.Module, paths: tuple[str, ...]) -> None:
    """Refuse taps that catch no feature map, a search of no steps, and a discriminator to look at where none is trained."""
    with Taps(dense.eval(), paths) as taps, torch.no_grad():
        dense(*job.example)
        for path, features in taps.take().items():
            if not isinstance(features, Tensor) or features.ndim != 4:
                raise ValueError(
                    f"method.taps: what {path} puts out is no feature map (B, C, H, W): name another layer"
                )
            if features.shape[2] * features.shape[3] == 1:
                raise ValueError(
                    f"method.taps: attention on a single pixel, as {path} has it, is 1 always: name another layer"
                )
    if total_steps(batches_of(job.data, job.training), job.training) == 0:
        raise ValueError(
            "DMAD searches while it trains, and student.epochs and student.max_steps leave no step to do so"
        )
    if needs_judge(config) and not getattr(job.task.config, "lambda_gan", 0):
        raise ValueError(
            f"DMAD looks at the teacher's discriminator, and task.lambda_gan = 0 trains none: set it, or {DO_WITHOUT}"
        )


def _checked(teacher: Nets, config: DmadConfig) -> Nets:
    """Raises ValueError if the settings look at a discriminator that the teacher came without."""
    if "D" not in teacher and needs_judge(config):
        what = "DMAD looks at the teacher's discriminator, and this teacher came without one"
        raise ValueError(f"{what}: set teacher.discriminator, or {DO_WITHOUT}")
    return teacher
