"""The shape of the source tree: who may import whom, and how large a room may grow."""

import ast
from pathlib import Path

import pytest

SOURCE = Path("src/ganshrink")
LEAVES = {"atomic", "interruption", "lock", "spelling"}
LOW = {"channels", "losses", "nets", "metrics", "data", "generator"}
MIDDLE = {"tasks", "engine", "run", "exporters", "latency", "weights", "job", "students", "quant"}
MAY_IMPORT = {
    "channels": set(),
    "losses": set(),
    "nets": {"spelling"},
    "metrics": {"spelling", "generator", "losses"},
    "data": {"spelling", "atomic", "generator"},
    "generator": set(),
    "reports": LEAVES,
    **dict.fromkeys(MIDDLE, LOW | MIDDLE | LEAVES),
    "methods": LOW | MIDDLE | LEAVES,
}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The modules a file imports, absolute names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_dependencies_point_one_way(path):
    here = room(path)
    if here not in MAY_IMPORT:
        return  # the top: pipeline, recipe, command line
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("ganshrink.")}
    assert rooms <= MAY_IMPORT[here] | {here}


def test_methods_do_not_import_each_other():
    rooms = {path.stem for path in (SOURCE / "methods").iterdir() if not path.stem.startswith("__")}
    for path in (SOURCE / "methods").rglob("*.py"):
        mine = path.relative_to(SOURCE / "methods").parts[0].removesuffix(".py")
        used = {name.split(".")[2] for name in imports(path) if name.startswith("ganshrink.methods.")}
        assert mine == "__init__" or not used & (rooms - {mine}), path


def test_the_report_does_without_torch():
    assert not [
        n for path in (SOURCE / "reports").rglob("*.py") for n in imports(path) if n.split(".")[0] == "torch"
    ]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_one_sitting_long(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_the_command_line_prints(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert path.name == "cli.py" or not [c for c in calls if getattr(c.func, "id", "") == "print"]
