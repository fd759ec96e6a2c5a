"""The pages: the reference is what the code says, recipes are valid, lines short, links lead somewhere."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from ganshrink.workflow.recipe import resolve

PAGES = [*sorted(Path().glob("*.md")), *sorted(Path("docs").glob("*.md"))]
RECIPES = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in PAGES
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", path.read_text(), re.S))
    if "[net]" in block
]


def test_the_reference_is_what_the_code_says():
    page = runpy.run_path("docs/reference.py")["page"]()
    assert page == Path("docs/reference.md").read_text(), "run python docs/reference.py"


@pytest.mark.parametrize("text", RECIPES)
def test_a_recipe_in_a_page_is_valid(text):
    raw = tomllib.loads(text)
    assert resolve(raw).budget == raw["budget"]


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
