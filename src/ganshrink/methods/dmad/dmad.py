"""DMAD: Li et al., "Learning Efficient GANs for Image Translation via Differentiable Masks and co-Attention Distillation".

A generator and its masks are trained together from fresh weights, with a fresh discriminator, on the task's own losses and a
pull towards sparsity, until what lives fits the budget (section III.B, `search.py`). What is left goes on training with its
weights and its discriminator, on the same losses, while its attention is drawn to that of the trained teacher and its
discriminator (section III.C). The generators of a CycleGAN are made small together, each to its own budget.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from ganshrink.graph import trace
from ganshrink.losses import Fusion, attention_loss, attention_map, co_attention, feature_distance, nearest
from ganshrink.methods.base import Job, MaskingConfig, MethodName, Result, Settings
from ganshrink.methods.distill import refit_each, start_of, widest
from ganshrink.methods.dmad.search import SearchConfig, search_masks, stamp
from ganshrink.methods.original import Transforms
from ganshrink.pruning import Plan, extract, initialise
from ganshrink.pruning.allocate import share_of_each
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.removal import Removed
from ganshrink.pruning.search.masks import maskable
from ganshrink.system.copies import copied
from ganshrink.training import Taps, activations, check_maps, default_taps, extended
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.taps import features_of
from ganshrink.training.tasks import GeneratorPass, Task, with_settings
from ganshrink.training.tasks.task import adam_of
from ganshrink.training.train import Nets, train_stage

logger = logging.getLogger(__name__)

DO_WITHOUT = "do without, with method.distill.fusion = 'none' and method.distill.lambda_fea = 0"


class DistillConfig(Settings):
    """How the small generator is taught (section III.C)."""

    init: Literal["inherit", "fresh"] = Field(
        default="inherit",
        description="the student goes on with the searched weights and discriminator, or begins anew (Table IV's Scratch)",
    )
    ndf: PositiveInt | None = Field(
        default=None, description="width of a new discriminator (Table VII); none: the searched one goes on"
    )
    lambda_att: NonNegativeFloat | None = Field(
        default=None,
        description="weight of the co-attention loss (Eq. 9); none: the paper's, 50 where images are in pairs (Pix2Pix; its "
        "code: 10), 10 for latent vectors (SAGAN, StyleGAN2), else 100 (CycleGAN)",
    )
    attention_norm: Literal["mean", "sum"] = Field(
        default="mean",
        description="of Eq. 9 over the pixels of a map: mean, the code's, for which these weights are made: at 64x64 100 is "
        "0.0244 of the sum; or the printed sum",
    )
    attention: Literal["sum", "mean"] = Field(
        default="sum", description="over channels (Eq. 7); the code's: mean, which matters only in Eq. 8"
    )
    fusion: Fusion = Field(
        default="sum",
        description="of the generator's and the discriminator's attention (Eq. 8); multiply, conv: Table V's ablation; "
        "none: the generator's alone (Table IV's G-Attention)",
    )
    judge_weight: NonNegativeFloat = Field(
        default=0.5, description="of the discriminator's attention in it; the code's mobile Pix2Pix: 0.25"
    )
    judge_layers: PositiveInt = Field(
        default=1, description="how many of the discriminator's layers: the nearest in size (Table VI)"
    )
    judge_gradient: bool = Field(
        default=True,
        description="let the gradient reach the student through the discriminator's attention to its image too, as in the "
        "code; the paper does not say",
    )
    lambda_fea: NonNegativeFloat = Field(
        default=1e-4, description="weight of the distance between the discriminator's features (Eq. 10)"
    )
    feature_norm: Literal["squared", "plain"] = Field(
        default="squared",
        description="of that distance: squared and averaged over images as in the paper, or the code's plain L2 norm of the "
        "whole batch",
    )
    taps: tuple[str, ...] | None = Field(
        default=None,
        description="modules of the generator whose attention is compared; none: four, evenly spaced along the widest "
        "group, of maps of at least 4x4; on a ResNet the paper's",
    )

    @property
    def judged(self) -> bool:
        """Whether these settings look at the teacher's discriminator."""
        return bool(self.lambda_fea or (self.lambda_att != 0 and self.fusion != "none"))


