"""The pages: the reference is what the code says, recipes are valid, lines short, links lead somewhere."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from ganshrink.data import DATASETS, DataConfig
from ganshrink.exporters import EXPORTERS
from ganshrink.methods import METHODS
from ganshrink.metrics import METRICS, MetricsConfig
from ganshrink.nets import NETS
from ganshrink.training.tasks import TASKS
from ganshrink.workflow.recipe import resolve

PAGES = [*sorted(Path().glob("*.md")), *sorted(Path("docs").rglob("*.md"))]
RECIPES = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in PAGES
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", path.read_text(), re.S))
    if "[net]" in block
]


@pytest.mark.slow
def test_the_reference_is_what_the_code_says():
    page = runpy.run_path("docs/reference.py")["page"]()
    assert page == Path("docs/reference.md").read_text(), "run python docs/reference.py"


def test_the_reference_mentions_every_part():
    """By name and with what stands beside it, so that no entry of a table is without a word."""
    page = " ".join(Path("docs/reference.md").read_text().split())
    listed = {**NETS, **DATASETS, **METRICS, **EXPORTERS}
    for name in listed:
        assert f"`{name}`" in page, name
    for table, parts in (("task", TASKS), ("method", METHODS)):
        for name in parts:
            assert f'[{table}] name = "{name}"' in page, name
    texts = [part.about for part in (*METRICS.values(), *EXPORTERS.values())]
    for part in (*DATASETS.values(), *TASKS.values(), *METHODS.values()):
        texts.append(" ".join((part.__doc__ or "").split("\n\n")[0].split()).split(". ")[0].removesuffix("."))
    for text in texts:
        assert len(text) > 10 and text in page.replace("\\|", "|"), text


@pytest.mark.parametrize("text", RECIPES)
def test_a_recipe_in_a_page_is_valid(text):
    raw = tomllib.loads(text)
    assert resolve(raw).budget == raw["budget"]


def test_the_data_tables_of_the_pages_are_valid():
    pages = Path("docs/quickstart.md").read_text() + Path("docs/pictures.md").read_text()
    recipes = [tomllib.loads(block) for block in re.findall(r"```toml\n(\[data\].*?)```", pages, re.S)]
    assert {recipe["data"]["name"] for recipe in recipes} == {"paired", "unpaired", "labelled", "photos"}
    for recipe in recipes:
        DataConfig(**recipe["data"])
        MetricsConfig(**recipe.get("metrics", {}))


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_no_line_of_a_page_is_over_100_columns(path):
    lines = enumerate(path.read_text().splitlines(), 1)
    assert not [f"{path}:{number}" for number, line in lines if len(line) > 100]


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(path):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text()):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert heading in [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles], link


def test_the_citation_is_of_this_version():
    version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in Path("CITATION.cff").read_text()


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".ci/run"])
def test_continuous_integration_runs_the_test_command_of_the_readme(path):
    assert "make test " in Path("README.md").read_text()
    assert re.search(r"^\s*(- run: )?make test$", Path(path).read_text(), re.M)


def test_the_hooks_are_those_of_make_lint_and_download_nothing():
    hooks = Path(".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    lint = re.search(r"^lint:.*\n\t(.*)", Path("Makefile").read_text(), re.M)[1]
    tools = [" ".join(call.split()[:2]).removeprefix("$(BIN)/") for call in lint.split("&&")]
    entries = re.findall(r"entry: \.venv/bin/(.*)", hooks)
    assert [tool.removesuffix(" .") for tool in tools] == [" ".join(e.split()[:2]) for e in entries]
