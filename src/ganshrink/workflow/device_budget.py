"""What a student may cost: a recipe's budget in absolute numbers; in milliseconds, with the device on which they count."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.graph import trace
from ganshrink.latency.devices import is_here, open_profile, with_times
from ganshrink.latency.plan_by_timing import Stopwatch
from ganshrink.latency.profiles import DeviceProfile
from ganshrink.pruning import Budget, Channels
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.workflow.recipe import Recipe

logger = logging.getLogger(__name__)

MEASURED = "latency-search.json"  # of a run: the plans that were timed


@dataclass(frozen=True)
class ResolvedBudget:
    """A budget, ready for a method.

    Attributes:
        budget: in absolute numbers, with times where it is in milliseconds.
        method: the method's settings, `round_to` filled in.
        device: the profile of a device by its name, for the job's generator.
        stopwatch: times candidates, where the budget is in milliseconds of the machine at hand.
    """

    budget: Budget
    method: Any
    device: Callable[[str], DeviceProfile]
    stopwatch: Stopwatch | None = None


def resolve_budget(
    recipe: Recipe, original: nn.Module, example: tuple[Tensor, ...], *, folder: Path, shared: Path
) -> ResolvedBudget:
    """The budget of a recipe for its original generator.

    Args:
        folder: of the run, or of one direction of it, where measurements of candidates are kept.
        shared: of the run, where profiles of this machine are kept.

    Raises:
        ValueError: for a budget that does not parse, or a device that cannot be opened.
    """
    original = original.eval()

    @cache
    def device(name: str) -> DeviceProfile:
        settings = recipe.latency
        return open_profile(
            name, original, example, runtime=settings.runtime, threads=settings.threads, folder=shared
        )

    budget, channels = Budget.parse(recipe.limits), trace(original, *example)
    limit = budget.latency
    if limit is None:
        return ResolvedBudget(budget.resolve(channels), _rounding(recipe.method, 1), device)
    profile = device(limit.device)
    budget = with_times(budget, profile, channels)
    stopwatch = None
    if is_here(profile, where=limit.device):
        stopwatch = Stopwatch(profile, original, example, folder / MEASURED)
    else:
        logger.warning(
            "so no plan can be timed here: what %s says decides alone, and it is off by up to %.0f %%",
            limit.device, 100 * max(0.05, profile.fit.off_by),
        )  # fmt: skip
    step = _reachable_step(profile.step, channels, budget, recipe.method)
    return ResolvedBudget(budget, _rounding(recipe.method, step), device, stopwatch)


def _reachable_step(step: int, channels: Channels, budget: Budget, method: Any) -> int:
    """The step that the device likes, or where no network of such widths is fast enough, a finer one."""
    liked = step
    while step > 1 and _rounds(method) and method.round_to is None:
        try:
            bisect_threshold(
                channels, torch.zeros(channels.num_atoms), budget, floor=method.floor, round_to=step
            )
        except ValueError:
            step //= 2
            continue
        why = "" if step == liked else f", though this device likes {liked}: no such network is fast enough"
        logger.info("widths are multiples of %d%s", step, why or ", which this device likes")
        break
    return step


def _rounding(method: Any, step: int) -> Any:
    given = not _rounds(method) or method.round_to is not None
    return method if given else method.model_copy(update={"round_to": step})


def _rounds(method: Any) -> bool:
    """Whether a method's widths can be asked to be multiples of something."""
    return "round_to" in type(method).model_fields
