"""The README tells the truth: its Python prints what it says, its commands run in the order they stand there."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganshrink.data import DataConfig

README = Path("README.md").read_text()


def test_the_python_example_prints_what_stands_under_it():
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.S).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == printed


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    (tmp_path / "recipes").symlink_to(Path("recipes").resolve())
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    block = re.search(r"## From the command line\n\n```\n(.*?)```", README, re.S)[1]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) > 5
    for name, verb, *words in commands:
        assert name == "ganshrink"
        shorter = {"compress": ["teacher.max_steps=2", "latency.seconds=1"], "measure": ["--seconds", "1"]}
        short = shorter.get(verb, [])
        command = [sys.executable, "-m", "ganshrink.cli", verb, *words, *short]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=600
        )  # a limit for what hangs, not for what is slow
        assert done.returncode == 0, f"{verb} {words}: {done.stderr[-1500:]}"
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (64, 64)


def test_its_data_tables_are_valid():
    tables = [tomllib.loads(block)["data"] for block in re.findall(r"```toml\n(.*?)```", README, re.S)]
    assert {table["name"] for table in tables} == {"paired", "unpaired", "labelled", "photos"}
    for table in tables:
        DataConfig(**table)
