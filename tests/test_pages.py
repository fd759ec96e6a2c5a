"""What the pages show works: their commands parse, their settings are known, their Python is run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import ganshrink
from ganshrink import nets
from ganshrink.cli.main import app
from ganshrink.exporters import export_onnx
from ganshrink.methods import METHODS
from ganshrink.methods.base import Settings
from ganshrink.workflow.recipe import read_recipe

PAGES = [*sorted(Path().glob("*.md")), *sorted(Path("docs").rglob("*.md"))]
PAGES = [
    path for path in PAGES if path.stem not in ("CHANGELOG", "ROADMAP", "CONTRIBUTING")
]  # what is no more, not yet, or run by a test of its own
PYTHON = {str(path): re.findall(r"```python\n(.*?)```", path.read_text(), re.S) for path in PAGES}
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def spans(path: Path) -> list[str]:
    """The code spans of a page outside its code blocks, each in one line."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(path: Path) -> Iterator[str]:
    """What stands behind `ganshrink` in a page's console lines and code spans, without comments."""
    blocks = re.findall(r"^```(?:sh|console)?\n(.*?)^```", path.read_text(), re.S | re.M)
    console = "\n".join(blocks).replace("\\\n", " ")  # a line may go on in the next
    for line in [*console.splitlines(), *spans(path)]:
        if found := re.match(r"(?:torchrun .*-m |\s*)ganshrink (.+)", line):
            yield shlex.join(shlex.split(found[1], comments=True))


COMMANDS = [pytest.param(path, line, id=f"{path.stem}: {line}") for path in PAGES for line in commands(path)]


def test_pages_show_commands():
    assert {line.split()[0] for _, line in (param.values for param in COMMANDS)} >= VERBS.keys() - {"nets"}


def own_recipes(path: Path) -> list[Path]:
    """Recipes of the method that a page is about; of another page, the first to try."""
    return sorted(Path("recipes", path.stem.replace("-", "_")).glob("*.toml")) or [
        Path("recipes/cat/quick.toml")
    ]


@pytest.mark.parametrize(("path", "line"), COMMANDS)
def test_a_command_of_a_page_is_one(path, line):
    name, *words = shlex.split(line)
    assert name in VERBS or name.startswith("--")
    words = [word for word in words if not word.startswith("[")]  # the reference's [KEY=VALUE]...
    if not words or name not in VERBS:
        return  # the verb alone is named
    given = VERBS[name].make_context(name, words).params
    overrides = given.get("overrides") or ()
    if name == "profile":
        known = nets.net_options(given["net"]) if given["net"] in nets.NETS else {}
        assert {word.partition("=")[0] for word in overrides} <= known.keys()
    elif str(recipe := given.get("recipe") or given.get("run")).startswith("recipes/"):
        read_recipe(recipe, overrides)
    elif name == "import":
        assert {word.partition("=")[0] for word in overrides} <= set().union(
            *map(nets.net_options, nets.NETS)
        )
    elif overrides:  # on a run, a recipe or a checkpoint of the reader's own
        overrides = overrides[str(recipe).endswith((".pth", ".ckpt")) or ":" in str(recipe) :]
        read_recipe(own_recipes(path)[0], overrides)


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_a_setting_that_a_page_names_is_one(path):
    """Each code span of settings, such as `data.size=64 net.ngf=16`, is taken by a recipe here, the page's own first."""
    recipes = [*own_recipes(path), *Path("recipes").rglob("*.toml")]
    configs = map(config_of, METHODS)
    tables = {table for config in configs for table, value in config if isinstance(value, Settings)}
    for span in filter(re.compile(r"[a-z]+\.[a-z_.]+ ?=").match, spans(path)):
        if span == "table.key=value" or "my_pkg" in span:  # a pattern, or code of the reader's
            continue
        words = [span.replace(" = ", "=", 1)] if " = " in span else shlex.split(span)
        # a method's page leaves [method] out
        words = [f"method.{word}" if word.partition(".")[0] in tables else word for word in words]
        assert any(accepts(recipe, words) for recipe in recipes), span


