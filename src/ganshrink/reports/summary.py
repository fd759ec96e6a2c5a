"""The strip of from-to figures, and the before/after table."""

from dataclasses import dataclass
from typing import Any

from ganshrink.reports.files import RunFiles, dicts, dig, interval, number
from ganshrink.reports.numbers import (
    MINUS,
    compared,
    file_size,
    integer,
    milliseconds,
    quantity,
    rate,
    score,
    times,
)
from ganshrink.reports.verdict import RUNTIMES, speedup
from ganshrink.reports.words import figure, in_words

NAMED = 60  # characters of a device's name
PAPERS = "MACs, papers' way"
FILES = {"int8": "student-int8"}  # what a network's files are called, where not like itself


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, and a smaller one under it."""

    main: str
    sub: str = ""


EMPTY = Cell("")


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity over all networks; `better` is `higher` or `lower`, `good` whether the student gained, `raw` the name of
    a metric that is labelled in words."""

    label: str
    note: str
    better: str
    cells: list[Cell]
    change: Cell
    good: bool
    raw: str = ""


def network_names(run: RunFiles) -> list[str]:
    """teacher and student first, then whatever else the files hold."""
    found = ["teacher", "student"]
    for name in ("cost.json", "metrics.json"):
        found += [key for key, value in run.get(name).items() if isinstance(value, dict)]
    found += [str(row.get("network")) for row in latency_rows(run)]
    return [name for name in dict.fromkeys(found) if name not in ("input", "budget", "None")]


def latency_rows(run: RunFiles) -> list[dict[str, Any]]:
    """The rows of latency.json that name a network and a time."""
    return [row for row in dicts(run.get("latency.json"), "rows") if number(row, "p50_ms") is not None]


def cost_of(run: RunFiles, network: str, kind: str) -> float | None:
    """`params`, `bytes`, `memory`, `exact` or `paper` of a network."""
    path = (kind,) if kind in ("params", "bytes", "memory") else ("macs", kind)
    return number(run.get("cost.json"), network, *path)


def strip(run: RunFiles) -> list[dict[str, str]]:
    """A handful of figures, student's large, teacher's beside: label, before, after, and a smaller one beside that."""
    found: list[tuple[str, str, str, str]] = []  # label, before, after, beside
    for kind, label in (("exact", "Multiply-accumulates (MACs)"), ("params", "Parameters")):
        before, after = (cost_of(run, network, kind) for network in ("teacher", "student"))
        if after is not None:
            found.append((label, "" if before is None else quantity(before), quantity(after), ""))
    p50 = {(row.get("network"), row.get("runtime")): row["p50_ms"] for row in latency_rows(run)}
    for runtime in ("onnxruntime", "torch"):
        if student := p50.get(("student", runtime)):
            teacher = p50.get(("teacher", runtime))
            told = f"{milliseconds(teacher)}, {rate(teacher)}" if teacher else ""
            label = f"Time of a picture, {RUNTIMES[runtime]}"
            found.append((label, told, milliseconds(student), rate(student)))
            break
    for name in list(_metrics(run))[:1]:
        before, after = (_metric(run, network, name) for network in ("teacher", "student"))
        if after is not None:
            label = f"{in_words(name)} {arrow(_metrics(run)[name])}"
            found.append((label, "" if before is None else figure(name, before), figure(name, after), ""))
    return [dict(zip(("label", "before", "after", "beside"), one, strict=True)) for one in found]


def arrow(better: str) -> str:
    """The direction in which a figure gets better."""
    return {"higher": "↑", "lower": "↓"}.get(better, "")


def table(run: RunFiles, networks: list[str]) -> list[tuple[str, list[Row]]]:
    """The before/after table: (heading, rows) for cost, speed and quality; then costs as papers count them."""
    rows = _cost_rows(run, networks)
    groups = [
        ("Cost", [row for row in rows if row.label != PAPERS]),
        ("Speed", [*_speed_rows(run, networks), *_device_rows(run, networks)]),
        (
            "Quality",
            [
                *(_metric_row(run, networks, name) for name in _metrics(run)),
                *_checkerboard_row(run, networks),
            ],
        ),
        (PAPERS, [row for row in rows if row.label == PAPERS]),
    ]
    return [(heading, rows) for heading, rows in groups if rows]


def _cost_rows(run: RunFiles, networks: list[str]) -> list[Row]:
    rows = []
    kinds = (
        ("params", "Parameters", "", quantity),
        ("exact", "Multiply-accumulates (MACs)", "convolutions and linears, one image", quantity),
        ("memory", "Memory", "activations at their peak, float32, one image", file_size),
        ("paper", PAPERS, "transposed convolutions at output size", quantity),
    )
    for kind, label, note, write in kinds:
        values = [cost_of(run, network, kind) for network in networks]
        cells = [Cell(write(v), integer(v)) if v is not None else EMPTY for v in values]
        if any(value is not None for value in values):
            rows.append(_lower_row(label, note, cells, values, networks, ("fewer", "more")))
    for suffix, label in ((".safetensors", "Weights file"), (".onnx", "ONNX file")):
        values = [run.size(FILES.get(network, network) + suffix) for network in networks]
        cells = [Cell(file_size(v)) if v is not None else EMPTY for v in values]
        if any(value is not None for value in values):
            rows.append(_lower_row(label, suffix, cells, values, networks, ("smaller", "larger")))
    return rows


