"""The one training loop: steps of updates, resumable to the bit.

Nothing in it is hidden state: order and augmentation of the data are functions of the step, and so is torch's random
state, which is seeded afresh at every step.
"""

import math
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from ganshrink.system.copies import in_evaluation, in_training
from ganshrink.system.distributed import barrier, broadcast
from ganshrink.system.signals import Interrupted, StopRequest, stop_requests
from ganshrink.training.batch_norm import shared_batch_statistics
from ganshrink.training.checkpoint import Stateful, load_checkpoint, save_checkpoint
from ganshrink.training.config import FitConfig
from ganshrink.training.devices import Machine, open_machine, settled
from ganshrink.training.log import Events, Meter, check_finite
from ganshrink.training.optim import set_learning_rate
from ganshrink.training.progress import ProgressDisplay
from ganshrink.training.update import Context, FitResult, Update

CHECKPOINT, EVENTS = "checkpoint.pt", "events.jsonl"

Forward = Callable[[dict[str, Any], int, int], Context]
"""Makes the context of a batch (on the device), a step and an epoch."""


class Stream(Protocol):
    """Batches as a function of the step, such as `ganshrink.data.Batches`."""

    @property
    def world(self) -> int: ...  # processes that share each batch

    @property
    def global_batch(self) -> int: ...  # images of one batch, over all of them

    def steps(self, epochs: int, /) -> int: ...

    def epoch(self, step: int, /) -> int: ...

    def stream(self, start_step: int, /) -> Iterator[dict[str, Any]]: ...


def fit(
    nets: Mapping[str, nn.Module],
    updates: Sequence[Update],
    batches: Stream,
    config: FitConfig,
    *,
    forward: Forward,
    directory: Path,
    name: str = "training",
    key: str = "",
    state: Mapping[str, Stateful] | None = None,
    onlookers: Mapping[str, Stateful] | None = None,
    frozen: Sequence[nn.Module] = (),
    progress: bool = False,
) -> FitResult:
    """Train networks, in place; go on from `directory`'s checkpoint if it has one.

    A step takes `config.accumulate` batches and runs the updates in order. With one batch a step, all updates share
    one context: what D's losses computed, G's find. With more, every update walks through the batches with fresh
    contexts, so that memory stays that of one batch. Networks are left in training mode on the training device.

    SIGTERM or Ctrl-C ends the training after the step at work, once that is saved; a second one ends it at once.

    Args:
        nets: what is trained, by name; saved whole.
        updates: what a step does, in order.
        batches: endless data; its `steps` and `epoch` say how long an epoch is.
        config: how long, and on what.
        forward: makes the context that the updates' losses get.
        directory: gets `checkpoint.pt` and `events.jsonl`.
        name: what the progress display calls it.
        key: what this run is made from; a checkpoint with another key is refused.
        state: whatever else must survive a kill, by name.
        onlookers: the same of what changes nothing in the training: a checkpoint may be from before it was there.
        frozen: networks that only look on (a teacher): moved to the device and put in eval mode, not saved.
        progress: show how far it is.

    Raises:
        NonFiniteLoss: if a loss term becomes NaN or infinite; the checkpoint is the last good one.
        ValueError: for a checkpoint that is damaged or of another key, or a device that is not there; or if an update is
            stuck, which a resume finds as it was.
        OSError: if a checkpoint cannot be written.
        Interrupted: after SIGTERM or Ctrl-C; the checkpoint is of the last step made.
    """
    machine = open_machine(config)
    if batches.world != machine.fabric.world_size:
        raise ValueError(
            f"the batches are for {batches.world} processes, but there are {machine.fabric.world_size}"
        )
    kept = dict(state or {})
    for update in updates:
        kept |= update.state
    given = dict(nets), list(updates), kept, dict(onlookers or {})
    run = _Training(machine, *given, config, directory / CHECKPOINT, key)
    with settled(machine, config):
        for net in frozen:
            machine.place(in_evaluation(net))
        run.resume()
        if (reason := run.stuck()) is not None:
            raise ValueError(reason)
        total = total_steps(batches, config)
        if run.done.steps >= total:
            return run.done
        directory.mkdir(parents=True, exist_ok=True)
        return run.train(batches, forward, total=total, name=name, progress=progress)


