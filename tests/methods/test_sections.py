"""What methods put into the report: from what their JSON files say to sections of text, tables and charts."""

from typing import Any

import pytest

from ganshrink.methods.decig.section import hinges_section
from ganshrink.methods.ugc.section import search_section
from ganshrink.reports.section import Charts, Section, Table, Text


def parts(section: Section, kind: type) -> list[Any]:
    return [part for part in section.content if isinstance(part, kind)]


def layer(name: str, kept: int, hinge: int | None, how: str, **changes: Any) -> dict[str, Any]:
    """Of 40 channels, 20 of which are nearly nothing."""
    curve = [1 - place / 30 for place in range(20)] + [10 ** (-3 - place / 10) for place in range(19)] + [0.0]
    said = {"name": name, "of": 40, "kept": kept, "hinge": hinge, "how": how, "moved_from": None}
    return said | {"change": None, "channels": list(range(1, 41)), "magnitudes": curve} | changes


LAYERS = [
    layer("down.1", 16, 20, "curve"),
    layer("down.4", 24, 26, "curve", moved_from=20),
    layer("blocks.0", 2, 2, "images"),
    layer("up.0", 9, 9, "hand"),
    layer("up.3", 40, None, "none"),
]


def test_every_layer_is_drawn_with_its_hinge_and_what_is_kept() -> None:
    section = hinges_section({"importance": "own", "sensitivity": 0.02, "change": 0.0312, "layers": LAYERS})
    [charts] = parts(section, Charts)
    assert [chart.label for chart in charts.charts] == [
        "down.1: hinge at 20, 16 of 40 channels kept",
        "down.4: hinge at 26, 24 of 40 channels kept",
        "blocks.0: hinge at 2, 2 of 40 channels kept",
        "up.0: hinge at 9, 9 of 40 channels kept",
        "up.3: no hinge, 40 of 40 channels kept",
    ]
    # the hinge, and where it was before the images moved it, between two channels
    assert [list(chart.marks) for chart in charts.charts[:2]] == [
        [(20.5, "dashed")],
        [(26.5, "dashed"), (20.5, "dotted")],
    ]
    assert len({tuple(chart.y) for chart in charts.charts}) == 1  # one scale for all
    assert [[line.style for line in chart.lines] for chart in charts.charts] == [["main", "faint"]] * 4 + [
        ["main"]
    ]
    assert all(min(line.y) > 0 for chart in charts.charts for line in chart.lines)
    facts = parts(section, Text)[1].text
    assert facts == (
        "4 of 5 layers have a hinge; 1 without one are cut by the budget alone (up.3); 1 set by hand; 1 seen on "
        "images alone; 1 moved up, since the images changed by more than 2 %; 2 cut deeper by the budget; "
        "without all that was cut, before finetuning, the images change by 3.1 %."
    )


def network(macs: int, depths: list[int], score: float | None, history: list[float] | None) -> dict[str, Any]:
    """One network of search.json; `history` only where there was a search."""
    said = {"macs": macs, "params": macs // 100, "of_student": macs / 60_000_000, "depths": depths}
    return said | {"score": score} | ({"scored": 60, "history": history} if history else {})


def test_networks_stand_in_a_table_and_searches_are_drawn() -> None:
    networks = {
        "student": network(60_000_000, [0, 2, 1], 31.24, [27.5, 29.125, 31.24]),
        "wide": network(1_200_000_000, [0, 0, 0], 36.5, [36.5, 36.5, 36.5]),
        "deep": network(300_000_000, [2, 2, 2], None, None),
    }
    section = search_section({"fitness": "miou", "images": 1234, "networks": networks})
    [table], [charts] = parts(section, Table), parts(section, Charts)
    assert table.rows == [
        ["student", "60.00 M", "1.00×", "600 k", "0 2 1", "31.24", "60"],
        ["wide teacher", "1.20 G", "20.0×", "12.00 M", "0 0 0", "36.50", "60"],
        ["deep teacher", "300 M", "5.0×", "3.00 M", "2 2 2", "–", "not searched"],
    ]
    assert table.head[-2] == "mIoU ↑"
    assert "compared by mIoU on 1,234 training images" in section.content[0].text
    assert [chart.label for chart in charts.charts] == [
        "student, best mIoU by generation: from 27.50 to 31.24 in 3",
        "wide teacher, best mIoU by generation: from 36.50 to 36.50 in 3",
    ]


@pytest.mark.parametrize(
    ("fitness", "scores", "told", "name"),
    [
        ("fd_squeezenet", (-2900.4, -2600.2), ("2,900", "2,600"), "fd_squeezenet"),
        # an estimate without bias can fall below zero
        ("kd_squeezenet", (-0.02, 0.0012), ("0.0200", "−0.0012"), "kd_squeezenet"),
        ("agreement", (-0.125, -0.11), ("0.125", "0.110"), "mean |difference|"),
    ],
)
def test_distances_have_their_own_sign(fitness, scores, told, name) -> None:
    student = {"student": network(60_000_000, [], scores[-1], list(scores))}
    section = search_section({"fitness": fitness, "images": 10, "networks": student})
    [table], [charts] = parts(section, Table), parts(section, Charts)
    assert table.rows == [
        ["student", "60.00 M", "1.00×", "600 k", told[1], "60"]
    ]  # no place, no column of depths
    assert charts.charts[0].label == f"student, best {name} by generation: from {told[0]} to {told[1]} in 2"
    assert table.head[-2] == f"{name} ↓"
    assert ("which go from −1 to 1" in section.content[0].text) == (fitness == "agreement")


def test_one_generation_has_no_curve() -> None:
    student = {"student": network(1000, [3], 30.0, [30.0])}
    assert not parts(search_section({"fitness": "miou", "images": 1, "networks": student}), Charts)
