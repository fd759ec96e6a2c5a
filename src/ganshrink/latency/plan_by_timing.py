"""From a budget in milliseconds to a plan that was seen to keep it: estimates steer, measurements decide."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from ganshrink.latency.backends import Run, network_run
from ganshrink.latency.measuring import interleave, torch_threads
from ganshrink.latency.profiles import DeviceProfile
from ganshrink.latency.shares import BUSY, share_of
from ganshrink.nets.extra_blocks import in_extra_block
from ganshrink.pruning import Budget, Channels, Plan, extract
from ganshrink.system.atomic import write_json
from ganshrink.system.copies import in_evaluation
from ganshrink.system.distributed import broadcast, is_main_process

logger = logging.getLogger(__name__)

AIM, ENOUGH, CLOSE = (
    0.97,
    0.985,
    0.92,
)  # of the limit: what is aimed at, what counts as kept, what need not come closer
TRIES = 10
FINEST = 1.005  # between an estimate that fits and one that does not: no plan is looked for in between
WIDER, FARTHEST = (
    1.15,
    8,
)  # how an estimate is raised that no plan is so small for; and how often it may be off
ROUNDS, SECONDS, PARTS = 300, 4.0, 6  # of one measurement: in each part at most, and parts at most
UNSURE = 0.01  # standard error of the share, as a share of it, at which no more rounds are run


class TooSlow(ValueError):
    """No plan is as fast as the budget, as measured; with the fastest one."""

    def __init__(self, message: str, fastest: Plan) -> None:
        super().__init__(message)
        self.fastest = fastest


class Stopwatch:
    """Exports plans and times them beside the original network.

    A plan's time is its share of the original's in the same rounds (`share_of`), times what the original took in the
    profile: a machine that is busy for a while slows both. What was measured is kept in a file, so that a run that goes on
    decides as before.

    Args:
        profile: of this machine; candidates run in its runtime, with its threads.
        original: the whole network.
        example: one image's inputs.
        file: where measurements are kept.
    """

    def __init__(
        self, profile: DeviceProfile, original: nn.Module, example: Sequence[Tensor], file: Path
    ) -> None:
        self.profile, self.original, self.example, self.file = profile, original, tuple(example), file
        self._original_run: Run | None = None

    def __call__(self, network: nn.Module, channels: Channels, plan: Plan) -> float:
        """Milliseconds of what a plan leaves of `network`."""
        return self.look(network, channels, plan)[0]

    def look(self, network: nn.Module, channels: Channels, plan: Plan) -> tuple[float, float, float]:
        """The same, and between what the middle half of its rounds lies; with several processes the first one measures."""
        return broadcast(
            self._known_or_measured(network, channels, plan) if is_main_process() else (0.0,) * 3
        )

    def _known_or_measured(
        self, network: nn.Module, channels: Channels, plan: Plan
    ) -> tuple[float, float, float]:
        key, known = self._key(channels, plan), self.measured()
        if key not in known:
            known[key] = self._measure(extract(network, channels, plan))
            write_json(self.file, {"device": self.profile.describe(), "measured": known})
        share = float(known[key]["share"])
        low, high = (float(known[key].get(name, share)) for name in ("q1", "q3"))
        whole = self.profile.original
        return share * whole, min(share, low) * whole, max(share, high) * whole

    def measured(self) -> dict[str, Any]:
        """What the file holds, if it is of this device."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            return dict(found["measured"]) if found["device"] == self.profile.describe() else {}
        except (OSError, ValueError, LookupError, TypeError):  # not there, or not ours
            return {}

    def _key(self, channels: Channels, plan: Plan) -> str:
        axes = [[name, [axis is not None for axis in axes]] for name, axes in channels.axes.items()]
        shapes = [list(tensor.shape) for tensor in self.example]
        widths = channels.widths(plan).tolist()  # which channels stay takes no time
        text = json.dumps([str(self.original), axes, shapes, widths])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _measure(self, network: nn.Module) -> dict[str, Any]:
        """Its share of the original's time (`share_of`).

        On a busy machine rounds differ more, and more are run: until the share is known to a percent or so.
        """
        place = self.profile.place
        single = place.threads == 1 and place.kind == "cpu"
        with torch_threads(place.threads):
            if self._original_run is None:
                self._original_run = self._open(self.original)
            runs = [self._original_run, self._open(network)]
            rounds = interleave(runs, warmup=2, rounds=ROUNDS, seconds=SECONDS)
            while (share := share_of(rounds, 1, single=single)).error > UNSURE:
                if len(rounds.wall) >= PARTS * ROUNDS or rounds.wall.sum() > 1000 * PARTS * SECONDS:
                    break
                rounds = rounds.and_then(interleave(runs, warmup=0, rounds=ROUNDS, seconds=SECONDS))
        if share.busy:
            logger.warning(
                "this machine is busy: rounds say %.3g to %.3g times the original's time, %.3g is taken",
                share.q1, share.q3, share.value,
            )  # fmt: skip
        return {**share.to_json(), "rounds": len(rounds.wall)}

    def _open(self, network: nn.Module) -> Run:
        with TemporaryDirectory() as folder:  # what runs it has read it
            return network_run(
                in_evaluation(network), self.example, self.profile.place, Path(folder) / "network.onnx"
            )


