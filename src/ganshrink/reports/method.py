"""The page's sections that a method gave: read from result.json with patience, charts drawn."""

import math
from typing import Any

from ganshrink.reports.drawing import ACCENT, FAINT, WARN, WASH, drawn
from ganshrink.reports.files import RunFiles, dicts, dig
from ganshrink.reports.sections import shortened

FILE = "result.json"
COLOURS = {"main": ACCENT, "faint": FAINT}
STROKES = {"dashed": "--", "dotted": ":"}
DOTTED = 64  # points, up to which each has a dot


def method_sections(run: RunFiles) -> list[dict[str, Any]]:
    """Each section's `title`, `key` and `content`: parts with their `kind`, ready for the template."""
    found = dicts(run.optional(FILE), "sections")
    return [
        {
            "title": str(section.get("title")),
            "key": f"method-{place}",
            "content": [
                _part(part, f"method-{place}-{n}") for n, part in enumerate(dicts(section, "content"))
            ],
        }
        for place, section in enumerate(found)
    ]


def _part(part: dict[str, Any], key: str) -> dict[str, Any]:
    if part.get("kind") == "table":
        rows = [[str(cell) for cell in row] for row in part.get("rows", []) if isinstance(row, list)]
        return {"kind": "table", "head": [str(cell) for cell in part.get("head", [])], "rows": rows}
    if part.get("kind") == "charts":
        made = (_chart(chart, f"{key}-{n}") for n, chart in enumerate(dicts(part, "charts")))
        charts = [chart for chart in made if chart is not None]
        shown = part.get("shown") if isinstance(part.get("shown"), int) else len(charts)
        legend = [(str(style), str(text)) for style, text in part.get("legend", [])]
        return {
            "kind": "charts",
            "title": part.get("title"),
            "legend": legend,
            "shown": charts[:shown],
            "folded": charts[shown:],
        }
    return {"kind": "text", "text": str(part.get("text", "")), "note": bool(part.get("note"))}


def _chart(chart: dict[str, Any], key: str) -> dict[str, str] | None:
    """A chart with its SVG; none where its numbers are not whole."""
    lines = [(str(line.get("style")), _points(line)) for line in dicts(chart, "lines")]
    points = [point for _, line in lines for point in line]
    if not points:
        return None
    title = str(chart.get("title"))
    told = {"title": title, "short": shortened(title)} | {
        k: str(chart.get(k, "")) for k in ("label", "value")
    }
    return {**told, "svg": _draw(key, chart, lines, points)}


def _points(line: dict[str, Any]) -> list[tuple[float, float]]:
    x, y = (side if isinstance(side := line.get(key), list) else [] for key in ("x", "y"))
    numbers = int | float
    return [
        (a, b)
        for a, b in zip(x, y, strict=False)
        if isinstance(a, numbers) and isinstance(b, numbers) and math.isfinite(b)
    ]


def _draw(
    key: str,
    chart: dict[str, Any],
    lines: list[tuple[str, list[tuple[float, float]]]],
    points: list[tuple[float, float]],
) -> str:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    ends, (least, most) = (
        chart.get(axis) or (min(side), max(side))
        for axis, side in zip("xy", zip(*points, strict=True), strict=True)
    )
    log = bool(chart.get("log")) and least > 0

    def paint(axes: Any) -> None:
        if band := dig(chart, "band"):
            axes.axvspan(*band, color=WASH, linewidth=0)
        for style, line in lines:
            dots = {"marker": "o", "markersize": 1.8} if len(points) <= DOTTED else {}
            axes.plot(*zip(*line, strict=True), color=COLOURS.get(style, ACCENT), linewidth=1.6, **dots)
        for at, style in chart.get("marks", []):
            axes.axvline(at, color=WARN, linestyle=STROKES.get(style, "-"), linewidth=1.2)
        axes.set(xlim=(ends[0] - 0.5, ends[1] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if log:
            axes.set(yscale="log", ylim=(10.0 ** math.floor(math.log10(least)), 1.6 * most))
            axes.yaxis.set_major_locator(LogLocator(numticks=4))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            margin = 0.1 * (most - least) or 0.1 * abs(most) or 0.1
            axes.set(ylim=(least - margin, most + margin))
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.ticklabel_format(axis="y", useOffset=False)  # small differences are read from whole numbers
        if chart.get("percent"):
            axes.yaxis.set_major_formatter(lambda value, place: f"{100 * value:g} %")

    return drawn(key, paint)
