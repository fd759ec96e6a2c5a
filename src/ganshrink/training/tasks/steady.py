"""A student that is steady in films, whatever task and method train it."""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ganshrink.losses.shift_consistency import REACH, moved, shift_consistency
from ganshrink.system.generator import Input, batch_of_one, generate
from ganshrink.training.tasks.task import Task, WithTerms


@dataclass(frozen=True)
class Steady:
    """The loss `{generator}_shift`: `weight` times the shift consistency of each generator that is trained. A step moves its
    whole batch by up to 4 pixels each way, drawn anew each time; that costs one more pass of the generator."""

    weight: float

    def __call__(self, context: Any) -> dict[str, Tensor]:
        right, down = torch.randint(-REACH, REACH + 1, (2,)).tolist()
        losses = {}
        for name, way in context.ways.items():
            again = generate(way.generator, moved(way.input, right, down))
            wider, taller = (way.fake.shape[side] // way.input.shape[side] for side in (-1, -2))
            distance = shift_consistency(way.fake, again, right * wider, down * taller)
            losses[f"{name}_shift"] = self.weight * distance
        return losses


def steadied(task: Task, weight: float) -> Task:
    """The task, with that loss beside its own where the weight is not 0."""
    if not weight:
        return task
    if isinstance(task, WithTerms):
        return cast(Task, replace(task, terms=(*task.terms, Steady(weight))))
    return cast(Task, WithTerms(task, (Steady(weight),)))


def check_movable(network: nn.Module, input: Input) -> None:
    """Refuse a generator whose input cannot be moved by pixels, or whose output would not move by whole ones.

    Args:
        input: of one sample, without a batch axis.
    """
    told = "student.lambda_shift moves the input by whole pixels: it needs"
    if not isinstance(input, Tensor) or input.ndim != 3:
        raise ValueError(f"{told} a generator of one picture, and this one takes another input; set it to 0")
    if min(input.shape[1:]) <= 4 * REACH:
        raise ValueError(f"{told} pictures of more than {4 * REACH} pixels a side; set it to 0")
    with torch.no_grad():
        made = generate(network, batch_of_one(input)[0])
    if any(ours % theirs for ours, theirs in zip(made.shape[-2:], input.shape[-2:], strict=True)):
        raise ValueError(
            f"{told} outputs as large as the input or a whole number of times larger, and of "
            f"{tuple(input.shape[-2:])} this generator makes {tuple(made.shape[-2:])}; set it to 0"
        )
