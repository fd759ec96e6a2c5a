"""Sections that a method gives: text, tables and charts as data in result.json, shown by the page as they are."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganshrink.reports import write_report
from ganshrink.reports.files import read_run
from ganshrink.reports.method import method_sections
from ganshrink.reports.section import Chart, Charts, Line, Section, Table, Text
from telling import rest_exhaustive

Build = Callable[..., Path]

FALLING = [10.0 ** (-place / 10) for place in range(40)]


def chart(title: str, kept: int, **changes: Any) -> Chart:
    sides = [Line(range(1, kept + 1), FALLING[:kept]), Line(range(kept + 1, 41), FALLING[kept:], "faint")]
    return Chart(title, f"{title}, {kept} kept", sides, f"{kept} of 40", **changes)


@pytest.fixture(scope="module")
def folder(build_run: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "cut", rows=1)


def page_of(folder: Path, *sections: Section, **more: Any) -> str:
    content = {"files": [], "sections": [section.to_json() for section in sections], **more}
    (folder / "result.json").write_text(json.dumps(content, default=list))
    page = write_report(folder).read_text()
    assert len(set(re.findall(r'\sid="([^"]+)"', page))) == len(re.findall(r'\sid="', page))
    return page


@pytest.mark.slow
def test_text_and_tables_are_shown_and_escaped(folder: Path) -> None:
    table = Table(["Network", "MACs"], [["<b>student", "60 M"], ["deep", "–"]])
    page = page_of(
        folder, Section("What <was> found", [Text("Cuts & more."), Text("exact", note=True), table])
    )
    source = page[page.index("What &lt;was&gt; found</h2>") : page.index('id="losses"')]
    assert "<p>Cuts &amp; more.</p>" in source and '<p class="note">exact</p>' in source
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", source)]
    assert rows == [["Network", "MACs"], ["&lt;b&gt;student", "60 M"], ["deep", "–"]]


@pytest.mark.slow
def test_charts_have_their_lines_marks_and_scales(folder: Path) -> None:
    marked = chart("down.1", 16, marks=[(20.5, "dashed"), (18.5, "dotted")], band=(0.5, 16.5))
    logarithmic = chart("up.0", 9, log=True, percent=True, y=(1e-4, 1.0))
    legend = [("band", "kept"), ("dashed", "hinge")]
    charts = Charts([marked, logarithmic, chart("up.3", 40)], title="Curves", legend=legend, shown=2)
    page = page_of(folder, Section("Curves", [charts]))
    source = page[page.index('id="method-0"') : page.index('id="losses"')]
    labels = re.findall(r'role="img" aria-label="([^"]+)"', source)
    assert labels == ["down.1, 16 kept", "up.0, 9 kept", "up.3, 40 kept"]
    drawn = source.split("<svg")[1:]
    assert [picture.count("stroke: var(--warn)") for picture in drawn] == [2, 0, 0]
    assert [picture.count("stroke: var(--accent)") > 0 for picture in drawn] == [True] * 3
    assert re.findall(r">([\d.]+) %</text>", drawn[1]) == ["0.01", "1", "100"]
    assert "<summary>1 more</summary>" in source
    assert '<i class="band"></i> kept' in source and '<i class="dashed"></i> hinge' in source


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_without_sections_shows_none(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    assert method_sections(read_run(folder)) == []
    assert 'id="method-0"' not in write_report(folder).read_text()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    rest_exhaustive(
        [
            *("{", "[]", '{"sections": 3}', '{"sections": [{"title": "x", "content": 3}]}'),
            '{"sections": [{"title": "x", "content": [{"kind": "charts", "charts": [{"title": "y", "lines": 3}]}]}]}',
            '{"sections": [{"title": "x", "content": [{"kind": "table", "rows": [3], "head": []}]}]}',
            '{"sections": [{"title": "x", "content": [{"kind": "charts", "charts": [{"lines": '
            '[{"x": [1, "a"], "y": [null, 2]}]}]}]}]}',
        ],
        lambda content: content == "{" or "charts" in content,
    ),
)
def test_a_damaged_file_does_not_break_the_page(folder: Path, content: str) -> None:
    (folder / "result.json").write_text(content)
    assert write_report(folder).is_file()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_inserted_blocks_are_told_from_the_teachers_layers(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    groups = [
        {"name": f"down.6_extra.{n}.body.1", "of": 24, "kept": kept} for n, kept in enumerate((0, 8, 0))
    ]
    groups += [{"name": "blocks.0.body.1", "of": 48, "kept": 0}]
    (folder / "plan.json").write_text(json.dumps({"groups": groups, "layers": []}))
    page = page_of(folder, inserted=["down.6_extra"])
    assert "1 branch is removed whole; 2 inserted blocks are not used." in page
    assert "Inserted blocks are not in the teacher's network." in page
