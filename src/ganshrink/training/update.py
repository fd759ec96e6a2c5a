"""The words of the loop: what a step knows, and what is done with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ganshrink.training.checkpoint import Stateful


@dataclass
class Context:
    """What one step knows. Tasks extend it with `functools.cached_property`, so that whoever asks first computes.

    `batch` lies on the training device. `step` and `epoch` count from 0.
    """

    batch: dict[str, Any]
    step: int
    epoch: int


@dataclass
class Update:
    """One optimisation that a step makes: losses, their gradients, then a step of each optimizer.

    Args:
        name: for logs and errors, such as "D".
        optimizers: all step together, after the last loss. Only their parameters get gradients.
        losses: yields dictionaries of named, already weighted scalars. Each is summed and back-propagated at once,
            which frees its graph: terms that share a graph go into one dictionary.
        every: the update runs at steps 0, every, 2 * every, ...
        after: called after the optimizers' step (a projection, say), with the step's (last) context.
        state: what of it must survive a kill (an image pool, say), by a name of its own.
        watch: numbers to log beside the losses, by name.
        stuck: why the training cannot go on, in words, or None: asked at its start and after each step. It then ends with
            that as an error, once the step is saved.
    """

    name: str
    optimizers: Sequence[Optimizer]
    losses: Callable[[Any], Iterator[dict[str, Tensor]]]
    every: int = 1
    after: Callable[[Any], None] | None = None
    state: Mapping[str, Stateful] = field(default_factory=dict)
    watch: Callable[[], Mapping[str, float]] | None = None
    stuck: Callable[[], str | None] | None = None


def joint(
    name: str, updates: Mapping[str, Update], of: Callable[[Any, str], Any], *, every: int = 1
) -> Update:
    """Several updates as one: all their losses, then one step. A parameter that several have is stepped once.

    Args:
        updates: with an optimizer each; the names of their losses are put behind theirs.
        of: the context of one of them, by its name, within that of the joint one.
    """
    optimizer, *others = [update.optimizers[0] for update in updates.values()]
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for group in [group for other in others for group in other.param_groups]:
        if more := [p for p in group["params"] if id(p) not in known]:
            optimizer.add_param_group({**group, "params": more})
            known |= {id(p) for p in more}

    def losses(context: Any) -> Iterator[dict[str, Tensor]]:
        for own, update in updates.items():
            for terms in update.losses(of(context, own)):
                yield {f"{own}_{term}": loss for term, loss in terms.items()}

    return Update(name, [optimizer], losses, every=every)


def extended(
    updates: Sequence[Update],
    name: str,
    *,
    optimizers: Sequence[Optimizer] = (),
    after: Callable[[Any], None] | None = None,
    state: Mapping[str, Stateful] | None = None,
    watch: Callable[[], Mapping[str, float]] | None = None,
    stuck: Callable[[], str | None] | None = None,
) -> list[Update]:
    """A task's updates, of which the one of that name does more: optimizers step with its own, and `after` follows its own.

    Raises:
        ValueError: if none has that name.
    """
    if name not in [update.name for update in updates]:
        raise ValueError(f"the task has no update {name!r}")

    def more(update: Update) -> Update:
        def both(context: Any) -> None:
            for follow in (update.after, after):
                if follow is not None:
                    follow(context)

        return replace(
            update,
            optimizers=[*update.optimizers, *optimizers],
            after=both,
            state={**update.state, **(state or {})},
            watch=watch or update.watch,
            stuck=stuck or update.stuck,
        )

    return [more(update) if update.name == name else update for update in updates]


@dataclass
class FitResult:
    """What a fit came to.

    Args:
        steps: steps made in all, those before a resume included.
        images: images seen, over all processes.
        seconds: time spent training, over all resumes.
        resumed_at: the step at which this call took over (equal to `steps` if all had been done), None for a fresh start.
        losses: the means of the last line logged by this call.
    """

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    resumed_at: int | None = None
    losses: dict[str, float] = field(default_factory=dict)
