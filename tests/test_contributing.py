"""CONTRIBUTING.md's worked diffs: applied to a copy of the project, one after the other, and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^```(diff|python)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
)


def test_every_kind_of_part_has_a_diff_and_code_that_proves_it():
    assert [kind for kind, _ in BLOCKS] == ["diff", "python"] * 7
    parts = ("methods", "losses", "nets", "data", "metrics", "graph/rules", "exporters")
    for part, (_, diff) in zip(parts, BLOCKS[::2], strict=True):
        touched = set(re.findall(r"^\+\+\+ b/(\S+)", diff, re.MULTILINE))
        assert len(touched) <= 2 and all(path.startswith(f"src/ganshrink/{part}/") for path in touched), part


@pytest.mark.slow
def test_the_diffs_apply_and_what_they_add_works(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for _, diff in BLOCKS[::2]:
        applied = subprocess.run(
            ["git", "apply"],
            cwd=tmp_path, input=diff, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert applied.returncode == 0, applied.stdout + applied.stderr
    script = tmp_path / "script.py"
    script.write_text("\n\n".join(code for _, code in BLOCKS[1::2]))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
