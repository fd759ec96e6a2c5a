"""DECIG: Shah and Bharaj 2022, "Towards Device Efficient Conditional Image Generation".

Stage I trains a generator from fresh weights on the task's own losses and a penalty that condenses each layer into few
channels (Eqs. 1 and 2). Stage II cuts each layer at its hinge, where its sorted channels fall to nearly nothing, and
finetunes what is left with the network of Stage I as its teacher.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.latency.profiles import DeviceProfile
from ganshrink.methods.base import Job, MaskingConfig, MethodName, Result, Settings, WidthSettings
from ganshrink.methods.decig.hinges import cut_within, decided_together, find_hinges
from ganshrink.methods.decig.section import hinges_section, summary, told
from ganshrink.methods.distill import begun, refit_each, start_of
from ganshrink.pruning import Channels, Plan, extract
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.scores import l1
from ganshrink.pruning.sensitivity import image_change
from ganshrink.quant import spread
from ganshrink.system.distributed import rank_and_world, sum_over_processes
from ganshrink.system.generator import generate
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.tasks import Task
from ganshrink.training.train import Nets, train_stage

logger = logging.getLogger(__name__)

Shape = Literal["uniform", "linear", "exponential"]
Importance = Literal["own", "own_plus_consumer"]

L1 = {"recon", "cycle", "idt"}  # one is in the name of each L1 term of a task; L_l1 of Eq. 2 is their sum


class CondenseConfig(Settings):
    """Stage I: a generator trained so that few channels do the work. Where the paper is silent, a description says so."""

    shape: Shape = Field(
        default="linear", description="f of Eq. 1, by which channels are penalised in order of their size"
    )
    importance: Importance = Field(
        default="own",
        description="a channel's size: L1 norm of the weights that make it (own, the paper's), or of those that read it too "
        "(own_plus_consumer), since a norm undoes what the first lose",
    )
    factor: str = Field(
        default="macs",
        description="l(i) of Eq. 2, by which a layer counts: its exact MACs, or its time on cpu, cuda or the device of a "
        "profile, given by its file",
    )
    ratio: float = Field(
        default=0.1,
        gt=0,
        description="alpha * L_PENAL over the task's weighted L1 terms at the first step: high-reg; low-reg: 0.01",
    )


class CutConfig(WidthSettings):
    """Stage II: where layers are cut, never below 5 %. The paper does it by eye."""

    hinges: dict[str, int] = Field(
        default={}, description="channels to keep by hand, by the name of a group in plan.json; others: found"
    )
    sensitivity: float = Field(
        default=0.02,
        ge=0,
        description="how much the images may change, relative L1, by what is behind one layer's hinge; where it is more, "
        "the hinge moves up. 0: the curves alone decide",
    )
    together: float | None = Field(
        default=None,
        gt=0,
        description="how much they may change by what is behind all hinges, before finetuning: where it is more, "
        "sensitivity is halved until it is not; none: that is told, not limited",
    )
    calibration_images: int = Field(
        default=16, ge=1, description="training images on which that is looked at, spread over the set"
    )

    @property
    def widths(self) -> dict[str, Any]:
        """The least width, and what widths are multiples of."""
        return {"least": self.floor, "round_to": self.round_to or 1}


class FinetuneConfig(Settings):
    """Stage II: the pruned network and its teacher."""

    lambda_kd: float = Field(
        default=50,
        ge=0,
        description="weight of the L1 distance to the image of the network before it was cut; not in the paper",
    )


class DecigConfig(MaskingConfig):
    """DECIG's settings. GAN, cycle and reconstruction losses are the task's."""

    both_ways: ClassVar[bool] = True

    name: Annotated[Literal["decig"], MethodName] = "decig"
    condense: CondenseConfig = CondenseConfig()
    cut: CutConfig = CutConfig()
    finetune: FinetuneConfig = FinetuneConfig()


def decig(run: Run, job: Job, config: DecigConfig) -> Result:
    """DECIG: a penalty condenses layers while they train, hinges cut them, the uncut network teaches."""
    channels, jobs = job.channels, job.by_generator()
    _check(job, config.cut)  # what cannot work fails here, before anything is trained
    factor = config.condense.factor
    assert factor == "macs" or job.device is not None
    factors = layer_factors(channels, job.device(factor) if job.device and factor != "macs" else None)

    # To compare with; a task may have nothing else to learn from.
    teachers = {name: one.teacher() for name, one in jobs.items()}
    taught = job.task.needs_teacher or "latents" in job.task.needs  # whose own losses hold no L1 for alpha
    task = job.task.as_student_task(teachers["G"]["G"]) if taught else job.task

    # Stage I
    condensed = _condense(run, job, task, config, factors)

    # Stage II
    def cut(stage: Stage) -> Artefacts:
        return {n: cut_at_hinges(condensed[n], one, config, n) for n, one in jobs.items()}

    budgets = {name: one.limits() for name, one in jobs.items()}
    stamp = {"macs": channels.cost().macs, "budgets": budgets, "method": config.for_stage("cut")}
    found = run.stage("cut", cut, made_from=stamp, after=("condense",))
    plans = {name: Plan.from_json(channels, found[name]["plan"]) for name in jobs}
    students = _finetune(run, job, task, config, condensed, plans)
    return Result(
        students=students,
        plans=plans,
        channels=dict.fromkeys(jobs, channels),
        originals={name: folded_copy(teachers[name]["G"]) for name in jobs},
        basis=dict.fromkeys(factors, f"L1 ({config.condense.importance})"),
        files={name: {"hinges.json": found[name]["hinges"]} for name in jobs},
        sections={name: [hinges_section(found[name]["hinges"])] for name in jobs},
    )


# Stage I: channel weight and layer device regularization. A layer of the paper is a group here: a residual trunk is one,
# and so are the two halves of a gated convolution.


def penalty(
    net: nn.Module, channels: Channels, *, factors: Mapping[str, float], shape: Shape, importance: Importance
) -> Tensor:
    """L_PENAL (Eq. 2), a scalar: sum over groups of l(i) * L_i, with L_i (Eq. 1) = sum over channels of f(j) * magnitude.

    Channel 1 is the largest, so that small ones are pulled hardest. The paper does not say which way it sorts; the other
    way shrinks the largest most and makes channels alike. Ranks are constants in the gradient: l(i) f(j) sign(w)."""
    terms = []
    for name, values in magnitudes(net, channels, importance).items():
        falling = values[values.detach().argsort(descending=True, stable=True)]
        f = channel_factors(len(values), shape, device=values.device).to(values.dtype)
        terms.append(factors[name] * (f * falling).sum())
    if not terms:
        raise ValueError("no channel of this network may be cut, so there is nothing to condense")
    return torch.stack(terms).sum()


def channel_factors(n: int, shape: Shape, *, device: torch.device | None = None) -> Tensor:
    """(n,) f(j) of Eq. 1 for j = 1 .. n: 1, j, or e^(0.01 j)."""
    j = torch.arange(1, n + 1, dtype=torch.float32, device=device)
    return {"uniform": torch.ones_like(j), "linear": j, "exponential": (0.01 * j).exp()}[shape]


def magnitudes(net: nn.Module, channels: Channels, importance: Importance) -> dict[str, Tensor]:
    """gamma of section 3 per free group, (len(group),): the L1 norm of the weights that make each of its channels.

    With `own_plus_consumer`, which is not in the paper, also of those that read it: a norm undoes what the first lose."""
    of_all = l1(net, channels, readers=importance == "own_plus_consumer")
    parts = of_all.split([len(group) for group in channels.groups])  # atoms are numbered group by group
    return {g.name: part for g, part in zip(channels.groups, parts, strict=True) if g.frozen is None}


def layer_factors(channels: Channels, profile: DeviceProfile | None = None) -> dict[str, float]:
    """l(i) of Eq. 2 per free group, divided by their mean (which is ours, so that alpha can be read).

    The exact multiply-accumulates of a layer, the paper's "DECIG MAC", or its milliseconds on a device with those of the
    norms and activations after it ("DECIG CPU", "GPU"); every call of a shared layer counts. For a group that several
    layers add up to it is their mean: `magnitudes` sums over these layers already. What a depthwise convolution costs
    goes to the layer whose channels it filters."""
    costs = channels.macs_by_group() if profile is None else profile.times().by_group(channels)
    of_one = {
        group.name: float(cost) / max(1, len(group.producers))
        for group, cost in zip(channels.groups, costs, strict=True)
        if group.frozen is None
    }
    mean = sum(of_one.values()) / max(1, len(of_one)) or 1.0
    return {name: cost / mean for name, cost in of_one.items()}


class Alpha:
    """alpha of Eq. 2: found at the first step, then kept."""

    value: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]


def calibrated(penals: Mapping[str, Tensor], terms: Mapping[str, Tensor], ratio: float) -> float:
    """alpha of Eq. 2: alpha * L_PENAL / L_l1 is `ratio` at the first step, with L_l1 as it enters the loss, weighted.

    Raises:
        ValueError: if L_PENAL or L_l1 is not a number above 0.
    """
    distances = [value.detach() for name, value in terms.items() if L1 & {*name.split("_")}]
    l_l1 = sum_over_processes(sum(distances, torch.zeros(()))).item() / rank_and_world()[1]
    l_penal = torch.stack(list(penals.values())).sum().item()
    for name, value in {"L_PENAL": l_penal, "L_l1": l_l1}.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"alpha cannot be found: {name} is {value:g} at the first step, not above 0")
    return ratio * l_l1 / l_penal


def _condense(run: Run, job: Job, task: Task, config: DecigConfig, factors: Mapping[str, float]) -> Nets:
    """Stage I: every net of the task, trained from fresh weights under the penalty."""
    job = job.for_search()
    settings, channels, names = config.condense, job.channels, list(job.by_generator())
    sorting: Any = {"shape": settings.shape, "importance": settings.importance}

    def make() -> Nets:
        return job.nets(job.original.fresh(), task)

    def learn(stage: Stage, nets: Nets) -> Artefacts:
        logger.info("condensing layers into few channels")
        alpha, updates = Alpha(), task.updates(nets)
        generation = next(update for update in updates if update.name == "G")
        own = generation.losses

        def penalised(context: Any) -> Iterator[dict[str, Tensor]]:
            for terms in own(context):
                penals = {name: penalty(nets[name], channels, factors=factors, **sorting) for name in names}
                alpha.value = alpha.value or calibrated(penals, terms, settings.ratio)
                yield {**terms, **{f"{name}_penal": alpha.value * penal for name, penal in penals.items()}}

        generation.losses, generation.state = penalised, {**generation.state, "alpha": alpha}
        job.fit(stage, nets, task, updates=updates)
        return {"alpha": alpha.state_dict()}

    method = config.for_stage("condense")
    method["condense"]["factor"] = dict(factors)  # what layers take on a device, whatever it is called
    stamp = {**job.original.describe(), "condensed": names, "method": method, **job.describe()}
    after = () if task is job.task and not task.needs_teacher else None
    return train_stage(run, "condense", make, learn, made_from=stamp, after=after)[0]


# Stage II: pruning and distillation


def cut_at_hinges(network: nn.Module, job: Job, config: DecigConfig, name: str = "G") -> dict[str, Any]:
    """The plan that cuts each layer at its hinge, or all of them together for the budget; and what hinges.json says of it.

    `name` is the generator's, for the log."""
    settings, channels, importance = config.cut, job.channels, config.condense.importance
    sizes = {key: size.detach() for key, size in magnitudes(network, channels, importance).items()}
    hinges = find_hinges(channels, sizes, by_hand=settings.hinges, **settings.widths)
    looked: dict[str, Any] = {}
    change = None
    if settings.sensitivity:
        looked = {"sensitivity": settings.sensitivity, "calibration_images": settings.calibration_images}
        change = image_change(network, channels, spread(job.data, settings.calibration_images))
        limits: Any = {"together": settings.together, **settings.widths}
        hinges, eps = decided_together(hinges, channels, sizes, change, settings.sensitivity, **limits)
        if settings.together is not None:
            looked |= {"together": settings.together, "sensitivity": eps}  # what it was lowered to
    within = partial(cut_within, channels, sizes, hinges, **settings.widths)
    plan = job.plan_within(within, network, channels)
    if change:
        looked["change"] = change((~plan.keep).nonzero().flatten())
    kept = {group.name: int(plan.keep[group.atoms].sum()) for group in channels.groups}
    layers = [told(key, size, hinges[key], kept[key]) for key, size in sizes.items()]
    said = {"importance": importance, **looked, "layers": layers}
    logger.info("%s: %s", name, summary(said))
    logger.info("%s: %s", name, channels.summary(plan))
    return {"plan": plan.to_json(channels), "hinges": said}


