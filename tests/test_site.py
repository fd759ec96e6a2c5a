"""The site: every page has one place in it, and once it is built, every link leads somewhere in it."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import ganshrink

DOCS, SITE = Path("docs"), Path("site")


def test_every_page_has_one_place_in_the_navigation():
    pages = re.findall(r"^ +- (\S+\.md)$", Path("mkdocs.yml").read_text(), re.M)
    assert sorted(pages) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_api_page_has_every_public_name_that_is_no_room():
    named = re.findall(r"^::: ganshrink\.(\w+)$", (DOCS / "api.md").read_text(), re.M)
    assert sorted(named) == sorted(set(ganshrink.__all__) - ganshrink._ROOMS.keys())


def test_what_builds_the_site_is_pinned():
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {package.replace("[python]", "") for package in extras["docs"]}
    assert wanted <= set(Path("constraints.txt").read_text().splitlines())


class Links(HTMLParser):
    """What a page links to and loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "link", "iframe"):
            self.loaded += [given[key] for key in ("src", "href") if key in given]


@pytest.mark.formats
def test_every_link_of_the_site_leads_somewhere_and_nothing_is_fetched_from_elsewhere():
    """Of what `make docs` built, which `make test-formats` does first."""
    pages = {path: Links(path.read_text()) for path in (SITE / "docs").rglob("*.html") if path.stem != "404"}
    if not pages:
        pytest.skip("no site is built: make docs")
    assert len(pages) >= len(list(DOCS.rglob("*.md")))
    wrong = []
    for path, page in pages.items():
        wrong += [f"{path} loads {link}" for link in page.loaded if urlsplit(link).netloc]
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            target = target / "index.html" if (target / "index.html").is_file() else target
            known = pages.get(target.relative_to(Path.cwd())) if target.is_relative_to(Path.cwd()) else None
            if not target.exists() or known and parts.fragment and parts.fragment not in known.anchors:
                wrong.append(f"{path} links to {link}")
    assert not wrong
