"""What a method is given (a job) and gives back (students and their cuts), and where its settings stand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganshrink.data import Images
from ganshrink.latency.plan_by_timing import Stopwatch, plan_within_time
from ganshrink.latency.profiles import DeviceProfile, ProfiledTimes
from ganshrink.methods.original import Original, Transforms
from ganshrink.metrics import MetricsConfig
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.quant import QuantConfig
from ganshrink.reports.section import Section
from ganshrink.training import total_steps
from ganshrink.training.stages import Run, Stage
from ganshrink.training.tasks import Task, Term
from ganshrink.training.train import Nets, StudentTraining, Training, batches_of, describe, fit_nets
from ganshrink.training.validation import Validation

ROOM = 1.5  # by which estimates of milliseconds may be off before a budget is refused for them


class Settings(BaseModel):
    """A table of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Floor = Annotated[int, Field(ge=1, description="the least width of a layer outside the branches")]
RoundTo = Annotated[
    int | None,
    Field(
        ge=1,
        description="widths are multiples of this; none: 1, or for a budget in milliseconds what the device likes",
    ),
]


class WidthSettings(Settings):
    """A table of settings with those that say how wide layers may be."""

    floor: Floor = 1
    round_to: RoundTo = None

    def plan(self, channels: Channels, scores: Tensor, budget: Budget) -> Plan:
        """The plan of the highest scores that keeps a budget; see `bisect_threshold`."""
        return bisect_threshold(channels, scores, budget, floor=self.floor, round_to=self.round_to)


MethodName = Field(description="the method, as `ganshrink methods` lists them")


class MethodConfig(Settings):
    """A method's settings, `[method]` of a recipe. Those of one stage stand in a table that has the stage's name; those in
    `[method]` itself are for all of its stages. So a stage's stamp needs no list of names: see `for_stage`."""

    both_ways: ClassVar[bool] = False
    """Whether the method makes the students of both directions at once, in one training."""
    student_net: ClassVar[bool] = False
    """Whether the student may be cut out of another network than the teacher, with fresh weights."""
    renamed: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Keys of earlier versions, and where in `[method]` their values stand now."""

    exact: bool = Field(
        default=False,
        description="keep whole what layer norms and group norms run over: a cut changes their statistics",
    )

    def transforms(self) -> Transforms:
        """What the method does to a generator before it cuts it."""
        return {}

    def for_trial(self) -> tuple[Self, Mapping[str, float]]:
        """The settings of a trial, whose trainings are a few steps and lead nowhere: with searches that are short and accept
        that; and by stage how many times longer it takes in earnest."""
        return self, {}

    def for_stage(self, name: str) -> dict[str, Any]:
        """What of the settings decides a stage, JSON-ready: the fields of `[method]` itself, and the stage's table. Not
        where a file lies: a stamp has its hash beside this."""
        others = {k for k, v in self if isinstance(v, Path) or (isinstance(v, Settings) and k != name)}
        return self.model_dump(mode="json", exclude=others)


class MaskingConfig(MethodConfig):
    """Settings of a method that trains a network with masks, under which it must be what its cut will be."""

    exact: Literal[True] = Field(
        default=True,
        description="what layer norms and group norms run over stays whole: masks do not tell its cut",
    )


@dataclass(frozen=True)
class Job:
    """What is to be made small, and with what.

    Attributes:
        original: the generator, untrained, and its structure.
        teacher: the trained nets, `{"G": generator}` and, where there is one, `"D"`; made when first called.
        task: what is optimised.
        data: the training images.
        budget: what the student may cost, in absolute numbers.
        training: how the student is trained.
        progress: whether to show a progress bar.
        back: the job of the other direction, where a method makes the students of both in one training.
        device: the profile of a device by its name (`cpu`, `cuda`, or a file), for the original generator.
        stopwatch: times what a plan leaves, where the budget is in milliseconds of the machine at hand.
        unlabelled: inputs to train on that have no target; none: there are none. A method that learns from them adds their
            fingerprint to its stamps.
        metrics: what the result will be scored by, and where the judging networks' weights are.
        validation: what the student is scored on while it is trained; none: it is not.
        student_net: another network that the student is cut out of, untrained; none: the original.
    """

    original: Original
    teacher: Callable[[], Nets]
    task: Task
    data: Images
    budget: Budget
    training: StudentTraining
    progress: bool = True
    back: "Job | None" = None
    device: Callable[[str], DeviceProfile] | None = None
    stopwatch: Stopwatch | None = None
    unlabelled: Images | None = None
    metrics: MetricsConfig = MetricsConfig()
    validation: Validation | None = None
    student_net: Original | None = None

    @property
    def whole(self) -> Original:
        """The network that the student is cut out of."""
        return self.student_net or self.original

    @property
    def channels(self) -> Channels:
        """The structure that plans cut: that of the original generator after the method's transforms."""
        return self.original.channels

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the size at which costs count."""
        return self.original.example

    def build(self) -> nn.Module:
        """The original generator as it came, freshly initialised."""
        return self.original.build()

    def for_search(self) -> "Job":
        """The same for a training that only finds out what to cut; see `Training.for_search`."""
        return replace(self, training=self.training.for_search())

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

    def check_reachable(
        self,
        propose: Callable[[Budget], Plan],
        network: nn.Module | None = None,
        channels: Channels | None = None,
    ) -> None:
        """Refuse at once a budget, of any of the generators, that cannot be met; one in milliseconds by estimates first,
        with room for how far they are off, then by measuring: some plan must keep it.

        Args:
            network, channels: what plans are of; none: the original and its structure.

        Raises:
            ValueError: what `propose` raises, or that no plan is as fast; of several generators with the one's name.
        """
        if self.back is not None:
            for name, one in self.by_generator().items():
                try:
                    replace(one, back=None).check_reachable(propose, network, channels)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
            return
        limit = self.budget.latency
        if limit is None or self.stopwatch is None:
            propose(self.budget)
            return
        try:
            propose(self.budget.with_latency(limit.at(ROOM * limit.amount)))
        except ValueError:
            propose(self.budget)  # which cannot be met either, and says so in its own numbers
            raise
        whole, structure = network or self.original.network, channels or self.channels
        plan_within_time(propose, self.budget, self.stopwatch, whole, structure, close=0)

    def timed_by(self) -> str | None:
        """What the profile of the budget's device holds, as a hash; None where the budget is not in milliseconds."""
        limit = self.budget.latency
        if limit is None or not isinstance(limit.times, ProfiledTimes):
            return None
        return limit.times.profile.fingerprint()

    def limits(self) -> str:
        """The budget for a stage's stamp: in milliseconds with what the device's profile holds, not what it is called."""
        timed_by = self.timed_by()
        return str(self.budget) if timed_by is None else f"{self.budget} by {timed_by}"

    def timing(self, network: nn.Module, channels: Channels, plan: Plan) -> dict[str, Any] | None:
        """What a plan takes on the budget's device, JSON-ready; None where the budget is not in milliseconds."""
        limit = self.budget.latency
        if limit is None or not isinstance(limit.times, ProfiledTimes):
            return None
        profile = limit.times.profile
        measured = (None,) * 3 if self.stopwatch is None else self.stopwatch.look(network, channels, plan)
        return {
            "device": profile.describe(),
            "runtime": profile.runtime,
            "uncut_ms" if self.student_net else "original_ms": profile.original,
            "estimated_ms": limit.times(channels, channels.widths(plan)),
            **dict(zip(("measured_ms", "q1_ms", "q3_ms"), measured, strict=True)),
        }

    @property
    def steps(self) -> int:
        """How many the student's training makes."""
        return total_steps(batches_of(self.data, self.training), self.training)

    @property
    def longer(self) -> str:
        """The setting that gives the student's training more steps."""
        most, steps = self.training.max_steps, self.steps
        if most is None or steps < most:
            return "student.epochs"
        unlimited = replace(self, training=self.training.model_copy(update={"max_steps": None}))
        return "student.max_steps" + " and student.epochs" * (unlimited.steps == most)

    def nets(self, generator: nn.Module, task: Task | None = None) -> Nets:
        """All that a task trains, by default the job's own, with this generator and new others."""
        return (task or self.task).nets(generator, self.data.in_channels, self.data.out_channels)

    def fit(self, stage: Stage, nets: Nets, task: Task, *, hooked: bool = False, **options: Any) -> None:
        """Train nets on the job's images as its settings say.

        Args:
            hooked: hooks or cuts change what a network computes, so that it is not compiled.
            options: of `fit_nets`.
        """
        how = self.training.model_copy(update={"compile": False}) if hooked else self.training
        given: dict[str, Any] = {"validation": self.validation, "progress": self.progress}
        fit_nets(stage, nets, task, self.data, how, **given | options)

    def describe(self) -> dict[str, Any]:
        """What decides a training's result besides the stages before it, for a stage's stamp."""
        return describe(self.task, self.data, self.training, self.validation)


