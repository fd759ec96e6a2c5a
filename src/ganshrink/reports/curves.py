"""Loss curves as small multiples: one chart per loss term."""

import math
from typing import Any

import numpy as np

from ganshrink.reports.drawing import ACCENT, FAINT, drawn
from ganshrink.reports.files import Stage, number
from ganshrink.reports.numbers import duration, integer, score

POINTS = 400  # what a curve a few hundred pixels wide can show


def loss_curves(stages: list[Stage]) -> list[dict[str, Any]]:
    """Per stage with events: `name`, `summary`, `terms` of (name, last smoothed value, svg)."""
    found = []
    for stage in stages:
        terms = _terms(stage.events)
        if not terms:
            continue
        last = stage.events[-1]
        counts = [(number(last, key), unit) for key, unit in (("step", "steps"), ("images", "images"))]
        facts = [f"{integer(count)} {unit}" for count, unit in counts if count is not None]
        seconds = number(stage.done, "seconds") or number(last, "time")
        if seconds is not None:
            facts.append(duration(seconds))
        facts += _validated(stage.validation)
        charts = [_chart(f"{stage.name}-{number}", name, *terms[name]) for number, name in enumerate(terms)]
        found.append({"name": stage.name, "summary": ", ".join(facts), "terms": charts})
    return found


def _validated(told: dict[str, Any]) -> list[str]:
    """What a network scored, at the end and at its best, on images held out of its training."""
    last, best = (number(told, point, "value") for point in ("last", "best"))
    step = number(told, "best", "step")
    if last is None or best is None or step is None:
        return []
    kept = ", which is kept" if told.get("kept") == "best" else ""
    return [
        f"{told.get('metric')} {score(last)} on held-out images, at best {score(best)} (step {integer(step)}){kept}"
    ]


def _terms(events: list[dict[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values by what was logged, losses last, without what is not finite."""
    points: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        step = event.get("step")
        for key in ("watched", "losses"):
            values = event.get(key)
            if not isinstance(values, dict) or not isinstance(step, int | float):
                continue
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    points.setdefault(str(name), []).append((step, value))
    return {
        name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1])
        for name, pairs in points.items()
        if len(pairs) > 1
    }


def smoothed(values: np.ndarray) -> np.ndarray:
    """A running exponential mean over about a twentieth of the points, unbiased at the start (Kingma and Ba 2015)."""
    keep = 1 - 1 / max(len(values) / 20, 1)
    answer, mean, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        answer[i] = mean / weight
    return answer


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most `POINTS` values, each the mean of its stretch."""
    if len(values) <= POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, POINTS)])


def _chart(key: str, name: str, steps: np.ndarray, values: np.ndarray) -> dict[str, str]:
    smooth = smoothed(values)
    label = f"{name} over {integer(steps[-1])} steps: from {score(smooth[0])} to {score(smooth[-1])}"
    svg = _draw(key, _thinned(steps), _thinned(values), _thinned(smooth))
    return {"name": name, "last": score(smooth[-1]), "label": label, "svg": svg}


def _draw(key: str, steps: np.ndarray, values: np.ndarray, smooth: np.ndarray) -> str:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    def paint(axes: Any) -> None:
        axes.plot(steps, values, color=FAINT, linewidth=0.8)
        axes.plot(steps, smooth, color=ACCENT, linewidth=1.6)
        low, high = np.percentile(values, (0.5, 99.5))  # a first spike must not flatten the rest
        margin = 0.06 * (high - low) or 0.5
        axes.set(xlim=(0, steps[-1]), ylim=(low - margin, high + margin))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(MaxNLocator(3))

    return drawn(key, paint)
