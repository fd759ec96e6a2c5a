"""docs/browser.md, executed: its recipe, its commands and its Python, at 32 pixels."""

import json
import re
import shlex
from pathlib import Path

import pytest
from chromium import Tab, served
from typer.testing import CliRunner

from ganshrink import Budget
from ganshrink.cli.main import app

PAGE = Path("docs/browser.md").read_text()
SMALL = "net.ngf=8 net.blocks=1 data.size=32 data.counts={train=4,val=2,test=2} task.ndf=8 latency.seconds=1"


def run(line: str) -> None:
    """A command of the page, made small; what serves or needs what came out is left to the test."""
    words = shlex.split(line.removesuffix(" --serve"))
    if words[1] == "compress":
        words += [*SMALL.split(), "budget=macs=40%", "method.search.floor=2"]
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, (line, result.output, result.exception)


@pytest.mark.formats
def test_the_cookbook_of_the_browser(tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [recipe] = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    [python] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    lint, compress, demo, measure, final, again = re.findall(r"^ganshrink .*", PAGE, re.M)
    Path("browser.toml").write_text(recipe)
    for line in (lint, compress, demo):
        run(line)
    for address in served(tmp_path / "runs/first/demo"):
        tab.open(f"{address}/")
        tab.value("demo.ready")
        told = tab.value("(async () => { await measure(); return demo.measured; })()")
        assert tab.complaints == []
    Path("measured.json").write_text(json.dumps(told))
    run(measure)
    names: dict[str, object] = {}
    exec(python, names)
    assert Budget.parse(names["budget"]).limits
    assert "budget=macs=" in final and again.endswith("runs/mine --serve")