@dataclass(frozen=True)
class Result:
    """What a method gives back, by generator as `Job.by_generator` names them: one, or those of both directions.

    Attributes:
        students: the small generators, trained.
        plans: their cuts, one boolean per atom of `channels`.
        channels: the channel structure of `originals`.
        originals: the networks that the plans cut: the teachers, after the method's transforms.
        quantization: the quantizers that the students were trained under; none: they were trained in float.
        basis: what each group's scores were read from, by group name.
        files: what a run keeps of how each student came about: a name, such as `search.json`, and its JSON.
        sections: what the report shows of that.
    """

    students: Nets
    plans: Mapping[str, Plan]
    channels: Mapping[str, Channels]
    originals: Nets
    quantization: QuantConfig | None = None
    basis: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sections: Mapping[str, Sequence[Section]] = field(default_factory=dict)

    @classmethod
    def of_one(
        cls, student: nn.Module, plan: Plan, channels: Channels, original: nn.Module, **more: Any
    ) -> Self:
        """Of one student, "G"; `more`: the other attributes."""
        return cls({"G": student}, {"G": plan}, {"G": channels}, {"G": original}, **more)


class Method(Protocol):
    """One published method: reads like its paper, calls shared verbs, imports no other method.

    Its settings are the class that annotates `config`, a `MethodConfig`.
    """

    def __call__(self, run: Run, job: Job, config: Any) -> Result: ...


__all__ = [
    "Floor",
    "Job",
    "MaskingConfig",
    "Method",
    "MethodConfig",
    "MethodName",
    "Nets",
    "Result",
    "RoundTo",
    "Settings",
    "Term",
    "Training",
    "WidthSettings",
]
