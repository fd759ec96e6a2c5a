"""The job that a method is given: a generator, a teacher on request, a task, data and a budget; and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from ganshrink.data import Batches, Images, PairedWithUnlabelled
from ganshrink.latency.plan_by_timing import Stopwatch, plan_within_time
from ganshrink.latency.profiles import DeviceProfile, ProfiledTimes
from ganshrink.metrics import MetricsConfig
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.quant import QuantConfig
from ganshrink.system.distributed import rank_and_world
from ganshrink.training import FitConfig, Forward, Taps, Update, fit
from ganshrink.training.stages import Run, Stage
from ganshrink.training.tasks import Task, Term

Nets = dict[str, nn.Module]
ROOM = 1.5  # by which estimates of milliseconds may be off before a budget is refused for them


# Settings that change how a training is watched and where it runs, not what it is.
INCIDENTAL = {
    "log_every",
    "tensorboard",
    "checkpoint_minutes",
    "checkpoint_steps",
    "accelerator",
    "devices",
    "threads",
    "workers",
}


class Training(FitConfig):
    """How one network is trained."""

    batch_size: int = Field(default=1, ge=1, description="images a step, for each process")

    def decisive(self) -> dict[str, Any]:
        """The settings that decide what comes out, for a stage's stamp."""
        return self.model_dump(mode="json", include=Training.model_fields.keys() - INCIDENTAL)


@dataclass(frozen=True)
class Job:
    """What is to be made small, and with what.

    Attributes:
        build: the original generator, freshly initialised.
        teacher: the trained nets, `{"G": generator}` and, where there is one, `"D"`; made when first called.
        task: what is optimised.
        data: the training images.
        example: inputs of the size at which costs count.
        budget: what the student may cost, in absolute numbers.
        training: how the student is trained.
        progress: whether to show a progress bar.
        back: the job of the other direction, where a method makes the students of both in one training.
        device: the profile of a device by its name (`cpu`, `cuda`, or a file), for the original generator.
        stopwatch: times what a plan leaves, where the budget is in milliseconds of the machine at hand.
        unlabelled: inputs to train on that have no target; none: there are none. A method that learns from them adds their
            fingerprint to its stamps.
        metrics: what the result will be scored by, and where the judging networks' weights are.
    """

    build: Callable[[], nn.Module]
    teacher: Callable[[], Nets]
    task: Task
    data: Images
    example: tuple[Tensor, ...]
    budget: Budget
    training: Training
    progress: bool = True
    back: "Job | None" = None
    device: Callable[[str], DeviceProfile] | None = None
    stopwatch: Stopwatch | None = None
    unlabelled: Images | None = None
    metrics: MetricsConfig = MetricsConfig()

    def by_generator(self) -> dict[str, "Job"]:
        """The jobs of the generators that are made small, by the names that the task's own training gives these."""
        if not self.task.both_ways:
            return {"G": self}
        return {"G_A": self} | ({"G_B": self.back} if self.back is not None else {})

    def plan_within(self, propose: Callable[[Budget], Plan], network: nn.Module, channels: Channels) -> Plan:
        """The plan that a method proposes for the budget; one in milliseconds is measured before it is accepted.

        Args:
            propose: a method's plan for a budget. Called once, or where the budget is in milliseconds until a plan keeps
                it.
            network: what the plan is of; its weights play no part.

        Raises:
            ValueError: what `propose` raises, or that no plan is as fast, with the time of the fastest.
        """
        if self.stopwatch is None:
            return propose(self.budget)
        return plan_within_time(propose, self.budget, self.stopwatch, network, channels)

    def check_reachable(self, propose: Callable[[Budget], Plan]) -> None:
        """Refuse at once a budget that clearly cannot be met; in milliseconds with room for how far estimates are off.

        Raises:
            ValueError: what `propose` raises.
        """
        limit = self.budget.latency
        if limit is None or self.stopwatch is None:
            propose(self.budget)
            return
        try:
            propose(self.budget.with_latency(limit.at(ROOM * limit.amount)))
        except ValueError:
            propose(self.budget)  # which cannot be met either, and says so in its own numbers
            raise

    def limits(self) -> str:
        """The budget for a stage's stamp: in milliseconds with what the device's profile holds, not what it is called."""
        limit = self.budget.latency
        if limit is None or not isinstance(limit.times, ProfiledTimes):
            return str(self.budget)
        return f"{self.budget} by {limit.times.profile.fingerprint()}"

    def timing(self, network: nn.Module, channels: Channels, plan: Plan) -> dict[str, Any] | None:
        """What a plan takes on the budget's device, JSON-ready; None where the budget is not in milliseconds."""
        limit = self.budget.latency
        if limit is None or not isinstance(limit.times, ProfiledTimes):
            return None
        profile = limit.times.profile
        measured = None if self.stopwatch is None else self.stopwatch(network, channels, plan)
        return {
            "device": profile.describe(),
            "runtime": profile.runtime,
            "original_ms": profile.original,
            "estimated_ms": limit.times(channels, channels.widths(plan)),
            "measured_ms": measured,
        }

    def describe(self) -> dict[str, Any]:
        """What decides a training's result besides the stages before it, for a stage's stamp."""
        return describe(self.task, self.data, self.training)


