"""What the report shows of the search: the networks that it found, and how it came to them (section 3.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ganshrink.metrics.judge import HIGHER
from ganshrink.reports.numbers import integer, quantity, score, times
from ganshrink.reports.section import Chart, Charts, Line, Section, Table, Text

NAMES = {"student": "student", "wide": "wide teacher", "deep": "deep teacher"}
METRICS = {"miou": "mIoU", "agreement": "mean |difference|"}  # others by their own name


def search_section(found: Mapping[str, Any]) -> Section:
    """The section of what search.json says."""
    networks, fitness = found["networks"], found["fitness"]
    metric, sign = METRICS.get(fitness, fitness), 1 if fitness in HIGHER else -1
    places = any(network["depths"] for network in networks.values())
    arrow = "\N{UPWARDS ARROW}" if sign == 1 else "\N{DOWNWARDS ARROW}"
    to_whole = " to the whole network's images, which go from \u22121 to 1," if fitness == "agreement" else ""
    about = (
        f"Cuts of one trained network, compared by {metric}{to_whole} on {integer(found['images'])} training images (kept "
        "out of training, unless they are unpaired). The teachers are those of the finetuning."
    )
    counted = " Inserted blocks are counted at each place, in the order of the network's layers." * places
    head = ["Network", "MACs", "Times the student's", "Parameters"]
    head += ["Inserted blocks"] * places + [f"{metric} {arrow}", "Networks scored"]
    rows = [_row(NAMES[name], network, sign, places) for name, network in networks.items()]
    charts = [
        _chart(NAMES[name], metric, [sign * value for value in network.get("history", ())])
        for name, network in networks.items()
        if len(network.get("history", ())) > 1
    ]
    how = "MACs are exact"
    if found.get("convention") == "paper":
        how += "; how many times the student's they are is counted like the budget, as the papers do"
    content: list[Text | Table | Charts] = [Text(about), Text(f"{how}.{counted}", note=True)]
    content += [Table(head, rows), *([Charts(charts, title="Best so far, by generation")] if charts else [])]
    return Section("What the search found", content)


def _row(name: str, network: Mapping[str, Any], sign: int, places: bool) -> list[str]:
    value, scored = network["score"], network.get("scored")
    return [
        name,
        quantity(network["macs"]),
        times(network["of_student"]),
        quantity(network["params"]),
        *[" ".join(map(str, network["depths"]))] * places,
        score(sign * value) if value is not None else "\u2013",
        integer(scored) if scored is not None else "not searched",
    ]


def _chart(name: str, metric: str, best: Sequence[float]) -> Chart:
    """The best value by generation."""
    first, last = score(best[0]), score(best[-1])
    label = f"{name}, best {metric} by generation: from {first} to {last} in {len(best)}"
    return Chart(name, label, [Line([*range(1, len(best) + 1)], best)], f"{last} at the end")