@dataclass
class _Training:
    """A run of the loop: what it works on and how far it is."""

    machine: Machine
    nets: dict[str, nn.Module]
    updates: list[Update]
    state: dict[str, Stateful]
    onlookers: dict[str, Stateful]
    config: FitConfig
    path: Path
    key: str

    def __post_init__(self) -> None:
        self.done = FitResult()
        self.meter = Meter()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Networks to the device, and everything to where the checkpoint has it."""
        saved = load_checkpoint(self.path, key=self.key)
        for net in self.nets.values():
            self.machine.place(in_training(net))
        self._set_rates(0)  # notes the initial rates
        if saved is None:
            for net in self.nets.values():
                self.machine.share(net)
            return
        try:
            for name, net in self.nets.items():
                net.load_state_dict(saved["nets"][name])
            for optimizer, kept in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            for name, part in self.state.items():
                part.load_state_dict(saved["state"][name])
            for name in self.onlookers.keys() & saved["state"].keys():
                self.onlookers[name].load_state_dict(saved["state"][name])
            if self.machine.scaler is not None:
                self.machine.scaler.load_state_dict(saved["scaler"])
            step, images, seconds = int(saved["step"]), int(saved["images"]), float(saved["seconds"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{self.path} does not fit these networks ({reason}): delete it to start this stage again"
            ) from error
        self.done = FitResult(step, images, seconds, resumed_at=step)

    def train(self, batches: Stream, forward: Forward, *, total: int, name: str, progress: bool) -> FitResult:
        """The steps that are left."""
        config, done = self.config, self.done
        leader = self.machine.fabric.is_global_zero
        earlier, started = done.seconds, time.monotonic()
        images = batches.global_batch * config.accumulate
        with ExitStack() as stack:
            request = stack.enter_context(stop_requests())
            stack.enter_context(shared_batch_statistics(self.nets.values()))
            stack.enter_context(_compiled(self.nets if config.compile else {}))
            events = None
            if leader:
                events = Events(self.path.with_name(EVENTS), step=done.steps, tensorboard=config.tensorboard)
                stack.callback(events.close)
            display = stack.enter_context(
                ProgressDisplay(
                    name, done=done.steps, total=total, images_per_step=images, enabled=progress and leader
                )
            )
            stream = batches.stream(done.steps * config.accumulate)
            stack.callback(getattr(stream, "close", lambda: None))
            watched: dict[str, float] = {}
            for step in range(done.steps, total):
                epoch = batches.epoch(step * config.accumulate)
                self._step(step, epoch, stream, forward)
                done.steps, done.images = step + 1, done.images + images
                done.seconds = earlier + time.monotonic() - started
                logging = done.steps % config.log_every == 0
                reason = self.stuck()
                stopping = reason is not None or self._told_to_stop(request, logging)
                saving = stopping or done.steps == total or self._checkpoint_due(logging)
                if logging or saving:  # at checkpoints too, so that a kill costs no line its first steps
                    done.losses = self.meter.read(self.machine.reduce)
                    watched = self._watched()
                    if events is not None:
                        events.write(self._event(epoch, watched))
                if saving:
                    self._save()
                display.step(done.steps, {**watched, **done.losses})
                if reason is not None:
                    raise ValueError(reason)
                if stopping:
                    break
        if request.number is not None:  # after the last step as well: whoever asked wants the program to end
            raise self._interrupted(request.number, name, total)
        return done

    def _step(self, step: int, epoch: int, stream: Iterator[dict[str, Any]], forward: Forward) -> None:
        """Every update that is due, on the step's batches."""
        _seed(self.config.seed, step, self.machine.fabric.global_rank)
        self._set_rates(epoch)
        batches = [self.machine.batch(next(stream)) for _ in range(self.config.accumulate)]
        shared = [forward(batches[0], step, epoch)] if len(batches) == 1 else None
        for update in self.updates:
            if step % update.every == 0:
                self._update(update, shared or (forward(batch, step, epoch) for batch in batches), step)

    def _set_rates(self, epoch: int) -> None:
        config = self.config
        set_learning_rate(self.optimizers, epoch, epochs=config.epochs, decay_epochs=config.decay_epochs)

    def _update(self, update: Update, contexts: Iterable[Context], step: int) -> None:
        params = [
            p
            for o in update.optimizers
            for group in o.param_groups
            for p in group["params"]
            if p.requires_grad
        ]
        for optimizer in update.optimizers:
            optimizer.zero_grad()
        for context in contexts:
            losses = update.losses(context)
            while True:
                with self.machine.autocast():  # not around the backward, which follows the forward's formats
                    terms = next(losses, None)
                    if terms is None:
                        break
                    if not terms:
                        continue
                    total = torch.stack([term.float() for term in terms.values()]).sum()
                self.machine.backward(total / self.config.accumulate, params)
                self.meter.add(update.name, terms, step=step)
        self.machine.average_gradients(params)
        self.machine.step(update.optimizers)
        if update.after is not None:
            update.after(context)

    def stuck(self) -> str | None:
        """Why an update cannot go on, if one cannot; the same in all processes."""
        return next((why for u in self.updates if u.stuck is not None and (why := u.stuck())), None)

    def _told_to_stop(self, request: StopRequest, logging: bool) -> bool:
        """Whether a signal asked for the end. Several processes agree on it, where they talk anyway."""
        if self.machine.fabric.world_size > 1:
            if not logging:
                return False
            number = torch.tensor(request.number or 0, device=self.machine.fabric.device)
            heard = int(self.machine.reduce(number, "max"))
            request.number = heard or request.number  # a signal may have come in between
            return heard > 0
        return request.number is not None

    def _interrupted(self, number: int, name: str, total: int) -> Interrupted:
        return Interrupted(
            f"{name}: stopped by {signal.Signals(number).name} after step {self.done.steps} of {total}, which is saved"
            f" in {self.path}; the same command goes on from there",
            number,
        )

    def _checkpoint_due(self, logging: bool) -> bool:
        steps, minutes, fabric = (
            self.config.checkpoint_steps,
            self.config.checkpoint_minutes,
            self.machine.fabric,
        )
        if steps is not None and self.done.steps % steps == 0:
            return True
        if minutes is None or (
            fabric.world_size > 1 and not logging
        ):  # agreeing on the clock costs a message
            return False
        return broadcast(time.monotonic() - self.saved_at > 60 * minutes)

    def _watched(self) -> dict[str, float]:
        return {
            name: float(value)
            for update in self.updates
            if update.watch is not None
            for name, value in update.watch().items()
        }

    def _event(self, epoch: int, watched: Mapping[str, float]) -> dict[str, Any]:
        done = self.done
        event = {
            "step": done.steps,
            "epoch": epoch,
            "time": round(done.seconds, 3),
            "images": done.images,
            "losses": done.losses,
            "lr": self.optimizers[0].param_groups[0]["lr"],
        }
        return event | {"watched": watched} if watched else event

    def _save(self) -> None:
        nets = {name: net.state_dict() for name, net in self.nets.items()}
        check_finite({f"{n}.{k}": v for n, net in nets.items() for k, v in net.items()}, step=self.done.steps)
        if self.machine.fabric.is_global_zero:
            content = {
                "step": self.done.steps,
                "images": self.done.images,
                "seconds": self.done.seconds,
                "nets": nets,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "state": {n: part.state_dict() for n, part in (self.state | self.onlookers).items()},
                "scaler": self.machine.scaler.state_dict() if self.machine.scaler is not None else None,
            }
            save_checkpoint(self.path, content, key=self.key)
        barrier()
        self.saved_at = time.monotonic()

    @property
    def optimizers(self) -> list[Optimizer]:
        return [optimizer for update in self.updates for optimizer in update.optimizers]


def total_steps(batches: Stream, config: FitConfig) -> int:
    """How many steps a training makes in all."""
    total = math.ceil(batches.steps(config.epochs + config.decay_epochs) / config.accumulate)
    return total if config.max_steps is None else min(total, config.max_steps)


def _seed(*counters: int) -> None:
    """Seed torch, on every device, from the run's seed, the step and the process."""
    torch.manual_seed(int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0]))


@contextmanager
def _compiled(nets: Mapping[str, nn.Module]) -> Iterator[None]:
    """Generators compiled in place, which keeps the names of their weights, and plain again afterwards."""
    generators = [net for name, net in nets.items() if name.startswith("G")]
    with warnings.catch_warnings():  # the compiler's own import of a deprecated part of torch
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        for net in generators:
            net.compile()
    try:
        yield
    finally:
        for net in generators:
            net._compiled_call_impl = None  # what Module.compile sets; torch has no public way back
