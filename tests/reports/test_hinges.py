"""The page's section on hinges, from a made-up hinges.json."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganshrink.reports import write_report
from ganshrink.reports.files import read_run
from ganshrink.reports.hinges import hinges

Build = Callable[..., Path]


def layer(name: str, kept: int, hinge: int | None, how: str, **changes: Any) -> dict[str, Any]:
    """Of 40 channels, 20 of which are nearly nothing."""
    curve = [1 - place / 30 for place in range(20)] + [10 ** (-3 - place / 10) for place in range(19)] + [0.0]
    said = {"name": name, "of": 40, "kept": kept, "hinge": hinge, "how": how, "moved_from": None}
    return said | {"change": None, "channels": list(range(1, 41)), "magnitudes": curve} | changes


LAYERS = [
    layer("down.1", 16, 20, "curve"),
    layer("down.<4>", 24, 26, "curve", moved_from=20),
    layer("blocks.0.body.1.branches.0", 2, 2, "dead"),
    layer("up.0", 9, 9, "hand"),
    layer("up.3", 40, None, "none"),
]


def said(layers: list[dict[str, Any]]) -> str:
    return json.dumps({"importance": "own", "sensitivity": 0.02, "calibration_images": 16, "layers": layers})


@pytest.fixture(scope="module")
def folder(build_run: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("runs") / "cut", rows=1)
    (folder / "hinges.json").write_text(said(LAYERS))
    return folder


def test_every_layer_is_drawn_with_its_hinge_and_what_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganshrink.reports.hinges.SHOWN", 4)
    page = write_report(folder).read_text()
    section = page[page.index('id="hinges"') : page.index('id="losses"')]
    labels = re.findall(r'role="img" aria-label="([^"]+)"', section)
    assert labels == [
        "down.1: hinge at 20, 16 of 40 channels kept",
        "down.&lt;4&gt;: hinge at 26, 24 of 40 channels kept",
        "blocks.0.body.1.branches.0: hinge at 2, 2 of 40 channels kept",
        "up.0: hinge at 9, 9 of 40 channels kept",
        "up.3: no hinge, 40 of 40 channels kept",
    ]
    charts = section.split("<svg")[1:]
    assert len(charts) == 5
    # lines down the chart: the hinge, and where it was before the images moved it
    assert [chart.count("stroke: var(--warn)") for chart in charts] == [1, 2, 1, 1, 0]
    # the kept part of the curve, and the other
    assert [chart.count("stroke: var(--faint)") > 0 for chart in charts[:4]] == [True] * 4
    # one scale for all
    assert [re.findall(r">([\d.]+) %</text>", chart) for chart in charts] == [["0.01", "1", "100"]] * 5
    assert "<summary>1 more</summary>" in section
    assert len(set(re.findall(r'\sid="([^"]+)"', page))) == len(re.findall(r'\sid="', page))
    assert "4 of 5 layers have a hinge; 1 set by hand; 1 in layers that are dead as a whole; " in section
    assert "1 moved up, since the images changed by more than 2 %; 2 cut deeper by the budget." in section


def test_a_run_that_was_not_cut_at_hinges_has_no_such_section(build_run: Build, tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=1)
    for content in ("{", "[]", '{"layers": 3}', '{"layers": [{"name": "x", "channels": [1]}]}'):
        (folder / "hinges.json").write_text(content)
        assert hinges(read_run(folder)) is None
    (folder / "hinges.json").unlink()
    assert 'id="hinges"' not in write_report(folder).read_text()