def config_of(name: str) -> Any:
    return get_type_hints(METHODS[name])["config"]()


def accepts(recipe: Path, words: list[str]) -> bool:
    try:
        read_recipe(recipe, words)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_what_a_page_names_in_python_is_there(path):
    for name in re.findall(r"\bganshrink((?:\.[A-Za-z_]\w*)+)", path.read_text()):
        thing: Any = ganshrink
        for part in name[1:].split("."):
            assert hasattr(thing, part), f"ganshrink{name}"
            thing = getattr(thing, part)


def run_python(code: str, **names: Any) -> dict[str, Any]:
    names["__name__"] = "page"
    exec(code, names)
    return names


def test_the_python_of_every_page_is_run():
    """Here, or where it is said."""
    elsewhere = {"README.md": "test_readme.py", "docs/bring-your-own-model.md": "test_tutorial.py"}
    elsewhere["docs/browser.md"] = "browser/test_cookbook.py"
    here = {"docs/decig.md": 1, "docs/export.md": 1, "docs/int8.md": 1, "docs/reconstruct.md": 1}
    found = {page: len(blocks) for page, blocks in PYTHON.items() if blocks and page not in elsewhere}
    assert found == here and elsewhere.keys() <= PYTHON.keys()


@pytest.mark.slow
def test_a_student_is_reconstructed():
    """reconstruct.md, which asserts by itself that it comes nearer."""
    [code] = PYTHON["docs/reconstruct.md"]
    assert run_python(code)["report"].layers


def test_faces_and_masks_are_laid_side_by_side(tmp_path, monkeypatch):
    """decig.md, on two drawn faces in the release's folders: the second one's hair lies over its skin."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "CelebAMask-HQ"
    (source / "CelebA-HQ-img").mkdir(parents=True)
    (source / "CelebAMask-HQ-mask-anno/0").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (64, 64), (200, 0, 0)).save(source / f"CelebA-HQ-img/{number}.jpg")
    mask = np.zeros((32, 32), np.uint8)
    for part, rows in (("skin", 32), ("hair", 16)):
        mask[:rows] = 255
        mask[rows:] = 0
        Image.fromarray(mask).save(source / f"CelebAMask-HQ-mask-anno/0/00001_{part}.png")
    [code] = PYTHON["docs/decig.md"]
    assert "range(30_000)" in code
    names = run_python(code.replace("range(30_000)", "range(2)"))
    masks, photos = (
        sorted((tmp_path / f"celebamask/train_{kind}").iterdir()) for kind in ("masks", "photos")
    )
    assert [path.name for path in masks] == [path.name for path in photos] == ["00000.png", "00001.png"]
    seen = np.asarray(Image.open(masks[1]))
    place = names["PARTS"].index
    assert (seen[0, 0] == names["COLOURS"][place("hair") + 1]).all()
    assert (seen[-1, 0] == names["COLOURS"][place("skin") + 1]).all()


@pytest.mark.slow
def test_a_student_is_put_into_integers(tmp_path, monkeypatch):
    """int8.md."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    student = nets.build("resnet9", ngf=8, blocks=1).eval()
    images = [torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(2)]
    names = run_python(PYTHON["docs/int8.md"][0], student=student, images=images)
    assert names["entry"]["psnr_db"] >= 40 and (tmp_path / "student-int8.onnx").is_file()


@pytest.mark.slow
def test_a_file_of_free_size_says_its_multiple(tmp_path, monkeypatch, capsys):
    """export.md."""
    monkeypatch.chdir(tmp_path)
    student = torch.nn.Conv2d(3, 3, 3, padding=1)
    export_onnx(student, torch.rand(1, 3, 16, 16), Path("runs/mine/student.onnx"), dynamic_size=True)
    run_python(PYTHON["docs/export.md"][0])
    assert capsys.readouterr().out.split() == ["1", "1"]
