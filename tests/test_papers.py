"""The papers' rows: each has a recipe that can be read and a place on the page, and costs what is printed."""

import runpy
from collections import Counter
from pathlib import Path

import pytest

from ganshrink.pruning import Budget
from telling import rest_exhaustive

PAPERS = runpy.run_path("docs/papers.py")
ROWS = [row for paper in PAPERS["PAPERS"] for row in PAPERS["rows"](paper)]
ORIGINALS = PAPERS["FACTS"]["original"]
PAGE = Path("docs/papers.md")


def name(row) -> str:
    return f"{row.paper}-{row.name}"


def test_each_row_of_a_main_table_has_a_recipe_or_a_reason():
    without = {paper: len(PAPERS["FACTS"][paper].get("without", {})) for paper in PAPERS["PAPERS"]}
    found = Counter(row.paper for row in ROWS)
    assert {paper: found[paper] + without[paper] for paper in found} == {
        "cat": 6,
        "dmad": 11,
        "gan_slimming": 10,
        "ugc": 29,
        "decig": 18,
    }
    assert {row.path for row in ROWS} == set(Path("recipes/papers").rglob("*.toml"))


@pytest.mark.slow
def test_each_row_is_read_and_the_page_says_what_it_says():
    page = " ".join(PAGE.read_text().split())
    for row in ROWS:
        assert " ".join(row.told().split()) in page, "run python docs/papers.py"
        assert row.paper == row.recipe.method.name or row.fixed or row.paper == "decig"
    for paper in PAPERS["PAPERS"]:
        for reason in PAPERS["FACTS"][paper].get("without", {}).values():
            assert reason in page


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_page_is_what_is_counted():
    assert PAPERS["page"]() == PAGE.read_text(), "run python docs/papers.py"


def first(net: dict) -> bool:
    return net == {"name": "unet128", "ngf": 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    "original",
    rest_exhaustive(ORIGINALS, lambda original: first(original["net"])),
    ids=lambda o: str(o["net"]),
)
def test_an_original_costs_what_is_printed(original):
    size = PAPERS["size_of"](original.get("data", ""))
    channels = PAPERS["channels_of"](tuple(original["net"].items()), size)
    agree = [
        PAPERS["agrees"](amount, cost(channels, None, kind)) for kind, amount in original["printed"].items()
    ]
    assert all(agree) != ("differs" in original)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "row",
    rest_exhaustive(ROWS, lambda row: name(row) == "ugc-edges2shoes-unet-omgd-1.22g"),
    ids=name,
)
def test_a_row_costs_what_is_printed(row):
    """A student whose widths are given costs that; others may, and their budget is no smaller than what is printed."""
    plan, channels = row.student(), row.channels()
    if plan is None:
        return
    costs = {kind: cost(channels, plan, kind) for kind in row.printed}
    if row.fixed:
        agree = [PAPERS["agrees"](amount, costs[kind]) for kind, amount in row.printed.items()]
        assert all(agree) != ("differs" in row.facts)
    else:
        budgets = Budget.parse(row.recipe.limits).resolve(channels)
        assert budgets.allows(channels, plan)


def cost(channels, plan, kind: str) -> int:
    counted = channels.cost(plan, "paper" if kind == "paper" else "exact")
    return counted.params if kind == "params" else counted.macs


def test_printed_numbers_are_rounded_or_cut_off():
    agrees = PAPERS["agrees"]
    assert agrees("11.3M", 11_378_179) and agrees("56.8G", 56_799_264_768) and agrees("376M", 376_360_000)
    assert not agrees("18.6G", 18_140_364_800) and not agrees("0.87G", 857_604_096)