def _finetune(
    run: Run, job: Job, task: Task, config: DecigConfig, condensed: Nets, plans: Mapping[str, Plan]
) -> Nets:
    """The small generators, finetuned on the task's losses, the network before the cut as their teacher."""
    weight, start = config.finetune.lambda_kd, start_of(job, "inherit")
    before = {name: condensed[name] for name in plans}
    small = {name: extract(condensed[name], job.channels, plan) for name, plan in plans.items()}

    def remembered(context: Any) -> dict[str, Tensor]:
        losses = {}
        for name, network in before.items():
            way = context.ways[name]
            with torch.no_grad():
                taught = generate(network, way.input)
            losses[f"{name}_kd"] = weight * l1_loss(way.fake.float(), taught.float())
        return losses

    def learn(stage: Stage, nets: Nets) -> Artefacts:
        kept = refit_each(small, before, job, start)
        logger.info("finetuning what is left")
        terms = [remembered] if weight else []
        job.fit(stage, nets, task, terms=terms, frozen=list(before.values()))
        return kept

    kept = {name: plan.to_json(job.channels)["layers"] for name, plan in plans.items()}
    stamp = {"method": config.for_stage("finetune"), "plans": kept, **job.describe()}
    # plans say all that the cut decides; discriminators go on from Stage I, the other way's generator too
    make, after = lambda: condensed | {k: begun(net, start) for k, net in small.items()}, ("condense",)
    nets, _ = train_stage(run, "finetune", make, learn, made_from=stamp, after=after)
    return {name: nets[name] for name in plans}


def _check(job: Job, settings: CutConfig) -> None:
    """Refuse budgets and hinges that cannot be, a training of no steps, and one without an L1 term."""
    channels = job.channels
    equal = {group.name: torch.ones(len(group)) for group in channels.free}
    hinges = find_hinges(channels, equal, by_hand=settings.hinges, **settings.widths)
    job.check_reachable(partial(cut_within, channels, equal, hinges, **settings.widths))
    if job.steps == 0:
        raise ValueError("DECIG condenses while it trains: set student.epochs or student.max_steps above 0")
    weight = "lambda_cycle" if job.task.both_ways else "lambda_recon"
    if not getattr(job.task.config, weight, 0):
        raise ValueError(f"alpha cannot be found: L_l1 is 0 with task.{weight} = 0: set it above 0")
