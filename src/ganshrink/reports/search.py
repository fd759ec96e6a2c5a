"""The page's section on an architecture search: the networks that it found, and how it came to them (UGC, section 3.2)."""

import math
from typing import Any

from ganshrink.reports.drawing import ACCENT, drawn
from ganshrink.reports.files import RunFiles, dig, number
from ganshrink.reports.numbers import integer, quantity, score, times
from ganshrink.reports.summary import arrow

FILE = "search.json"
NAMES = {"student": "student", "wide": "wide teacher", "deep": "deep teacher"}
METRICS = {"miou": "mIoU", "agreement": "mean |difference|"}  # others by their own name
HIGHER = {"miou"}  # of the others the file has minus the value, so that the highest score is the best of any
MARKED = 30  # generations, up to which each has a dot


def search(run: RunFiles) -> dict[str, Any] | None:
    """`rows` of the networks, `charts` of the searches, the `metric` with its `better` direction, the number of `images`,
    and whether there are `places` of varying depth. None if the run searched for no architecture."""
    found = run.optional(FILE)
    listed = dig(found, "networks")
    networks = {
        str(name): network
        for name, network in (listed.items() if isinstance(listed, dict) else ())
        if isinstance(network, dict)
    }
    if not networks:
        return None
    fitness = str(found.get("fitness"))
    metric, better = METRICS.get(fitness, fitness), "higher" if fitness in HIGHER else "lower"
    sign = 1 if better == "higher" else -1
    charts = [
        _chart(f"search-{place}", NAMES.get(name, name), metric, history)
        for place, (name, network) in enumerate(networks.items())
        if len(history := _history(network, sign)) > 1
    ]
    return {
        "rows": [_row(NAMES.get(name, name), network, sign) for name, network in networks.items()],
        "charts": charts,
        "metric": metric,
        "better": better,
        "arrow": arrow(better),
        "agreement": fitness == "agreement",
        "images": integer(number(found, "images") or 0),
        "places": any(_depths(network) for network in networks.values()),
    }


def _row(name: str, network: dict[str, Any], sign: int) -> dict[str, str]:
    macs, params, ratio, value, scored = (
        number(network, key) for key in ("macs", "params", "of_student", "score", "scored")
    )
    return {
        "name": name,
        "macs": quantity(macs) if macs is not None else "–",
        "ratio": times(ratio) if ratio is not None else "–",
        "params": quantity(params) if params is not None else "–",
        "depths": " ".join(_depths(network)) or "–",
        "score": score(sign * value) if value is not None else "–",
        "scored": integer(scored) if scored is not None else "not searched",
    }


def _depths(network: dict[str, Any]) -> list[str]:
    depths = network.get("depths")
    return [str(depth) for depth in depths] if isinstance(depths, list) else []


def _history(network: dict[str, Any], sign: int) -> list[float]:
    """The best value by generation."""
    history = network.get("history")
    values = history if isinstance(history, list) else []
    return [sign * v for v in values if isinstance(v, int | float) and math.isfinite(v)]


def _chart(key: str, name: str, metric: str, history: list[float]) -> dict[str, str]:
    first, last = score(history[0]), score(history[-1])
    label = f"{name}, best {metric} by generation: from {first} to {last} in {len(history)}"
    return {"name": name, "last": last, "label": label, "svg": _draw(key, history)}


def _draw(key: str, history: list[float]) -> str:
    from matplotlib.ticker import MaxNLocator

    def paint(axes: Any) -> None:
        style = {"marker": "o", "markersize": 2.5} if len(history) <= MARKED else {}
        axes.plot(range(1, len(history) + 1), history, color=ACCENT, linewidth=1.6, **style)
        margin = 0.1 * (max(history) - min(history)) or 0.1 * abs(history[0]) or 0.1
        axes.set(xlim=(0.5, len(history) + 0.5), ylim=(min(history) - margin, max(history) + margin))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.ticklabel_format(axis="y", useOffset=False)  # small differences are read from whole numbers

    return drawn(key, paint)