class DmadConfig(MaskingConfig):
    """DMAD's settings. GAN, cycle and reconstruction losses are the task's."""

    both_ways: ClassVar[bool] = True
    name: Annotated[Literal["dmad"], MethodName] = "dmad"
    search: SearchConfig = SearchConfig()
    distill: DistillConfig = DistillConfig()

    def for_trial(self) -> tuple[Self, Mapping[str, float]]:
        return self.model_copy(update={"search": self.search.model_copy(update={"if_missed": "trim"})}), {}

    def transforms(self) -> Transforms:
        """Masks act on the scales of norms: those without get some."""
        return {"affine": True}

    def for_task(self, task: Task) -> "DmadConfig":
        """These settings with the paper's weights for the task where none are given (section IV.A)."""
        lambda_spa, lambda_att = (0.01, 50.0) if "pairs" in task.needs else (0.001, 100.0)
        if "latents" in task.needs:  # SAGAN, StyleGAN2
            lambda_att = 10.0
        search, distill = self.search, self.distill
        if search.lambda_spa is None:
            search = search.model_copy(update={"lambda_spa": lambda_spa})
        if distill.lambda_att is None:
            distill = distill.model_copy(update={"lambda_att": lambda_att})
        return self.model_copy(update={"search": search, "distill": distill})


def dmad(run: Run, job: Job, config: DmadConfig) -> Result:
    """DMAD: masks that anneal to 0 and 1 while the network trains, then distillation of attention."""
    config = config.for_task(job.task)
    jobs, original, channels = job.by_generator(), job.original, maskable(job.channels)
    first = share_of_each(channels, config.search.width)  # what the search begins with, and its structure
    network, searched = original.network, channels
    if config.search.width < 1:
        network = extract(network, channels, first)
        searched = maskable(trace(network, *job.example, exact=True))

    # What cannot work fails here, before anything is trained.
    paths = config.distill.taps or default_taps(original.network, job.example, widest(channels), least=4)
    _check(job, config.distill, paths)
    equal = torch.zeros(searched.num_atoms)
    job.check_reachable(partial(config.search.plan, searched, equal), network, searched)
    teachers = {name: one.teacher() for name, one in jobs.items()}
    if config.distill.judged and not all("D" in trained for trained in teachers.values()):
        what = "DMAD looks at the teacher's discriminator, and this teacher came without one"
        raise ValueError(f"{what}: set teacher.discriminator, or {DO_WITHOUT}")

    # Section III.B. It begins anew and looks at no teacher, so that another one changes nothing, unless the task needs one.
    task = job.task.as_student_task(teachers["G"]["G"]) if job.task.needs_teacher else job.task

    def begin() -> Nets:
        dense = original.fresh()
        return job.nets(dense, task) | {name: initialise(extract(dense, channels, first)) for name in jobs}

    decided, until = stamp(job.for_search(), config.search)
    decided |= {**job.original.describe(), "method": config.for_stage("")}
    search = partial(search_masks, job=job.for_search(), config=config.search, task=task, channels=searched)
    after = None if job.task.needs_teacher else ()
    nets, found = train_stage(run, "search", begin, search, made_from=decided, after=after, until=until)
    plans = {name: Plan.from_json(searched, found["plans"][name]) for name in jobs}
    whole: Nets = {}
    for name, plan in plans.items():
        logger.info("%s: %s", name, searched.summary(plan))
        check_taps(paths, searched.removed(searched.widths(plan)))
        whole[name] = nets[name]
        nets[name] = extract(nets[name], searched, plan)

    # Section III.C
    nets = distill(run, job, config, paths, teachers, nets, whole)
    return Result(
        students={name: nets[name] for name in jobs},
        plans={name: plan.whole(searched, channels, first) for name, plan in plans.items()},
        channels=dict.fromkeys(jobs, channels),
        originals={name: folded_copy(original.transform(teachers[name]["G"])) for name in jobs},
        basis={group.name: "mask" for group in channels.free},
    )


def distill(
    run: Run,
    job: Job,
    config: DmadConfig,
    paths: Sequence[str],
    teachers: Mapping[str, Nets],
    nets: Nets,
    whole: Nets,
) -> Nets:
    """Section III.C: every net of the task, trained.

    Args:
        paths: where attention is compared.
        teachers: the trained nets, by the names of the generators that were made small.
        nets: as the search left them; these generators are cut.
        whole: these generators before the cut.
    """
    settings, new = config.distill, set()  # what of the nets begins anew
    start = start_of(job, settings.init)
    task: Any = job.task.with_teachers({name: trained["G"] for name, trained in teachers.items()})
    judges = {name for name in nets if name.startswith("D")}
    if settings.ndf is not None:
        task = with_settings(task, ndf=settings.ndf)
        others = job.nets(job.build(), task)
        nets, new = nets | {name: others[name] for name in judges}, judges
    if start == "fresh":
        new = judges | teachers.keys()

    def begin() -> Nets:
        return {name: initialise(net) if name in new else net for name, net in nets.items()}

    def learn(stage: Stage, nets: Nets) -> Artefacts:
        kept = refit_each(nets, whole, job, start)
        logger.info("teaching the small network, with attention compared at %s", ", ".join(paths))
        with ExitStack() as stack:
            lessons = [DistillationLoss(name, settings, of.get("D"), paths) for name, of in teachers.items()]
            tapped = {name: nets[name] for name in teachers}
            tapped |= {name.replace("G", "teacher"): of["G"] for name, of in teachers.items()}
            taps = {name: stack.enter_context(Taps(net, paths)) for name, net in tapped.items()}

            def terms(context: Any) -> dict[str, Tensor]:  # Eq. 11, where L_SPA has done its part
                return {k: v for one in lessons for k, v in one.losses(context.ways[one.name]).items()}

            mixes = {f"mix_{lesson.name}": lesson.mixes for lesson in lessons if lesson.mixes}
            learned = [parameter for mix in mixes.values() for parameter in mix.parameters()]
            more = [adam_of(task.config, learned)] if learned else []
            updates = extended(task.updates(nets, [terms]), "G", optimizers=more)
            judges = [lesson.judge for lesson in lessons if lesson.judge is not None]
            job.fit(stage, {**nets, **mixes}, task, updates=updates, taps=taps, frozen=judges)
        return kept

    made_from = {"method": config.for_stage("distill"), "taps": paths, **job.describe()}
    return train_stage(run, "distill", begin, learn, made_from=made_from)[0]


