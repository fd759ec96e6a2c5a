"""What users are told of a command that cannot work: the value, and what they probably meant."""

import logging
from pathlib import Path

import pytest

from ganshrink.pruning import Budget
from ganshrink.workflow.device_budget import with_levers
from ganshrink.workflow.recipe import read_recipe

QUICK = Path("recipes/cat/quick.toml")


def told(path: Path, *overrides: str) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        read_recipe(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_path_that_is_no_recipe(tmp_path):
    assert (
        told(QUICK.with_name("quik.toml"))
        == f"there is no recipe {QUICK.parent}/quik.toml; did you mean 'quick.toml'?"
    )
    assert told(tmp_path / "none.toml") == f"there is no recipe {tmp_path}/none.toml"
    assert "name a recipe, a TOML file, in it: " in told(QUICK.parent) and "quick.toml" in told(QUICK.parent)
    assert told(tmp_path).endswith("is a folder: name a recipe, a TOML file")
    (tmp_path / "recipe.toml").touch()
    assert told(tmp_path).startswith(
        f"{tmp_path} is a run: `ganshrink compress {tmp_path}/recipe.toml` goes on"
    )
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    assert told(tmp_path / "photo.png").startswith(f"{tmp_path}/photo.png is no recipe")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("10%", "macs=10%"),
        ("2.6G", "macs=2.6G"),
        ("30ms", "latency=30ms@cpu"),
        ("30ms@phone.toml", "latency=30ms@phone.toml"),
        ("2MB", "bytes=2MB"),
        ("mac=10%", "macs"),
        ("parameters=10%", "params"),
    ],
)
def test_a_budget_without_its_kind_or_of_an_unknown_one(given, meant):
    with pytest.raises(ValueError, match="KIND=AMOUNT") as caught:
        Budget.parse(given)
    assert str(caught.value).endswith(f"did you mean {meant!r}?")


@pytest.mark.parametrize(("given", "meant"), [("0.1", "macs=10%"), ("25", "macs=25%")])
def test_a_budget_that_is_a_number(given, meant):
    assert f"budget: must be KIND=AMOUNT: {meant}?" in told(QUICK, f"budget={given}")


def test_a_budget_that_cannot_be_met_names_the_settings_in_its_way():
    method = read_recipe(QUICK).method
    with (
        pytest.raises(ValueError, match=r"cannot be met; lower method.search.floor \(now 4\), or raise"),
        with_levers(method),
    ):
        raise ValueError("macs=1 cannot be met")
    with pytest.raises(ValueError, match="^another thing$"), with_levers(method):
        raise ValueError("another thing")


@pytest.mark.parametrize("word", ["method=uniform", "method.name=uniform", "method='uniform'"])
def test_another_method_leaves_out_the_settings_of_the_recipes_own(word, caplog):
    with caplog.at_level(logging.WARNING):
        recipe = read_recipe(QUICK, [word, "method.floor=3"])
    assert recipe.method.name == "uniform" and recipe.method.floor == 3
    assert "method=uniform: settings of cat are left out: search" in caplog.text


def test_the_same_method_keeps_its_settings(caplog):
    assert read_recipe(QUICK, ["method=cat"]).method.search.floor == 4
    assert not caplog.text
