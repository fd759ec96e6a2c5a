"""What the report shows of the hinges: the sorted channels of every layer, and where it was cut (Fig. 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ganshrink.reports.section import Chart, Charts, Line, Section, Style, Text

LEAST = 1e-5  # of the largest channel; smaller ones are drawn here


def hinges_section(found: Mapping[str, Any]) -> Section:
    """The section of what hinges.json says."""
    layers = found["layers"]
    moved = any(layer["moved_from"] is not None for layer in layers)
    legend: list[tuple[Style, str]] = [("band", "kept"), ("faint", "cut"), ("dashed", "hinge")]
    legend += [("dotted", "hinge by the curve alone")] if moved else []
    least = min((max(v, LEAST) for layer in layers for v in layer["magnitudes"]), default=1.0)
    bottom = min(0.1, least)  # one scale for all
    about = (
        "A layer's channels, the largest first, by the L1 norm of their weights over that of the largest. Where the curve "
        "falls to nearly nothing is the layer's hinge; what is behind it was cut, and the budget may cut more."
    )
    return Section(
        "Hinges",
        [
            Text(about),
            Text(f"{'; '.join(_facts(found, layers))}.", note=True),
            Charts([_chart(layer, bottom) for layer in layers], legend=legend),
        ],
    )


def _facts(found: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the hinges came about, each fact with its count."""
    how = [layer["how"] for layer in layers]
    moved = sum(layer["moved_from"] is not None for layer in layers)
    below = sum(layer["hinge"] is not None and layer["kept"] < layer["hinge"] for layer in layers)
    said = [
        (len(how) - how.count("none"), f"of {len(how)} layers have a hinge"),
        (how.count("hand"), "set by hand"),
        (how.count("dead"), "in layers that are dead as a whole"),
        (moved, f"moved up, since the images changed by more than {100 * found.get('sensitivity', 0):g} %"),
        (below, "cut deeper by the budget"),
    ]
    return [f"{count} {text}" for place, (count, text) in enumerate(said) if count or not place]


def _chart(layer: Mapping[str, Any], bottom: float) -> Chart:
    name, of, kept, hinge = layer["name"], layer["of"], layer["kept"], layer["hinge"]
    told = f"hinge at {hinge}" if hinge is not None else "no hinge"
    points = [(c, max(v, LEAST)) for c, v in zip(layer["channels"], layer["magnitudes"], strict=True)]
    sides = {"main": [p for p in points if p[0] <= kept], "faint": [p for p in points if p[0] > kept]}
    lines = [
        Line([c for c, _ in side], [v for _, v in side], style)  # type: ignore[arg-type]
        for style, side in sides.items()
        if side
    ]
    marks: list[tuple[float, Style]] = []
    if hinge is not None:
        marks.append((hinge + 0.5, "dashed"))
    if layer["moved_from"] is not None:
        marks.append((layer["moved_from"] + 0.5, "dotted"))
    label = f"{name}: {told}, {kept} of {of} channels kept"
    band = (0.5, kept + 0.5)
    return Chart(
        name,
        label,
        lines,
        f"{kept} of {of}",
        marks=marks,
        band=band,
        x=(1, of),
        y=(bottom, 1),
        log=True,
        percent=True,
    )