class DistillationLoss:
    """The co-attention loss (Eqs. 7 to 9) and the distance between the discriminator's features (Eq. 10), for one student.

    Args:
        name: the student's, such as "G_A": its terms are `{name}_att` and `{name}_fea`.
        judge: the teacher's discriminator, of which a copy looks on; none where the settings look at none.
        paths: where generators are tapped.
    """

    def __init__(
        self, name: str, config: DistillConfig, judge: nn.Module | None, paths: Sequence[str]
    ) -> None:
        self.name, self.config, self.paths = name, config, paths
        self.mixes = nn.ModuleList([nn.Conv2d(2, 1, 1) for _ in paths] if config.fusion == "conv" else [])
        self.judge = copied(judge) if config.judged and judge is not None else None

    def losses(self, way: GeneratorPass) -> dict[str, Tensor]:
        """The weighted terms of a step, from one way of its context."""
        config, losses = self.config, {}
        judged = self._judged(way.seen(way.fake))
        assert config.lambda_att is not None  # `DmadConfig.for_task`
        if config.lambda_att:
            losses[f"{self.name}_att"] = config.lambda_att * self._attention(way, judged)
        if config.lambda_fea:  # Eq. 10, of what enters the last convolution
            with torch.no_grad():
                taught = self._judged(way.seen(way.taught))
            distance = feature_distance(judged[-1], taught[-1], norm=config.feature_norm)
            losses[f"{self.name}_fea"] = config.lambda_fea * distance
        return losses

    def _judged(self, seen: Tensor) -> list[Tensor]:
        """The discriminator's features, layer by layer."""
        return [] if self.judge is None else features_of(self.judge, seen, activations(self.judge))

    def _attention(self, way: GeneratorPass, judged: Sequence[Tensor]) -> Tensor:
        config, learnt, taught = self.config, way.features("G"), way.features("teacher")
        attention = partial(attention_map, reduction=config.attention)  # Eq. 7
        sizes = [(learnt[path].shape[2], learnt[path].shape[3]) for path in self.paths]
        chosen = nearest(judged, sizes, config.judge_layers)
        looked = [attention(layer if config.judge_gradient else layer.detach()) for layer in chosen]
        fused = partial(co_attention, fusion=config.fusion, judge_weight=config.judge_weight)  # Eq. 8
        distances = []
        for path, mix in zip(self.paths, self.mixes or [None] * len(self.paths), strict=True):
            target = fused(attention(taught[path]), looked, mix=mix)
            ours = attention(learnt[path])
            distances.append(attention_loss(ours, target, norm=config.attention_norm))  # Eq. 9
        return torch.stack(distances).sum()


def check_taps(paths: Sequence[str], removed: Removed) -> None:
    """Refuse taps inside what the search took away; what now passes its input on can be tapped itself."""
    for path in paths:
        gone = path if path in removed.zeros else removed.around(path)
        if gone is not None:
            raise ValueError(
                f"method.distill.taps: the search left nothing of {gone}, so {path} cannot be tapped: name the sum that "
                "it is part of, or another layer (the search itself is kept)"
            )


def _check(job: Job, config: DistillConfig, paths: Sequence[str]) -> None:
    """Refuse taps that catch no feature map, a search of no steps, and a discriminator to look at where none is trained."""
    check_maps(job.original.network, paths, job.example)
    if job.steps == 0:
        raise ValueError(
            "DMAD searches while it trains, and student.epochs and student.max_steps leave no step for it"
        )
    if config.judged and not getattr(job.task.config, "lambda_gan", 0):
        raise ValueError(
            f"DMAD looks at the teacher's discriminator, and task.lambda_gan = 0 trains none: set it, or {DO_WITHOUT}"
        )
