"""What a run tells of its hinges: hinges.json, and what the report shows of that (Fig. 2)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ganshrink.methods.decig.hinges import Hinge
from ganshrink.pruning.knees import NOTHING
from ganshrink.reports.section import Chart, Charts, Line, Section, Style, Text

POINTS = 256  # of a curve: more than a small picture shows
ABOUT = (
    "A layer's channels, the largest first, by the L1 norm of their weights over that of the largest. Where the curve falls "
    "to nearly nothing is the layer's hinge; what is behind it was cut, and the budget may cut more."
)
LEGEND: list[tuple[Style, str]] = [("band", "kept"), ("faint", "cut"), ("dashed", "hinge")]
MOVED: tuple[Style, str] = ("dotted", "hinge by the curve alone")


def told(name: str, magnitudes: Tensor, hinge: Hinge, kept: int) -> dict[str, Any]:
    """What hinges.json holds of a layer.

    `name`, `of` and `kept` channels; `hinge` and `how` it came about: hand, curve, images (alone) or none;
    `moved_from` where the images moved it; `change` of the images without what is behind it, where that was looked at;
    the curve as `channels` (1 is the largest) and their `magnitudes` over the largest.
    """
    curve = magnitudes.double().cpu().sort(descending=True).values.numpy()
    at = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), POINTS)).round().astype(int))
    place = {"hinge": None if hinge.how == "none" else hinge.kept, "moved_from": hinge.moved_from}
    change = None if hinge.change is None else _rounded(hinge.change)
    layer = {"name": name, "of": len(curve), "kept": kept, "how": hinge.how, **place, "change": change}
    shares = [_rounded(value / (curve[0] or 1)) for value in curve[at]]
    return {**layer, "channels": (at + 1).tolist(), "magnitudes": shares}


def summary(found: Mapping[str, Any]) -> str:
    """How the hinges came about, in a sentence."""
    layers = found["layers"]
    how = [layer["how"] for layer in layers]
    flat = [layer["name"] for layer in layers if layer["how"] == "none"]
    moved = [layer for layer in layers if layer["moved_from"] is not None]
    deeper = [layer for layer in layers if layer["how"] != "none" and layer["kept"] < layer["hinge"]]
    some, eps = ", ".join(flat[:3]) + ", ..." * (len(flat) > 3), 100 * found.get("sensitivity", 0)
    facts = {
        f"without one are cut by the budget alone ({some})": len(flat),
        "set by hand": how.count("hand"),
        "seen on images alone": how.count("images"),
        f"moved up, since the images changed by more than {eps:g} %": len(moved),
        "cut deeper by the budget": len(deeper),
    }
    said = [f"{len(how) - len(flat)} of {len(how)} layers have a hinge"]
    said += [f"{count} {text}" for text, count in facts.items() if count]
    if found.get("change") is not None:
        said.append(
            f"without all that was cut, before finetuning, the images change by {100 * found['change']:.2g} %"
        )
    return "; ".join(said)


def hinges_section(found: Mapping[str, Any]) -> Section:
    """The section of what hinges.json says."""
    layers = found["layers"]
    legend = LEGEND + [MOVED] * any(layer["moved_from"] is not None for layer in layers)
    bottom = max(NOTHING, min(0.1, *(layer["magnitudes"][-1] for layer in layers)))  # one scale for all
    charts = Charts([_chart(layer, bottom) for layer in layers], legend=legend)
    return Section("Hinges", [Text(ABOUT), Text(f"{summary(found)}.", note=True), charts])


def _chart(layer: Mapping[str, Any], bottom: float) -> Chart:
    name, of, kept, hinge = layer["name"], layer["of"], layer["kept"], layer["hinge"]
    at, curve = layer["channels"], [max(value, NOTHING) for value in layer["magnitudes"]]
    split = sum(channel <= kept for channel in at)
    lines = [Line(at[:split], curve[:split]), Line(at[split:], curve[split:], "faint")]
    places: list[tuple[Any, Style]] = [(hinge, "dashed"), (layer["moved_from"], "dotted")]
    label = f"{name}: {'no hinge' if hinge is None else f'hinge at {hinge}'}, {kept} of {of} channels kept"
    return Chart(
        name, label, [line for line in lines if line.x], f"{kept} of {of}",
        marks=[(place + 0.5, style) for place, style in places if place is not None],
        band=(0.5, kept + 0.5), x=(1, of), y=(bottom, 1), log=True, percent=True,
    )  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
