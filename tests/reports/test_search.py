"""The page's section on an architecture search, from a made-up search.json."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ganshrink.reports.search import search

from ganshrink.reports import write_report
from ganshrink.reports.files import read_run

Build = Callable[..., Path]


def network(macs: int, depths: list[int], score: float | None, history: list[float] | None) -> dict[str, Any]:
    """One network of the file; `history` only where there was a search."""
    said = {"macs": macs, "params": macs // 100, "of_student": macs / 60_000_000, "depths": depths}
    return said | {"score": score} | ({"scored": 60, "history": history} if history else {})


NETWORKS = {
    "student": network(60_000_000, [0, 2, 1], 31.24, [27.5, 29.125, 31.24]),
    "wide": network(1_200_000_000, [0, 0, 0], 36.5, [36.5, 36.5, 36.5]),
    "deep": network(300_000_000, [2, 2, 2], None, None),
}


def said(fitness: str = "miou", networks: Any = NETWORKS) -> str:
    return json.dumps({"fitness": fitness, "images": 1234, "networks": networks})


def scored(*history: float) -> dict[str, Any]:
    """A student alone."""
    return {"student": network(60_000_000, [], history[-1], list(history))}


@pytest.fixture(scope="module")
def folder(build_run: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "searched", rows=1)


def section(folder: Path, content: str) -> tuple[str, list[list[str]], list[str]]:
    """The section's source, its table's cells and what its charts say."""
    (folder / "search.json").write_text(content)
    page = write_report(folder).read_text()
    assert len(set(re.findall(r'\sid="([^"]+)"', page))) == len(re.findall(r'\sid="', page))
    source = page[page.index('id="search"') : page.index('id="losses"')]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", source)]
    return source, rows[1:], re.findall(r'role="img" aria-label="([^"]+)"', source)


def test_networks_stand_in_a_table_and_searches_are_drawn(folder: Path) -> None:
    source, rows, charts = section(folder, said())
    assert rows == [
        ["student", "60.00 M", "1.00×", "600 k", "0 2 1", "31.24", "60"],
        ["wide teacher", "1.20 G", "20.0×", "12.00 M", "0 0 0", "36.50", "60"],
        ["deep teacher", "300 M", "5.0×", "3.00 M", "2 2 2", "–", "not searched"],
    ]
    assert "compared by mIoU on 1,234 training images" in source
    assert re.search(r"mIoU <span[^>]*>↑</span><span[^>]*>, higher is better<", source)
    assert charts == [
        "student, best mIoU by generation: from 27.50 to 31.24 in 3",
        "wide teacher, best mIoU by generation: from 36.50 to 36.50 in 3",
    ]
    drawn = source.split("<svg")[1:]
    assert len(drawn) == 2 and all("stroke: var(--accent)" in chart for chart in drawn)
    assert re.findall(r">([\d.]+)</text>", drawn[0])[:3] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("fitness", "scores", "told", "name"),
    [
        ("fd_squeezenet", (-2900.4, -2600.2), ("2,900", "2,600"), "fd_squeezenet"),
        # an estimate without bias can fall below zero
        ("kd_squeezenet", (-0.02, 0.0012), ("0.0200", "−0.0012"), "kd_squeezenet"),
        ("agreement", (-0.125, -0.11), ("0.125", "0.110"), "mean |difference|"),
    ],
)
def test_distances_have_their_own_sign(
    folder: Path, fitness: str, scores: tuple[float, float], told: tuple[str, str], name: str
) -> None:
    source, rows, charts = section(folder, said(fitness, scored(*scores)))
    assert rows == [["student", "60.00 M", "1.00×", "600 k", told[1], "60"]]  # no place, no column of depths
    assert charts == [f"student, best {name} by generation: from {told[0]} to {told[1]} in 2"]
    assert ", lower is better<" in source and f"compared by {name}" in source
    assert ("which go from −1 to 1" in source) == (fitness == "agreement")


def test_one_generation_has_no_curve_and_names_are_escaped(folder: Path) -> None:
    networks = {"<b>": network(1000, [3], 30.0, [30.0])}
    source, rows, charts = section(folder, said("<i>", networks))
    assert rows[0][0] == "&lt;b&gt;" and charts == [] and "<svg" not in source
    assert "&lt;i&gt;" in source and "<i>" not in source and "<b>" not in source


def test_a_run_without_a_search_has_no_such_section(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    for content in ("{", "[]", '{"networks": 3}', '{"networks": {"student": 3}}'):
        (folder / "search.json").write_text(content)
        assert search(read_run(folder)) is None
    (folder / "search.json").unlink()
    assert 'id="search"' not in write_report(folder).read_text()


def test_what_is_missing_or_no_number_is_a_dash(folder: Path) -> None:
    networks = {"student": {"depths": 3, "score": None, "history": [None, "x", float("nan"), 31.0]}}
    _, rows, charts = section(folder, said(networks=networks))
    assert rows == [["student", "–", "–", "–", "–", "not searched"]] and charts == []


def test_inserted_blocks_are_told_from_the_teachers_layers(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    groups = [
        {"name": f"down.6_extra.{n}.body.1", "of": 24, "kept": kept} for n, kept in enumerate((0, 8, 0))
    ]
    groups += [{"name": "blocks.0.body.1", "of": 48, "kept": 0}]
    (folder / "plan.json").write_text(json.dumps({"groups": groups, "layers": []}))
    page = write_report(folder).read_text()
    assert "1 branch is removed whole; 2 inserted blocks are not used." in page
    assert "<code>_extra</code>" in page
