"""What a student may cost: a recipe's budget in absolute numbers; in milliseconds, with the device on which they count."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from ganshrink.latency.backends import Place
from ganshrink.latency.devices import is_here, open_profile, with_times
from ganshrink.latency.plan_by_timing import Stopwatch
from ganshrink.latency.profiles import DeviceProfile
from ganshrink.methods.base import MethodConfig, Settings
from ganshrink.methods.original import Original
from ganshrink.pruning import Budget, Channels
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.budget import Limit
from ganshrink.system.copies import in_evaluation
from ganshrink.workflow.recipe import Recipe

Table = TypeVar("Table", bound=Settings)
Made = TypeVar("Made")

logger = logging.getLogger(__name__)

MEASURED = "latency-search.json"  # of a run: the plans that were timed
STEP = "round_to"  # a method's setting, in whichever of its tables: widths are multiples of it


def resolve_budget(
    recipe: Recipe, original: Original, whole: Original, *, folder: Path, shared: Path
) -> tuple[Budget, MethodConfig, Callable[[str], DeviceProfile], Stopwatch | None]:
    """The budget of a recipe for its original generator.

    Args:
        original: what percentages are of.
        whole: what plans are of: the original, or the student's own network.
        folder: of the run, or of one direction of it, where measurements of candidates are kept.
        shared: of the run, where profiles of this machine are kept.

    Returns:
        the budget in absolute numbers, with times where it is in milliseconds; the method's settings, the step of widths
        filled in; the profile of a device by its name; and what times candidates, where the budget is in milliseconds of
        the machine at hand.

    Raises:
        ValueError: for a budget that does not parse, or a device that cannot be opened.
    """
    network = in_evaluation(whole.build())

    @cache
    def device(name: str) -> DeviceProfile:
        runtime, threads = recipe.latency.runtime, recipe.latency.threads
        return open_profile(name, network, whole.example, runtime=runtime, threads=threads, folder=shared)

    budget = Budget.parse(recipe.limits)
    limit = budget.latency
    if limit is None:
        return budget.resolve(original.untouched), _with_step(recipe.method, 1), device, None
    if whole is not original:
        if limit.percent:
            limit = _of_teacher(limit, original, recipe, shared)
        others = tuple(one for one in budget.limits if one.kind != "latency")
        budget = Budget((limit, *Budget(others).resolve(original.untouched).limits))
    channels, profile = whole.untouched, device(limit.device)
    budget = with_times(budget, profile, channels)
    stopwatch = None
    if is_here(profile, where=limit.device):
        stopwatch = Stopwatch(profile, network, whole.example, folder / MEASURED)
    else:
        logger.warning(
            "so no plan can be timed here: what %s says decides alone, and it is off by up to %.0f %%",
            limit.device, 100 * max(0.05, profile.fit.off_by),
        )  # fmt: skip
    step = _reachable_step(profile.step, channels, budget, recipe.method)
    return budget, _with_step(recipe.method, step), device, stopwatch


def _of_teacher(limit: Limit, original: Original, recipe: Recipe, shared: Path) -> Limit:
    """A share of the teacher's time in milliseconds: this machine looks at the teacher too, and keeps that apart.

    Raises:
        ValueError: for a device that is not here, whose profile is of the student's network alone.
    """
    if limit.device not in get_args(Place):
        raise ValueError(
            f"budget = {recipe.limits}: with student.net, {limit.device} has no time of the teacher; write milliseconds, "
            "such as latency=30ms"
        )
    folder = shared / "teacher"
    folder.mkdir(parents=True, exist_ok=True)
    runtime, threads = recipe.latency.runtime, recipe.latency.threads
    network = in_evaluation(original.build())
    profile = open_profile(
        limit.device, network, original.example, runtime=runtime, threads=threads, folder=folder
    )
    amount = profile.original * limit.amount / 100
    logger.info("the teacher takes %.3g ms, the student may take %.3g", profile.original, amount)
    return replace(limit, amount=amount, percent=False)


def _reachable_step(step: int, channels: Channels, budget: Budget, method: MethodConfig) -> int:
    """The step that the device likes, or where no network of such widths is fast enough, a finer one."""
    liked = step
    floor = next((value for name, value in _settings(method) if name == "floor"), 1)
    while step > 1 and (STEP, None) in _settings(method):
        try:
            even = torch.zeros(channels.num_atoms)
            bisect_threshold(channels, even, budget, floor=floor, round_to=step)
        except ValueError:
            step //= 2
            continue
        why = "" if step == liked else f", though this device likes {liked}: no such network is fast enough"
        logger.info("widths are multiples of %d%s", step, why or ", which this device likes")
        break
    return step


def with_finer_steps(
    asked: Sequence[MethodConfig], config: MethodConfig, make: Callable[[MethodConfig], Made]
) -> Made:
    """What is made by a method's settings; where no network of widths that the device likes keeps the budget, by half the
    step, and so on down to 1.

    Args:
        asked: the settings of the recipe, or of both directions': who gave a step means it.

    Raises:
        ValueError: what `make` raises, with which of the method's settings stand in the way.
    """
    while True:
        try:
            with with_levers(config):
                return make(config)
        except ValueError as error:
            step, left_open = step_of(config), all((STEP, None) in _settings(one) for one in asked)
            if "cannot be met" not in str(error) or not left_open or step == 1:
                raise
            logger.info("no network of widths in steps of %d: %s", step, error)
            logger.info("widths are now multiples of %d", step // 2)
            config = _with_step(asked[0], step // 2)


def step_of(method: MethodConfig) -> int:
    """What a method's widths are multiples of."""
    return next((int(step) for name, step in _settings(method) if name == STEP and step is not None), 1)


@contextmanager
def with_levers(method: MethodConfig) -> Iterator[None]:
    """Add to what is said of a budget that cannot be met which of the method's settings stand in the way."""
    try:
        yield
    except ValueError as error:
        levers = list(_levers(method, "method"))
        if "cannot be met" not in str(error) or not levers:
            raise
        raise ValueError(f"{error}; lower {' or '.join(levers)}, or raise the budget") from error


def _levers(table: Settings, path: str) -> Iterator[str]:
    for name, value in table:
        if isinstance(value, Settings):
            yield from _levers(value, f"{path}.{name}")
        elif name in ("floor", STEP) and isinstance(value, int) and value > 1:
            yield f"{path}.{name} (now {value})"


def _settings(table: Settings) -> Iterator[tuple[str, Any]]:
    """A method's settings by name, those of its tables too."""
    for name, value in table:
        if isinstance(value, Settings):
            yield from _settings(value)
        else:
            yield name, value


def _with_step(table: Table, step: int) -> Table:
    """A method's settings, with the step of widths where it was left open."""
    changed = {
        name: _with_step(value, step) if isinstance(value, Settings) else step
        for name, value in table
        if isinstance(value, Settings) or (name == STEP and value is None)
    }
    return table.model_copy(update=changed)
