"""The page's section on hinges: the sorted channels of every layer, and where it was cut (DECIG, Fig. 2)."""

import math
from typing import Any

from ganshrink.reports.drawing import ACCENT, FAINT, WARN, WASH, drawn
from ganshrink.reports.files import RunFiles, dicts, number
from ganshrink.reports.sections import shortened

FILE = "hinges.json"
SHOWN = 24  # layers; the others are folded away
LEAST = 1e-5  # of the largest channel; smaller ones are drawn here

Points = list[tuple[int, float]]


def hinges(run: RunFiles) -> dict[str, Any] | None:
    """`shown` and `folded` charts (name, short, kept, label, svg), `facts` to be said above them, and whether any hinge was
    `moved`. None if the run was not cut at hinges."""
    found = run.optional(FILE)
    layers = [(layer, points) for layer in dicts(found, "layers") if (points := _points(layer))]
    if not layers:
        return None
    least = min(value for _, points in layers for _, value in points)
    bottom = 10.0 ** math.floor(min(-1.0, math.log10(least)))
    charts = [_chart(f"layer-{place}", *one, bottom) for place, one in enumerate(layers)]
    return {
        "shown": charts[:SHOWN],
        "folded": charts[SHOWN:],
        "facts": _facts(found, [layer for layer, _ in layers]),
        "moved": any(number(layer, "moved_from") is not None for layer, _ in layers),
    }


def _points(layer: dict[str, Any]) -> Points:
    """(channel, magnitude over the largest) of a layer, none if its numbers are not whole."""
    sides = [layer.get(key) for key in ("channels", "magnitudes")]
    if not all(isinstance(side, list) for side in sides) or any(
        number(layer, key) is None for key in ("of", "kept")
    ):
        return []
    pairs = zip(*sides, strict=False)  # type: ignore[arg-type]
    return [(c, max(v, LEAST)) for c, v in pairs if isinstance(c, int) and isinstance(v, int | float)]


def _facts(found: dict[str, Any], layers: list[dict[str, Any]]) -> list[str]:
    """How the hinges came about, each fact with its count."""
    how = [layer.get("how") for layer in layers]
    moved = sum(number(layer, "moved_from") is not None for layer in layers)
    below = sum(layer["kept"] < hinge for layer in layers if (hinge := number(layer, "hinge")) is not None)
    eps = number(found, "sensitivity")
    said = [
        (len(how) - how.count("none"), f"of {len(how)} layers have a hinge"),
        (how.count("hand"), "set by hand"),
        (how.count("dead"), "in layers that are dead as a whole"),
        (moved, f"moved up, since the images changed by more than {100 * (eps or 0):g} %"),
        (below, "cut deeper by the budget"),
    ]
    return [f"{count} {text}" for place, (count, text) in enumerate(said) if count or not place]


def _chart(key: str, layer: dict[str, Any], points: Points, bottom: float) -> dict[str, str]:
    name, hinge = str(layer.get("name")), number(layer, "hinge")
    told = f"hinge at {hinge:.0f}" if hinge is not None else "no hinge"
    label = f"{name}: {told}, {layer['kept']} of {layer['of']} channels kept"
    return {
        "name": name,
        "short": shortened(name),
        "kept": f"{layer['kept']} of {layer['of']}",
        "label": label,
        "svg": _draw(key, layer, points, bottom),
    }


def _draw(key: str, layer: dict[str, Any], points: Points, bottom: float) -> str:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    of, kept, marks = layer["of"], layer["kept"], {"hinge": "--", "moved_from": ":"}

    def paint(axes: Any) -> None:
        axes.axvspan(0.5, kept + 0.5, color=WASH, linewidth=0)
        for colour, part in (
            (ACCENT, [p for p in points if p[0] <= kept]),
            (FAINT, [p for p in points if p[0] > kept]),
        ):
            style = {"marker": "o", "markersize": 1.6} if of <= 64 else {}
            axes.plot([c for c, _ in part], [v for _, v in part], color=colour, linewidth=1.6, **style)
        for mark, line in marks.items():
            at = number(layer, mark)
            if at is not None:
                axes.axvline(at + 0.5, color=WARN, linestyle=line, linewidth=1.2)
        axes.set(xlim=(0.5, of + 0.5), yscale="log", ylim=(bottom, 1.6))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(LogLocator(numticks=4))
        axes.yaxis.set_major_formatter(lambda value, place: f"{100 * value:g} %")
        axes.yaxis.set_minor_locator(NullLocator())

    return drawn(key, paint)
