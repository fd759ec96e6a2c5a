"""The verdict on a run: one sentence about cost, speed and quality, and whether the budget is met.

A pure function of the run's files, for terminal, report and verdict.json alike; docs/concepts.md has its rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ganshrink.reports.files import dicts, dig, number
from ganshrink.reports.numbers import compared, file_size, integer, milliseconds, quantity, times
from ganshrink.reports.quality import Grade, quality

Results = Mapping[str, Mapping[str, Any]]
"""The content of a run's JSON files, by name."""

State = Literal["met", "not met", "not measurable here"]

RUNTIMES = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch", "openvino": "OpenVINO"}  # the first counts
BUDGETS = {
    "macs": "exact MACs",
    "paper_macs": "paper MACs",
    "params": "parameters",
    "bytes": "bytes",
    "memory": "of activations",
}
GRADES: tuple[Grade, ...] = ("good", "doubtful", "bad")

BUSY = 0.2  # quartiles further apart than this share: something else ran on the machine
SAME = 0.05  # speeds nearer than this are the same
AGAIN = 0.02  # by which a second timing of the same network may be over a limit that the first one kept


@dataclass(frozen=True, slots=True)
class Check:
    """One limit of the budget: its name and state, and the sentence that says so."""

    name: str
    state: State
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a run.

    Attributes:
        grade: good only if nothing speaks against it.
        sentence: cost, speed and quality, and what speaks against them.
    """

    grade: Grade
    sentence: str
    cost: str
    speed: str
    quality: str
    remarks: Sequence[str]
    budget: Sequence[Check]


def verdict(results: Results) -> Verdict:
    """The verdict on a run by the content of its cost.json, metrics.json, latency.json and result.json, as far as they are
    there."""
    cost, budget = _cost(results), budget_checks(results)
    speed_grade, speed = _speed(results)
    pictures = quality(results.get("metrics.json", {}))
    grades, remarks = [pictures.grade, speed_grade], []
    if not results.get("cost.json"):
        grades.append("doubtful")
        remarks.append("the run is not finished")
    for check in budget:
        if check.state == "not met":
            grades.append("doubtful")
            remarks.append(f"over its budget {check.name}")
        elif check.state == "not measurable here":
            grades.append("doubtful")
            remarks.append(f"whether it keeps its budget {check.name} is not measurable here")
    training = results.get("result.json", {})
    steps, epoch = (number(training, "training", key) for key in ("steps", "epoch"))
    if steps is not None and epoch is not None and steps < epoch:
        grades.append("doubtful")
        remarks.append(f"trained for {integer(steps)} steps, of {integer(epoch)} in an epoch")
    remarks += _slower_in_integers(results)
    sentence = "; ".join([f"{cost}, {speed}, {pictures.link} {pictures.text}", *remarks]) + "."
    grade = max(grades, key=GRADES.index)
    return Verdict(grade, sentence[0].upper() + sentence[1:], cost, speed, pictures.text, remarks, budget)


def _cost(results: Results) -> str:
    """`10.0x fewer MACs, 8.9x fewer parameters`."""
    parts = []
    for path, word in ((("macs", "exact"), "MACs"), (("params",), "parameters")):
        teacher, student = (
            number(results.get("cost.json", {}), name, *path) for name in ("teacher", "student")
        )
        if teacher and student:
            parts.append(f"{compared(teacher / student, 'fewer', 'more')} {word}")
    return ", ".join(parts) or "its cost not counted"


# Speed


@dataclass(frozen=True, slots=True)
class Span:
    """A figure, and between what the middle half of its rounds lies."""

    value: float
    low: float
    high: float
    by_processor: bool = False  # not by the clock, whose rounds differed too much

    @property
    def busy(self) -> bool:
        return self.high - self.low > BUSY * self.value


def speedup(results: Results, runtime: str, network: str = "student") -> Span | None:
    """The teacher's time over a network's: of the lower quartiles, which survive it that something else runs now and then;
    in runs of earlier versions the median."""
    latency = results.get("latency.json", {})
    rows = dicts(latency, "rows")
    mine = [row for row in rows if row.get("runtime") == runtime and row.get("network") == network]
    ratio = (
        dig(latency, "ratios", runtime) if network == "student" else dig(mine[0] if mine else {}, "speedup")
    )
    value = number(ratio, "ratio") or number(ratio, "p50")
    if not value:
        return None
    low, high = (number(ratio, key) or value for key in ("q1", "q3"))
    return Span(value, min(value, low), max(value, high), dig(ratio, "by") == "cpu")


def _speed(results: Results) -> tuple[Grade, str]:
    found = next(((name, span) for name in RUNTIMES if (span := speedup(results, name))), None)
    if found is None:
        return "good", "its speed not measured"
    runtime, span = found
    where = f"in {RUNTIMES[runtime]}"
    if span.busy:
        about = f"about {times(span.low)} to {times(span.high)} faster {where}"
        if span.low < 1:
            about = f"between {compared(span.low, 'faster', 'slower')} and {compared(span.high, 'faster', 'slower')} {where}"
        return "doubtful", f"{about} (the machine was busy, measure again)"
    if span.by_processor:
        where += " by processor time, since the machine was busy"
    if abs(span.value - 1) < SAME:
        return "doubtful", f"as fast as its teacher {where}"
    return ("good" if span.value > 1 else "doubtful"), f"{compared(span.value, 'faster', 'slower')} {where}"


def _slower_in_integers(results: Results) -> list[str]:
    """In which runtimes the INT8 file is slower than the float network."""
    said = []
    for runtime, name in RUNTIMES.items():
        whole, integers = speedup(results, runtime), speedup(results, runtime, "int8")
        if not whole or not integers or whole.busy or integers.busy:
            continue
        if integers.value < (1 - SAME) * whole.value:
            said.append(f"INT8 is {times(whole.value / integers.value)} slower than float in {name}")
    return said


# The budget


def budget_checks(results: Results) -> list[Check]:
    """Every limit of the budget."""
    cost = results.get("cost.json", {})
    given, limits = (dig(cost, "budget", key) for key in ("given", "resolved"))
    names = {"macs": ("macs", "exact"), "paper_macs": ("macs", "paper")}
    checks = []
    for kind in limits if isinstance(limits, dict) else {}:
        limit = number(limits, kind)
        name = str(given) if given and len(limits) == 1 else kind
        if limit is None:
            continue
        if kind == "latency":
            checks += _latency_check(results, name, limit)
        elif kind in BUDGETS and (reached := number(cost, "student", *names.get(kind, (kind,)))) is not None:
            write = file_size if kind in ("bytes", "memory") else quantity
            state: State = "met" if reached <= limit else "not met"
            text = f"The budget {name} ({write(limit)} {BUDGETS[kind]}) is {state}: {write(reached)}."
            checks.append(Check(name, state, text))
    return checks


def _latency_check(results: Results, name: str, limit: float) -> list[Check]:
    """A limit in milliseconds: the final timing decides; where that is unsure, the one by which the plan was accepted."""
    timing = dig(results.get("cost.json", {}), "budget", "timing")
    measured, estimated = number(timing, "measured_ms"), number(timing, "estimated_ms")
    whole, runtime = number(timing, "original_ms"), str(dig(timing, "runtime"))
    beside = "the original" if whole else "the uncut network"
    takes = whole or number(timing, "uncut_ms") or 0.0
    given = f"The budget {name} ({milliseconds(limit)}) is"
    if measured is None:
        if estimated is None:
            return []
        state: State = "met" if estimated <= limit else "not met"
        how = f"by a device profile of {dig(timing, 'device')} alone: it was not measured"
        return [Check(name, state, f"{given} {state}: {milliseconds(estimated)}, {how}.")]
    low, high = (number(timing, key) or measured for key in ("q1_ms", "q3_ms"))
    accepted = Span(measured, min(measured, low), max(measured, high))
    state = _state(accepted, limit)
    texts = [f"{_span(accepted)} when its plan was accepted"]
    if whole and (final := _final(results, str(dig(timing, "device")), runtime, whole)):
        again = _state(final, limit * (1 + AGAIN))
        state = state if again == "not measurable here" else again
        texts.append(f"{_span(final)} at the end")
    how = f"measured in {RUNTIMES.get(runtime, runtime)} beside {beside}, which takes {milliseconds(takes)}"
    busy = "; the machine was busy, measure again" * (state == "not measurable here")
    return [Check(name, state, f"{given} {state}: {', '.join(texts)}, {how}{busy}.")]


def _final(results: Results, device: str, runtime: str, whole: float) -> Span | None:
    """Milliseconds of the finished student by latency.json, if that was timed on the budget's device."""
    latency, ratio = results.get("latency.json", {}), speedup(results, runtime)
    threads = number(latency, "protocol", "threads") or 0
    same = device.startswith(f"{dig(latency, 'device')}, ") and f", {threads:.0f} thread" in device
    if ratio is None or not same:
        return None
    return Span(whole / ratio.value, whole / ratio.high, whole / ratio.low)


def _state(time: Span, limit: float) -> State:
    if not time.busy:
        return "met" if time.value <= limit else "not met"
    return "met" if time.high <= limit else "not met" if time.low > limit else "not measurable here"


def _span(time: Span) -> str:
    if time.busy:
        return f"{milliseconds(time.low)} to {milliseconds(time.high)}"
    return milliseconds(time.value)
