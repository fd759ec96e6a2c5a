"""How a task's nets are trained in a stage of a run: the same for teachers, searches and students."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from ganshrink.data import Batches, Images, PairedWithUnlabelled
from ganshrink.data.passes import spread_inputs
from ganshrink.metrics.config import Wanted
from ganshrink.nets.branches import has_branches
from ganshrink.system.distributed import rank_and_world
from ganshrink.training.average import WeightAverage, generators
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.config import FitConfig
from ganshrink.training.devices import open_machine
from ganshrink.training.loop import EVENTS, Forward, fit, total_steps
from ganshrink.training.samples import Sampler
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.stamps import stamp, stamp_if_own
from ganshrink.training.taps import Taps
from ganshrink.training.tasks import Task, Term
from ganshrink.training.update import Update
from ganshrink.training.validation import Validation, Validator

logger = logging.getLogger(__name__)

Nets = dict[str, nn.Module]
SEEN = 64  # training images that the norms of branches are counted on
Start = Literal["fresh", "inherit", "reconstruct"]

# Settings that came later decide where they are set: what was made before them is not made again.
LATE = {"ema", "keep"}
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
    "validate_every",
    "validate_by",
    "sample_minutes",
}


class Training(FitConfig):
    """How one network is trained."""

    batch_size: int = Field(default=1, ge=1, description="images a step, for each process")
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="hand out an exponential moving average of the generator's weights, of this decay, such as 0.999; "
        "none: the last weights. A search goes without",
    )
    validate_every: int | None = Field(
        default=None,
        ge=1,
        description="score the generator after so many steps, and after the last, on images not trained on: split "
        "val, or a tenth of the training images where there is none; none: never. A search goes without",
    )
    validate_by: Wanted | None = Field(
        default=None,
        description="the metric, as metrics.names; none: the first one there, or else of those usual, that can be computed",
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="best: hand out the weights with the best score, not the last ones"
    )

    sample_minutes: float | None = Field(
        default=None,
        gt=0,
        description="write what the generator makes of a few training inputs every so many minutes, and after the last "
        "step, into the stage's samples/, which the report shows; none: never. A search goes without",
    )

    @model_validator(mode="after")
    def _has_scores(self) -> Self:
        if self.validate_every is None and (self.keep == "best" or self.validate_by is not None):
            raise ValueError(
                "keep = 'best' and validate_by need scores: set validate_every to a number of steps"
            )
        return self

    def decisive(self) -> dict[str, Any]:
        """The settings that decide what comes out, for a stage's stamp."""
        late = {name for name in LATE if getattr(self, name) == Training.model_fields[name].default}
        incidental = INCIDENTAL - ({"validate_every", "validate_by"} if self.keep == "best" else set())
        return self.model_dump(mode="json", include=Training.model_fields.keys() - incidental - late)

    def for_search(self) -> Self:
        """The same where the weights are not what comes out: without an average, and nothing is validated."""
        off = {
            "ema": None,
            "validate_every": None,
            "validate_by": None,
            "keep": "last",
            "sample_minutes": None,
        }
        return self.model_copy(update=off)


class StudentTraining(Training):
    """How the student is trained."""

    start: Start | None = Field(
        default=None,
        description="what its training begins with; fresh: new weights; inherit: those that the cut left; reconstruct: "
        "these, refitted layer by layer to the network before the cut, for which rates of 1e-4 and less are good (see "
        "reconstruct.md); none: as the method has it",
    )
    start_images: int = Field(
        default=24, ge=1, description="training images that reconstruct refits to, all in memory at once"
    )

    lambda_shift: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description="weight of a loss against flicker in films: the mean |difference| of what is made of an input moved by "
        "up to 4 pixels, and the output moved so; 0: none. It costs one more pass of the student",
    )

    def decisive(self) -> dict[str, Any]:
        """Also what it starts from, where that is set. `lambda_shift` is a term of the task, and stamped as that."""
        begun = {} if self.start is None else {"start": self.start}
        return (
            super().decisive()
            | begun
            | ({"start_images": self.start_images} if self.start == "reconstruct" else {})
        )

    def for_search(self) -> Self:
        return super().for_search().model_copy(update={"start": None})