@dataclass(frozen=True)
class Result:
    """What a method gives back. One student is the rule, "G"; a method that makes those of both directions names them
    "G_A" and "G_B".

    Attributes:
        students: the small generators, trained.
        plans: their cuts, one boolean per atom of `channels`.
        channels: the channel structure of `originals`.
        originals: the networks that the plans cut: the teacher, perhaps with norms made affine.
        affine: whether norms were made affine.
        extra_blocks: how many residual blocks were inserted at each place (see nets.extra_blocks), before the cut.
        quantization: the quantizers that the students were trained under; none: they were trained in float.
        basis: what each group's scores were read from, by group name.
        hinges: of each student, what its hinges.json says, where a method cuts at hinges.
        search: what search.json says of the networks that a method searched for, where it did.
    """

    students: Nets
    plans: dict[str, Plan]
    channels: dict[str, Channels]
    originals: Nets
    affine: bool = False
    extra_blocks: int = 0
    quantization: QuantConfig | None = None
    basis: Mapping[str, str] = field(default_factory=dict)
    hinges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None

    def for_direction(self, name: str) -> "Result":
        """Of several students one alone, as "G"."""
        return replace(
            self,
            students={"G": self.students[name]},
            plans={"G": self.plans[name]},
            channels={"G": self.channels[name]},
            originals={"G": self.originals[name]},
            hinges={"G": self.hinges[name]} if name in self.hinges else {},
        )


class Method(Protocol):
    """One published method: reads like its paper, calls shared verbs, imports no other method."""

    def __call__(self, run: Run, job: Job, config: Any) -> Result: ...


def fit_nets(
    stage: Stage,
    nets: Nets,
    task: Task,
    data: Images,
    training: Training,
    *,
    terms: Sequence[Term] = (),
    updates: Sequence[Update] | None = None,
    frozen: Sequence[nn.Module] = (),
    taps: Mapping[str, Taps] | None = None,
    unlabelled: Images | None = None,
    forward: Forward | None = None,
    progress: bool = True,
) -> None:
    """Train `nets` in place for as long as `training` says, going on from the stage's last checkpoint.

    Afterwards they, and whatever looks on, are on the CPU in eval mode, whatever device they were trained on.

    Args:
        terms: losses that join the generator's.
        updates: what a step does in place of the task's own updates; `terms` are then not read.
        frozen: networks that only look on, beside the task's own (its teacher).
        unlabelled: inputs without targets, of which each batch then holds as many as pairs, under "unlabelled"; how long an
            epoch is the pairs alone decide.
        forward: makes the context of a step in place of the task's own, for `updates` that ask for more.
    """
    watching = (*task.frozen, *frozen)
    pairs = batches_of(data, training)
    fit(
        nets,
        task.updates(nets, terms) if updates is None else updates,
        pairs
        if unlabelled is None
        else PairedWithUnlabelled(pairs, batches_of(unlabelled, training, beside=True)),
        training,
        forward=forward or task.forward(nets, taps),
        directory=stage.path,
        name=stage.path.name,
        key=stage.key,
        frozen=watching,
        progress=progress,
    )
    for network in (*nets.values(), *watching):
        network.cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def states(nets: Nets) -> dict[str, Any]:
    """What a stage keeps of its networks."""
    return {name: net.state_dict() for name, net in nets.items()}


def batches_of(data: Images, training: Training, *, beside: bool = False) -> Batches:
    """The batches of a training, those of this process among several; `beside` others, if these run beside them."""
    rank, world = rank_and_world()
    size, seed, workers = training.batch_size, training.seed, training.workers
    return Batches(data, batch_size=size, seed=seed, workers=workers, rank=rank, world=world, beside=beside)


def describe(task: Task, data: Images, training: Training) -> dict[str, Any]:
    """What decides a training's result, JSON-ready; how often it reports or saves does not."""
    return {
        "task": task.config.model_dump(mode="json"),
        "data": data.fingerprint(),
        "training": training.decisive(),
        "processes": rank_and_world()[1],  # they multiply the batch
    }
