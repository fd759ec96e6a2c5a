"""The tutorial tells the truth: its Python runs from top to bottom and prints what stands under each block."""

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

TUTORIAL = Path("docs/bring-your-own-model.md").read_text()
needs_data = pytest.mark.skipif(
    not (os.environ.get("GANSHRINK_DATA") and os.environ.get("GANSHRINK_WEIGHTS")),
    reason="needs photos and the style network's weights: set GANSHRINK_DATA and GANSHRINK_WEIGHTS",
)


@pytest.mark.slow
@needs_data
def test_the_tutorial_prints_what_it_says(tmp_path, monkeypatch):
    for name in ("GANSHRINK_DATA", "GANSHRINK_WEIGHTS"):
        monkeypatch.setenv(name, str(Path(os.environ[name]).resolve()))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", TUTORIAL, re.S)
    names: dict[str, object] = {"__name__": "tutorial"}
    for code, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue() == printed
    assert len(blocks) > 6
