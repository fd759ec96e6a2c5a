"""How a task's nets are trained in a stage of a run: the same for teachers, searches and students."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import nn

from ganshrink.data import Batches, Images, PairedWithUnlabelled
from ganshrink.system.distributed import rank_and_world
from ganshrink.training.config import FitConfig
from ganshrink.training.loop import EVENTS, Forward, fit, total_steps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.stamps import stamp, stamp_if_own
from ganshrink.training.taps import Taps
from ganshrink.training.tasks import Task, Term
from ganshrink.training.update import Update

Nets = dict[str, nn.Module]

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
    """
    watching = (*task.frozen, *frozen)
    pairs, trial = batches_of(data, training, whole=whole), stage.trial
    fit(
        nets,
        task.updates(nets, terms) if updates is None else updates,
        pairs
        if unlabelled is None
        else PairedWithUnlabelled(pairs, batches_of(unlabelled, training, beside=True)),
        training if trial is None else trial.shortened(training),
        forward=forward or task.forward(nets, taps),
        directory=stage.path,
        name=stage.path.name,
        key=stage.begun or stage.key,
        frozen=watching,
        progress=progress,
    )
    if trial is not None:
        images = pairs.global_batch * training.accumulate
        trial.note_training(stage.path / EVENTS, steps=total_steps(pairs, training), images=images)
    for network in (*nets.values(), *watching):
        network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        network.eval()


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


def describe(task: Task, data: Images, training: Training) -> dict[str, Any]:
    """What decides a training's result, JSON-ready; how often it reports or saves does not."""
    own = {
        "task": stamp_if_own(getattr(task, "task", task)),
        "terms": stamp(getattr(task, "terms", ())),
    }
    return {
        **{f"own_{key}": value for key, value in own.items() if value},
        "task": task.config.model_dump(mode="json"),
        "data": data.fingerprint(),
        "training": training.decisive(),
        "processes": rank_and_world()[1],  # they multiply the batch
    }
