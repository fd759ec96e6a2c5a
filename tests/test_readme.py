"""The README tells the truth: its Python prints what it says, its commands run in the order they stand there."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import accumulate, groupby
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


# Several commands in one launch, since most of a launch is Python's imports.
IN_TURN = """
import shlex, sys
from ganshrink import cli
for line in sys.argv[1:]:
    print("$", line, file=sys.stderr)
    sys.argv = shlex.split(line)
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""
# Verbs that a launch begins with, and so import before others do; for the rest test_cli.py has launches.
FIRST = {"predict", "quantize"}
SHORTER = {
    "compress recipes/cat/quick.toml": "export.onnx=false latency.enabled=false",  # whole in test_cli.py
    "compress": "net.blocks=1 teacher.max_steps=2 data.counts={train=8,val=4,test=4} latency.seconds=0.5",
    "measure": "--seconds 1",
    "quantize": "quantization.images=4",
}


def shortened(command: str) -> str:
    """The command with settings added that make it do less."""
    name, _, words = command.partition(" ")
    assert name == "ganshrink"
    keys = {words, words.split()[0]} & SHORTER.keys()
    return " ".join([command, *(SHORTER[key] for key in sorted(keys))])


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    (tmp_path / "recipes").symlink_to(Path("recipes").resolve())
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    block = re.search(r"## From the command line\n\n```\n(.*?)```", README, re.S)[1]
    commands = [shlex.join(shlex.split(line, comments=True)) for line in block.splitlines()]
    assert len(commands) > 5
    begun = accumulate(command.split()[1] in FIRST for command in commands)
    for _, launch in groupby(commands, lambda _: next(begun)):
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, *map(shortened, launch)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,  # a limit for what hangs, not for what is slow
        )
        assert done.returncode == 0, done.stderr[-1500:]
    parity = json.loads((tmp_path / "runs/mine/parity.json").read_text())
    assert parity["student.onnx"]["dynamic_size"] is True
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (64, 64)


def test_its_data_tables_are_valid():
    tables = [tomllib.loads(block)["data"] for block in re.findall(r"```toml\n(.*?)```", README, re.S)]
    assert {table["name"] for table in tables} == {"paired", "unpaired", "labelled", "photos"}
    for table in tables:
        DataConfig(**table)
