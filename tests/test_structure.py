"""The shape of the source tree: which rooms there are, who may import whom, and how large a file may grow."""

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path("src/ganshrink")
FACE = {"__init__.py", "__main__.py", "py.typed"}  # all that lies loose at the top

# Every room and the rooms that it may import from. One that is not listed here fails, so a new room is a decision.
ROOMS: dict[str, set[str]] = {
    "system": set(),
    "losses": set(),
    "reports": {"system"},
    "metrics": {"system", "losses"},
    "nets": {"system"},
    "data": {"system", "nets"},
    "pruning": {"system"},
    "graph": {"system", "pruning"},
    "training": {"system", "losses", "metrics", "nets", "data", "pruning", "graph"},
    "exporters": {"system", "losses", "metrics", "nets", "data", "pruning", "graph"},
}
ROOMS["deploy"] = {*ROOMS["exporters"], "exporters"}
ROOMS["browser"] = {"system", "reports", "data", "exporters"}
ROOMS["quant"] = {*ROOMS["exporters"], "exporters", "training"}
ROOMS["latency"] = {*ROOMS["exporters"], "exporters", "training"}
ROOMS["methods"] = {*ROOMS["quant"], "quant", "latency", "reports"}
ROOMS["workflow"] = {*ROOMS["methods"], "methods", "browser", "deploy"}
ROOMS["comparison"] = {*ROOMS["workflow"], "workflow"}
ROOMS["cli"] = {*ROOMS["comparison"], "comparison"}

FILES = sorted(SOURCE.rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path, *, when_run: bool = False) -> set[str]:
    """The modules a file imports, as absolute names; `when_run` leaves out what is for type checkers alone."""
    tree = tree_of(path)
    skipped: set[int] = set()
    for node in ast.walk(tree) if when_run else ():
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skipped |= {id(inner) for inner in ast.walk(node)}
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


def test_every_room_is_known_and_nothing_lies_loose_at_the_top():
    found = [path for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert {path.name for path in found if any(path.rglob("*.py"))} == set(ROOMS)
    assert {path.name for path in found if path.is_file()} == FACE


def test_the_rooms_form_no_circle():
    list(TopologicalSorter(ROOMS).static_order())


def test_imports_go_only_where_they_may():
    for path in FILES:
        if path.name in FACE and path.parent == SOURCE:
            continue
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("ganshrink.")}
        assert rooms <= ROOMS[room(path)] | {room(path)}, path


def test_no_file_imports_itself_by_way_of_others():
    def module(path: Path) -> str:
        return ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")

    known = {module(path): path for path in FILES}
    arrows = {}
    for name, path in known.items():
        targets = {n if n in known else n.rpartition(".")[0] for n in imported(path, when_run=True)}
        arrows[name] = (targets & known.keys()) - {name}
    list(TopologicalSorter(arrows).static_order())


def test_methods_do_not_import_each_other():
    shared = {"__init__", "base", "distill", "original"}
    rooms = {path.stem for path in (SOURCE / "methods").iterdir()} - shared - {"__pycache__"}
    for path in (SOURCE / "methods").rglob("*.py"):
        mine = path.relative_to(SOURCE / "methods").parts[0].removesuffix(".py")
        used = {name.split(".")[2] for name in imported(path) if name.startswith("ganshrink.methods.")}
        assert mine == "__init__" or not used & (rooms - {mine}), path


def test_the_report_does_without_torch():
    for path in (SOURCE / "reports").rglob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "torch"], path


def test_a_file_is_one_sitting_long():
    assert [path for path in FILES if len(path.read_text().splitlines()) > 400] == []


def test_only_the_command_line_prints():
    for path in FILES:
        if room(path) == "cli" or "print(" not in path.read_text():
            continue
        calls = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.Call)]
        assert not [c for c in calls if getattr(c.func, "id", "") == "print"], path


METHOD_NAMES = re.compile(
    r"\b(cat|compression and teaching|dmad|gan[_ ]?slimming|decig|ugc|omgd|rebuild|uniform|hinges)\b",
    re.IGNORECASE,
)
OTHERS = {"cat", "uniform", "uniform_"}  # attributes of torch and numpy


def said(tree: ast.Module) -> Iterator[str]:
    """Every identifier and every string of a file but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, documented):
            for statement in node.body:  # a string below a field is its docstring
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    docstrings.add(id(statement.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield re.sub(r"recipes/\S+", "", node.value)  # examples of commands name a recipe that is there
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr not in OTHERS:
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, (ast.alias, *documented[1:])):
            yield node.name


def test_no_method_leaks_out_of_its_room():
    # `cat` is an operator of torch, too
    others = [path for path in FILES if room(path) != "methods" and path.parent.name != "rules"]
    found = {
        str(path): [text for text in said(tree_of(path)) if METHOD_NAMES.search(text)] for path in others
    }
    assert not {path: texts for path, texts in found.items() if texts}


def test_no_method_leaks_into_the_templates_of_pages():
    for template in (SOURCE / "reports").glob("*.j2"):
        assert not METHOD_NAMES.findall(template.read_text()), template
