"""compare.html: who is best at which budget, by how much, what it cost to train, and what it looks like."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganshrink.reports.drawing import ACCENT, FAINT, TEXT, WARN, drawn
from ganshrink.reports.files import RunFiles, data_uri, dicts, number
from ganshrink.reports.numbers import MINUS, duration, file_size, integer, milliseconds, quantity, rate, score
from ganshrink.reports.page import filled, shown
from ganshrink.reports.summary import arrow
from ganshrink.reports.words import figure, in_a_sentence, in_words
from ganshrink.system.atomic import write_text

PICTURES = 4  # rows of them for each budget
AXES = (("macs", "multiply-accumulates"), ("ms", "ms a picture"), ("bytes", "bytes of weights"))

Json = Mapping[str, Any]


def write_comparison(path: Path, result: Json, runs: Mapping[str, RunFiles]) -> None:
    """Write the page of a comparison, whole or not at all.

    Args:
        result: what compare.json holds.
        runs: the runs with a result, by the names that it calls them.

    Raises:
        ValueError: if the extra `report` is not installed.
    """
    places = [_place(result, ranking, runs) for ranking in dicts(result, "ranking")]
    page = filled(
        "comparison.html.j2",
        name=path.resolve().parent.name,
        result=result,
        title=_title(result),
        headline=shown(_title(result)),
        gates=[_gate(result, gate) for gate in dicts(result, "gate")],
        metrics=[(name, arrow(better)) for name, better in result["metrics"].items()],
        teacher=_row("teacher", result["teacher"], result),
        floors=[_row(name, {"metrics": values}, result) for name, values in result["floors"].items()],
        places=places,
        charts=_charts(result),
        protocols=[(name, list(protocol.items())) for name, protocol in result["protocols"].items()],
        cells=[_training(row, cell) for row in dicts(result, "rows") for cell in dicts(row, "cells")],
        left_out=[
            (name, what, reason)
            for name, reasons in result["left_out"].items()
            for what, reason in reasons.items()
        ],
    )
    write_text(path, page)


def _label(place: Json) -> str:
    """`macs=10%`, and with fewer labels how many."""
    fraction = place["label_fraction"]
    return f"{place['budget']}" + (f", {fraction:.0%} of the labels" if fraction < 1 else "")


def _title(result: Json) -> str:
    parts = []
    for ranking in dicts(result, "ranking"):
        places = ranking["places"]
        if not places:
            continue
        first = places[0]
        if len(first) == 1:
            said = f"{first[0]} is best"
        elif len(places) == 1:
            said = "all are tied"
        else:
            said = f"{', '.join(first[:-1])} and {first[-1]} are tied for the first place"
        parts.append(f"{_label(ranking)}: {said}")
    several = all(len(row["seeds"]) > 1 for row in dicts(result, "rows"))
    return f"By {in_a_sentence(result['rank_by'])}, {'; '.join(parts)}{'' if several else ' (some of one seed)'}."


def _gate(result: Json, gate: Json) -> dict[str, Any]:
    if gate["passed"] is None:
        return {"label": _label(gate), "passed": None, "reason": gate["reason"]}
    gap = _difference(gate, result["metrics"][result["rank_by"]])
    one = "" if gate["seeds"] > 1 else ", on these pictures, one seed"
    return {"label": _label(gate), "passed": gate["passed"], "gap": gap, "one": one}


def _place(result: Json, ranking: Json, runs: Mapping[str, RunFiles]) -> dict[str, Any]:
    """A budget: its rows from best to worst, those tied with the one above them marked, and their pictures."""
    rows = {
        row["entry"]: row
        for row in dicts(result, "rows")
        if (row["budget"], row["label_fraction"]) == (ranking["budget"], ranking["label_fraction"])
    }
    found, before = [], 0
    for names in ranking["places"]:
        for name in names:
            found.append(_row(name, rows[name], result) | {"place": before + 1, "tied": len(names) > 1})
        before += len(names)
    placed = {row["entry"] for row in found}
    found += [
        _row(name, row, result) | {"place": None, "tied": False}
        for name, row in rows.items()
        if name not in placed
    ]
    verdicts = [
        {"entry": row["entry"], "grade": told["grade"], "sentence": shown(told["sentence"])}
        for row in found
        if (told := rows[row["entry"]]["cells"][0].get("verdict"))
    ]
    return {
        "label": _label(ranking),
        "rows": found,
        "verdicts": verdicts,
        "gallery": _gallery(found, rows, runs),
    }


def _row(entry: str, row: Json, result: Json) -> dict[str, Any]:
    """One line of the table, as text."""
    ms = row.get("ms") or {}
    return {
        "entry": entry,
        "seeds": len(row.get("seeds", ())),
        "macs": _or_dash(row.get("macs"), quantity),
        "params": _or_dash(row.get("params"), quantity),
        "bytes": _or_dash(row.get("bytes"), file_size),
        "memory": _or_dash(row.get("memory"), file_size),
        "ms": _or_dash(ms.get("p50"), milliseconds),
        "fps": rate(ms["p50"]) if ms.get("p50") else "",
        "values": [_value(name, row["metrics"].get(name)) for name in result["metrics"]],
        "against_teacher": _differences(row.get("against_teacher", {}), result),
        "against_reference": _differences(row.get("against_reference", {}), result),
        "said": row.get("said", ()),
    }


def _or_dash(value: Any, write: Any) -> str:
    return "–" if value is None else write(value)


def _value(name: str, entry: Json | None) -> dict[str, Any]:
    """A value, and below it its interval and its spread over seeds, as far as they are known."""
    if entry is None:
        return {"main": "–", "sub": []}
    value, sub = entry["value"], []
    if entry["low"] is not None and entry["low"] < entry["high"]:
        sub.append(f"{score(entry['low'], like=value)} to {score(entry['high'], like=value)}")
    if entry.get("spread") is not None:
        sub.append(f"±{score(entry['spread'], like=value)} over seeds")
    return {"main": figure(name, value), "sub": sub}


def _differences(entries: Json, result: Json) -> list[dict[str, Any] | None]:
    return [
        _difference(entries[name], better) if name in entries else None
        for name, better in result["metrics"].items()
    ]


def _difference(gap: Json, better: str) -> dict[str, Any]:
    """`+1.2`, its interval, and whether it is a gain or a loss beyond that."""
    value, low, high = (gap[key] for key in ("value", "low", "high"))
    known = low is not None and high is not None
    certain = known and (low > 0 or high < 0)
    gain = (value > 0) == (better == "higher")
    return {
        "main": _signed(value, value),
        "sub": f"{_signed(low, value)} to {_signed(high, value)}" if known and low < high else "",
        "kind": ("good" if gain else "bad") if certain else "level",
    }


def _signed(value: float, like: float) -> str:
    return f"{'+' if value >= 0 else MINUS}{score(abs(value), like=like)}"


def _training(row: Json, cell: Json) -> dict[str, str]:
    """What a cell took."""
    stages = {stage["name"]: number(stage, "seconds") for stage in dicts(cell, "stages")}
    return {
        "name": cell["name"],
        "student": integer(cell["images"]["student"]),
        "search": integer(cell["images"]["search"]) if cell["images"]["search"] else "–",
        "stages": ", ".join(f"{name} {duration(s)}" for name, s in stages.items() if s is not None),
    }


def _gallery(
    rows: list[dict[str, Any]], entries: Mapping[str, Json], runs: Mapping[str, RunFiles]
) -> dict[str, Any]:
    """The first seed's pictures of every entry beside the teacher's, of the same inputs."""
    members = {row["entry"]: runs.get(entries[row["entry"]]["cells"][0]["name"]) for row in rows}
    shown = {entry: run for entry, run in members.items() if run is not None}
    if not shown:
        return {"columns": [], "rows": []}
    first = next(iter(shown.values()))
    lines: list[dict[str, Any]] = []
    for place, sample in enumerate(dicts(first.get("samples/samples.json"), "rows")[:PICTURES]):
        images: dict[str, str | None] = {}
        for kind in ("input", "teacher"):
            images[kind] = data_uri(first, sample.get(kind))
        for entry, run in shown.items():
            theirs = dicts(run.get("samples/samples.json"), "rows")
            same = len(theirs) > place and theirs[place].get("name") == sample.get("name")
            images[entry] = data_uri(run, theirs[place].get("student")) if same else None
        images["target"] = data_uri(first, sample.get("target"))
        lines.append({"name": str(sample.get("name")), "images": images})
    columns = [
        kind for kind in (lines[0]["images"] if lines else ()) if any(r["images"][kind] for r in lines)
    ]
    return {"columns": columns, "rows": lines}


def _charts(result: Json) -> list[dict[str, str]]:
    """The metric that decides over what students cost, by the numbers that rows have in the legend."""
    rows = dicts(result, "rows")
    entries = list(dict.fromkeys(row["entry"] for row in rows))
    better = result["metrics"][result["rank_by"]]
    found = []
    for key, label in AXES:
        points = [(entries.index(row["entry"]) + 1, _cost(row, key), _score(row, result)) for row in rows]
        known = [(n, x, y) for n, x, y in points if x is not None and y is not None]
        teacher = (_cost(result["teacher"], key), _score(result["teacher"], result))
        if not known:
            continue

        def paint(axes: Any, known: Any = known, teacher: Any = teacher) -> None:
            frontier = _frontier([(x, y) for _, x, y in known], higher=better == "higher")
            axes.plot(*zip(*frontier, strict=True), color=FAINT, linewidth=1, zorder=1)
            for number_, x, y in known:
                axes.text(x, y, str(number_), color=ACCENT, ha="center", va="center", fontsize=8)
            if None not in teacher:
                axes.text(*teacher, "T", color=WARN, ha="center", va="center", fontsize=8)
            everything = [(x, y) for _, x, y in known] + ([teacher] if None not in teacher else [])
            xs, ys = zip(*everything, strict=True)
            pad = 0.08 * (max(ys) - min(ys) or 1)
            axes.set_xscale("log")
            axes.set_xlim(min(xs) / 1.3, max(xs) * 1.3)
            axes.set_xticks([min(xs), max(xs)], [quantity(float(f"{x:.2g}")) for x in (min(xs), max(xs))])
            axes.set_xticks([], minor=True)
            axes.set_ylim(min(ys) - pad, max(ys) + pad)
            axes.tick_params(labelsize=7)
            axes.set_xlabel(label, color=TEXT, fontsize=7)  # noqa: B023

        svg = drawn(f"pareto-{key}", paint)
        found.append({"title": f"{in_words(result['rank_by'])} {arrow(better)} over {label}", "svg": svg})
    legend = [f"{place} {entry}" for place, entry in enumerate(entries, 1)]
    return [chart | {"legend": ", ".join(legend)} for chart in found]


def _cost(row: Json, key: str) -> float | None:
    return number(row, "ms", "p50") if key == "ms" else number(row, key)


def _score(row: Json, result: Json) -> float | None:
    return number(row, "metrics", result["rank_by"], "value")


def _frontier(points: list[tuple[float, float]], *, higher: bool) -> list[tuple[float, float]]:
    """Those that no cheaper one is better than."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1] if higher else point[1])):
        if not found or (y > found[-1][1]) == higher and y != found[-1][1]:
            found.append((x, y))
    return found