def plan_within_time(
    propose: Callable[[Budget], Plan],
    budget: Budget,
    stopwatch: Stopwatch,
    network: nn.Module,
    channels: Channels,
    *,
    close: float = CLOSE,
) -> Plan:
    """The plan proposed for a budget in milliseconds that was measured to keep it: `settle` with a stopwatch.

    Args:
        propose: the plan for a budget.
        budget: in absolute numbers, with times.
        network: what plans are of; its weights play no part.

    Raises:
        TooSlow: if none keeps it.
        ValueError: if that cannot be told here, or for what `propose` raises.
    """
    limit = budget.latency
    assert limit is not None
    assert limit.times is not None
    times, others = limit.times, Budget(tuple(other for other in budget.limits if other.kind != "latency"))
    inserted = any(
        in_extra_block(group.name) for group in channels.groups
    )  # the whole may be slower than the original
    if limit.amount >= stopwatch.profile.original and not inserted:
        return propose(others)

    def at(milliseconds: float) -> Plan:
        return propose(others if milliseconds == math.inf else budget.with_latency(limit.at(milliseconds)))

    try:
        return settle(
            at,
            lambda plan: times(channels, channels.widths(plan)),
            lambda plan: stopwatch(network, channels, plan),
            limit.amount,
            close=close,
        )
    except TooSlow as error:
        time, low, high = stopwatch.look(network, channels, error.fastest)
        if low > limit.amount or high - low < BUSY * time:
            raise
        raise ValueError(
            f"whether the budget latency={limit.amount:.6g}ms can be met is not measurable here: the fastest network takes "
            f"{low:.4g} to {high:.4g} ms, since something else runs on this machine; try again when nothing does"
        ) from error


def settle(
    propose: Callable[[float], Plan],
    estimate: Callable[[Plan], float],
    measure: Callable[[Plan], float],
    limit: float,
    *,
    close: float = CLOSE,
) -> Plan:
    """The widest plan found whose measured time keeps a limit.

    Every measurement says by how much estimates are off, so that the next proposal comes closer. It ends within a few
    percent of the limit, where proposals no longer differ, or after ten measurements.

    Args:
        propose: the plan for a limit on the estimated milliseconds; raises ValueError where none is so small.
        estimate: milliseconds of a plan by the profile.
        measure: milliseconds of a plan on the device.
        limit: milliseconds.
        close: from which share of the limit on a plan that keeps it is wide enough; 0: the first one found is.

    Raises:
        TooSlow: if no plan keeps it, with the time of the fastest.
        ValueError: what `propose` raises whatever the limit.
    """
    propose(math.inf)  # another limit that cannot be met says so
    # limits on estimates: below, plans fit or there are none; above, they do not fit
    low, high = 0.0, math.inf
    best: Plan | None = None
    seen: dict[Plan, float] = {}
    aim = limit
    while len(seen) < TRIES and low * FINEST < high and limit / FARTHEST < aim < FARTHEST * limit:
        plan = _proposed(propose, aim)
        if plan is None:
            low, guess = max(low, aim), 0.0
        else:
            known = plan in seen
            if not known:
                seen[plan] = measure(plan)
                logger.info(
                    "a plan of %.4g ms by the profile takes %.4g ms; the budget is %.4g ms",
                    estimate(plan), seen[plan], limit,
                )  # fmt: skip
            time = seen[plan]
            if time <= ENOUGH * limit:
                low, best = max(low, aim), plan
                if time >= close * limit or plan.keep.all():
                    return plan
            else:
                high = min(high, aim)
            guess = 0.0 if known else AIM * limit * estimate(plan) / time
        aim = guess if low < guess < high else _between(low, high, aim)
    if best is None and not seen:  # estimates are far off: the smallest plan tells
        seen = _smallest(propose, measure, aim)
    fastest, time = min(seen.items(), key=lambda pair: pair[1])
    if best is None and time > limit:
        raise TooSlow(
            f"the budget latency={limit:.6g}ms cannot be met: the fastest network takes {time:.4g} ms",
            fastest,
        )
    return best or fastest


def _smallest(
    propose: Callable[[float], Plan], measure: Callable[[Plan], float], aim: float
) -> dict[Plan, float]:
    """The plan of the first limit on the estimate that has one, and its time."""
    while (plan := _proposed(propose, aim)) is None:
        aim *= WIDER
    return {plan: measure(plan)}


def _proposed(propose: Callable[[float], Plan], aim: float) -> Plan | None:
    try:
        return propose(aim)
    except ValueError:
        return None


def _between(low: float, high: float, aim: float) -> float:
    """Where to look next without a guess."""
    if high == math.inf:
        return max(low, aim) * WIDER
    return math.sqrt(low * high) if low else high / 2