def _lower_row(
    label: str,
    note: str,
    cells: list[Cell],
    values: list[float | None],
    networks: list[str],
    words: tuple[str, str],
) -> Row:
    ratio = _ratio(*(values[networks.index(name)] for name in ("teacher", "student")))
    change = Cell(compared(ratio, *words)) if ratio else Cell("")
    return Row(label, note, "lower", cells, change, bool(ratio and ratio > 1))


def _speed_rows(run: RunFiles, networks: list[str]) -> list[Row]:
    rows = []
    for runtime in dict.fromkeys(str(row.get("runtime")) for row in latency_rows(run)):
        mine = {row.get("network"): row for row in latency_rows(run) if row.get("runtime") == runtime}
        cells = [_latency_cell(mine.get(network)) for network in networks]
        first = next(iter(mine.values()))
        size = _size(first["input"]) if isinstance(first.get("input"), list) else ""
        threads = first.get("threads", "?")
        note = (
            f"median, and p95, which 19 of 20 stay below; batch {first.get('batch', 1)}, {size}, {threads} "
            f"thread{'s' * (threads != 1)}"
        )
        ratio, change = speedup(run.json, runtime), Cell("")
        if ratio:
            spread = f"{times(ratio.low)} to {times(ratio.high)}"
            change = Cell(compared(ratio.value, "faster", "slower"), spread)
        label = f"Time of a picture, {RUNTIMES.get(runtime, runtime)}"
        rows.append(Row(label, note, "lower", cells, change, bool(ratio and ratio.low > 1)))
    return rows


def _device_rows(run: RunFiles, networks: list[str]) -> list[Row]:
    """What the page in a browser measured, a row for each device."""
    rows = []
    for device in dicts(run.optional("devices.json"), "devices"):
        cells = []
        for network in networks:
            p50 = number(device, "networks", network, "p50_ms")
            cells.append(EMPTY if p50 is None else Cell(milliseconds(p50), rate(p50)))
        ratio, size = number(device, "ratio"), device.get("input")
        change = Cell(compared(ratio, "faster", "slower")) if ratio else Cell("")
        place = f"{device.get('place', '')}, {_size(size) if isinstance(size, list) else ''}"
        label = f"In a browser, {str(device.get('name', ''))[:NAMED]}"
        rows.append(Row(label, f"median, {place}", "lower", cells, change, bool(ratio and ratio > 1)))
    return rows


def _size(shape: list[Any]) -> str:
    """`3×256×256`, or for several inputs `3×256×256 and 8`."""
    if any(isinstance(part, list) for part in shape):
        return " and ".join(_size(part) for part in shape)
    return "×".join(str(number) for number in shape)


def _latency_cell(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return EMPTY
    p95 = number(row, "p95_ms")
    slowest = f", p95 {milliseconds(p95)}" if p95 is not None else ""
    return Cell(milliseconds(row["p50_ms"]), f"{rate(row['p50_ms'])}{slowest}")


def _metrics(run: RunFiles) -> dict[str, str]:
    """Names of all metrics of all networks, each with its better direction."""
    names: dict[str, str] = {}
    for network in run.get("metrics.json").values():
        for name, entry in (network if isinstance(network, dict) else {}).items():
            if number(entry, "value") is not None:
                names.setdefault(name, str(entry.get("better", "")))
    return names


def _metric(run: RunFiles, network: str, name: str) -> float | None:
    return number(run.get("metrics.json"), network, name, "value")


def _score_cell(run: RunFiles, network: str, name: str) -> Cell:
    """A value, and under it within which 95 % of such values lie."""
    value = _metric(run, network, name)
    if value is None:
        return EMPTY
    found = interval(dig(run.get("metrics.json"), network, name))
    ends = [score(end, like=value) for end in found or ()]
    return Cell(figure(name, value), " to ".join(ends))


def _metric_row(run: RunFiles, networks: list[str], name: str) -> Row:
    better = _metrics(run)[name]
    values = [_metric(run, network, name) for network in networks]
    cells = [_score_cell(run, network, name) for network in networks]
    raw = name if in_words(name) != name else ""
    teacher, student = (values[networks.index(network)] for network in ("teacher", "student"))
    if teacher is None or student is None or better not in ("higher", "lower"):
        return Row(in_words(name), "", better, cells, Cell(""), False, raw)
    gain = (student - teacher) * (1 if better == "higher" else -1)
    sign = "+" if student >= teacher else MINUS
    word = "better" if gain > 0 else "worse" if gain < 0 else "equal"
    change = Cell(f"{sign}{figure(name, abs(student - teacher), like=teacher)} {word}")
    return Row(in_words(name), "", better, cells, change, gain > 0, raw)


def _checkerboard_row(run: RunFiles, networks: list[str]) -> list[Row]:
    """What was measured beside the sample pictures, unless it is among the metrics."""
    raw = "checkerboard"
    values = [number(run.get("samples/samples.json"), raw, network) for network in networks]
    if raw in _metrics(run) or not any(value is not None for value in values):
        return []
    cells = [Cell(score(value)) if value is not None else EMPTY for value in values]
    note = "levels of 255 that repeat every 2 or 4 pixels"
    return [_lower_row(in_words(raw), note, cells, values, networks, ("weaker", "stronger"))]


def _ratio(teacher: float | None, student: float | None) -> float | None:
    return teacher / student if teacher and student else None