def train_stage(
    run: Run,
    name: str,
    make: Callable[[], Nets],
    learn: Callable[[Stage, Nets], Artefacts | None],
    *,
    made_from: Mapping[str, Any],
    after: Sequence[str] | None = None,
    until: Mapping[str, Any] | None = None,
) -> tuple[Nets, Artefacts]:
    """The nets of a stage, trained now or on an earlier occasion, in eval mode; and all that the stage kept.

    Args:
        make: the nets before the training. Called in the stage, whose seed fresh weights start from, and once more for
            the trained weights to go into.
        learn: trains them in place; returns what is to be kept besides their weights.
        made_from, after, until: as `Run.stage` takes them.
    """

    def work(stage: Stage) -> Artefacts:
        nets = make()
        kept = learn(stage, nets)
        return {**states(nets), **(kept or {})}

    found = run.stage(name, work, made_from=made_from, after=after, until=until)
    return loaded(make(), found), found


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
    whole: Images | None = None,
    forward: Forward | None = None,
    validation: Validation | None = None,
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
        whole: what `data` are a part of; an epoch is then as long as one of these.
        forward: makes the context of a step in place of the task's own, for `updates` that ask for more.
        validation: what the generator is scored on, where `training` asks for that.
    """
    if training.batch_size * rank_and_world()[1] == 1 and any(map(has_branches, nets.values())):
        logger.warning(
            "batch norms of the branches see one image at a time, and are folded as if they saw all: raise batch_size to 4 "
            "or more"
        )
    watching = (*task.frozen, *frozen)
    pairs, trial = batches_of(data, training, whole=whole), stage.trial
    steps = list(task.updates(nets, terms) if updates is None else updates)
    average = None if training.ema is None else WeightAverage(generators(nets), training.ema)
    if average is not None:
        steps.append(average.update())
    validator = None
    if training.validate_every is not None and trial is None:
        validator = _validator(nets, task, training, validation, average, total_steps(pairs, training))
        steps.append(validator.update())
    if training.sample_minutes is not None and trial is None:
        total = total_steps(pairs, training)
        steps.append(Sampler(stage.path, data, training.sample_minutes, total, average=average).update())
    fit(
        nets,
        steps,
        pairs
        if unlabelled is None
        else PairedWithUnlabelled(pairs, batches_of(unlabelled, training, beside=True)),
        training if trial is None else trial.shortened(training),
        forward=forward or task.forward(nets, taps),
        directory=stage.path,
        name=stage.path.name,
        key=stage.begun or stage.key,
        onlookers={} if validator is None else {"validation": validator},
        frozen=watching,
        progress=progress,
    )
    if average is not None:
        average.hand_out()
    if validator is not None:
        validator.finish(stage.path, training.keep)
    if trial is not None:
        images = pairs.global_batch * training.accumulate
        trial.note_training(stage.path / EVENTS, steps=total_steps(pairs, training), images=images)
    for network in (*nets.values(), *watching):
        network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        network.eval()
    # norms of branches become weights: counted with those handed out; what the way back takes is not among the inputs
    for name in ("G", "G_A"):
        if name in nets and has_branches(nets[name]):
            recalibrate(nets[name], spread_inputs(data, SEEN, batch_size=SEEN // 4))


def _validator(
    nets: Nets,
    task: Task,
    training: Training,
    validation: Validation | None,
    average: WeightAverage | None,
    total: int,
) -> Validator:
    if validation is None:
        raise ValueError("validate_every: this method gives its training no images to score on: leave it out")
    scored, device = task.one_way(nets, validation.direction)["G"], open_machine(training).fabric.device
    metric = validation.metric(training.validate_by, device)
    given: Any = {"average": average, "every": training.validate_every, "total": total, "device": device}
    return Validator(validation, metric, generators(nets), scored, **given)


def states(nets: Nets) -> Artefacts:
    """What a stage keeps of its networks."""
    return {name: net.state_dict() for name, net in nets.items()}


def loaded(nets: Nets, found: Artefacts) -> Nets:
    """The nets with the weights that a stage kept of them, in eval mode."""
    for name, net in nets.items():
        net.load_state_dict(found[name])
        net.eval()
    return nets


def batches_of(
    data: Images, training: Training, *, beside: bool = False, whole: Images | None = None
) -> Batches:
    """The batches of a training, those of this process among several; `beside` others, if these run beside them. Of a part
    of the images epochs are those of the `whole`."""
    rank, world = rank_and_world()
    return Batches(
        data,
        batch_size=training.batch_size,
        seed=training.seed,
        workers=training.workers,
        rank=rank,
        world=world,
        beside=beside,
        epoch_length=None if whole is None else len(whole),
    )


def length_of(data: Images, training: Training) -> dict[str, int]:
    """How many `steps` a training makes, and how many of them are an `epoch`."""
    batches = batches_of(data, training)
    one = training.model_copy(update={"epochs": 1, "decay_epochs": 0, "max_steps": None})
    return {"steps": total_steps(batches, training), "epoch": total_steps(batches, one)}


def describe(
    task: Task, data: Images, training: Training, validation: Validation | None = None
) -> dict[str, Any]:
    """What decides a training's result, JSON-ready; how often it reports or saves does not."""
    own = {
        "task": stamp_if_own(getattr(task, "task", task)),
        "terms": stamp(getattr(task, "terms", ())),
    }
    chosen = {}
    if training.keep == "best" and validation is not None:
        chosen["validation"] = validation.describe(training.validate_by)
    return {
        **{f"own_{key}": value for key, value in own.items() if value},
        **chosen,
        "task": task.config.model_dump(mode="json"),
        "data": data.fingerprint(),
        "training": training.decisive(),
        "processes": rank_and_world()[1],  # they multiply the batch
    }
