"""The README tells the truth: its Python prints what it says, its commands run in the order they stand there."""

import contextlib
import io
import json
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink import nets
from ganshrink.workflow.recipe import read_recipe

README = Path("README.md").read_text()


@pytest.mark.slow
def test_the_python_example_prints_what_stands_under_it():
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.S).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == printed


SHORTER = {
    # exporting and timing is what later commands do; examples/cat.py has the whole road at once
    "compress": """'net={name="resnet9",ngf=8,blocks=1}' teacher.max_steps=2 export.onnx=false
        method.search.floor=2
        latency.enabled=false data.counts={train=8,val=4,test=4}""",
    "measure": "--seconds 1",
    "quantize": "quantization.images=4",
}


WRITTEN = ("cost", "latency", "metrics", "parity")


def shortened(command: str) -> str:
    """The command with settings added that make it do less."""
    name, verb, *_ = command.split()
    assert name == "ganshrink"
    return f"{command} {SHORTER.get(verb, '')}".replace("256x256", "64x64")


@pytest.mark.slow
def test_the_commands_run(tmp_path, monkeypatch, command):
    (tmp_path / "recipes").symlink_to(Path("recipes").resolve())
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    torch.save(nets.build("resnet6", ngf=2).state_dict(), tmp_path / "latest_net_G.pth")
    block = re.search(r"## From the command line\n\n```\n(.*?)```", README, re.S)[1]
    commands = [shlex.join(shlex.split(line, comments=True)) for line in block.splitlines()]
    assert len(commands) > 5
    monkeypatch.chdir(tmp_path)
    for line in map(shortened, commands):
        command(*shlex.split(line)[1:])
    monkeypatch.undo()
    found = {name: json.loads((tmp_path / f"runs/mine/{name}.json").read_text()) for name in WRITTEN}
    assert found["parity"]["student.onnx"]["dynamic_size"] is True and "student-int8.onnx" in found["parity"]
    assert list(found["metrics"])[-3:] == ["teacher", "student", "int8"]
    assert found["cost"]["student"]["macs"]["exact"] <= found["cost"]["budget"]["resolved"]["macs"]
    assert {row["network"] for row in found["latency"]["rows"]} >= {"teacher", "student"}
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (50, 40)  # its own
    assert (tmp_path / "imported/latest_net_G/recipe.toml").is_file()
    runpy.run_path("docs/picture.py")["draw"](tmp_path / "runs/mine", tmp_path / "strip.png", rows=2)
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width > strip.height > 0


def test_its_picture_is_small():
    picture = Path(re.search(r"!\[.*?\]\((.*?)\)", README)[1])
    assert 0 < picture.stat().st_size < 150_000


def test_the_commands_at_its_top_name_what_is_there():
    block = re.search(r"```\n(pip install .*?)```", README, re.S)[1]
    recipe = re.search(r"ganshrink compress (\S+)", block)[1]
    assert read_recipe(Path(recipe)).budget
    extras = re.search(r"\.\[(.*?)\]", block)[1].split(",")
    known = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) <= set(known)
