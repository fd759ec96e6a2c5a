"""Recipes: what they resolve to, and what is refused with which words."""

import tomllib
from pathlib import Path

import pytest

from ganshrink.workflow.explain import explain
from ganshrink.workflow.recipe import dump, read_recipe, resolve
from telling import rest_exhaustive

RECIPES = sorted(Path("recipes").rglob("*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_there_are_recipes():
    assert Path("recipes/cat/quick.toml") in RECIPES


@pytest.mark.parametrize("path", rest_exhaustive(RECIPES, RECIPES[::4].__contains__), ids=str)
def test_every_recipe_resolves_is_short_and_survives_its_own_dump(path):
    recipe = read_recipe(path)
    assert len([line for line in path.read_text().splitlines() if line and line[0] != "#"]) <= 32
    assert resolve(tomllib.loads(dump(recipe))) == recipe


def test_the_student_is_trained_as_the_teacher_unless_it_says_otherwise():
    raw = {
        "net": {"name": "resnet9"},
        "teacher": {"epochs": 7, "batch_size": 3},
        "student": {"batch_size": 5},
    }
    recipe = resolve(raw)
    assert (recipe.student.epochs, recipe.student.batch_size) == (7, 5)


def test_the_seed_reaches_both_trainings():
    recipe = resolve({"seed": 9, "net": {"name": "resnet9"}})
    assert (recipe.teacher.seed, recipe.student.seed) == (9, 9)


def test_overrides_are_toml_or_else_strings(tmp_path):
    path = write(tmp_path, "[net]\nname = 'resnet9'\n[data]\nsize = 64\n")
    recipe = read_recipe(
        path, ["budget=macs=2.6G", "run=out/x", "data.flip=false", "net.ngf=32", "method=cat"]
    )
    assert recipe.budget == "macs=2.6G" and recipe.run == Path("out/x")
    assert recipe.data.flip is False and recipe.net.options == {"ngf": 32}
    origins = {setting.key: setting.origin for setting in explain(recipe, path, ["data.flip=false"])}
    assert origins["data.flip"] == "command line"
    assert origins["data.size"] == "recipe"
    assert origins["teacher.epochs"] == "default"


BOTH = """
[budget]
AtoB = 'macs=5%'
BtoA = 'macs=20%,params=0.4M'
[net]
name = 'resnet9'
[data]
name = 'unpaired'
root = 'pictures'
direction = 'both'
"""


def test_each_direction_can_have_a_budget_of_its_own(tmp_path):
    path = write(tmp_path, BOTH)
    recipe = read_recipe(path)
    assert recipe.budget == {"AtoB": "macs=5%", "BtoA": "macs=20%,params=0.4M"}
    assert resolve(tomllib.loads(dump(recipe))) == recipe
    there, back = recipe.ways()
    assert [(r.direction, r.budget, r.limits, r.run.name) for r in (there, back)] == [
        ("AtoB", "macs=5%", "macs=5%", "AtoB"),
        ("BtoA", "macs=20%,params=0.4M", "macs=20%,params=0.4M", "BtoA"),
    ]
    assert resolve(tomllib.loads(dump(back))) == back
    assert [r.limits for r in read_recipe(path, ["budget=macs=7%"]).ways()] == ["macs=7%"] * 2
    one_way = read_recipe(path, ["budget=macs=7%", "data.direction=BtoA"])
    assert one_way.ways() == [one_way] and one_way.limits == "macs=7%"


def test_the_budget_of_one_direction_is_changed_by_its_own_key(tmp_path):
    tables = write(tmp_path, BOTH)
    assert read_recipe(tables, ["budget.AtoB=macs=7%"]).budget["AtoB"] == "macs=7%"
    origins = {s.key: (s.value, s.origin) for s in explain(read_recipe(tables), tables, [])}
    assert origins["budget.BtoA"] == ("macs=20%,params=0.4M", "recipe") and "budget" not in origins

    shared = write(tmp_path, BOTH.replace("[budget]\nAtoB =", "budget =").replace("BtoA", "#"))
    typed = ["budget.BtoA=macs=7%"]
    recipe = read_recipe(shared, typed)
    assert recipe.budget == {"AtoB": "macs=5%", "BtoA": "macs=7%"}
    origins = {s.key: s.origin for s in explain(recipe, shared, typed)}
    assert (origins["budget.AtoB"], origins["budget.BtoA"]) == ("recipe", "command line")
    assert {s.key: s.value for s in explain(read_recipe(shared), shared, [])}["budget"] == "macs=5%"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.lambda_dst=2", "method.lambda_dst: unknown key; did you mean 'distill.lambda_dist'?"),
        ("tasks.ndf=3", "tasks: unknown key; did you mean 'task'?"),
        ("data.counts.trian=3", "data.counts.trian: unknown key; did you mean 'train'?"),
        ("method.name=dog", "method.name: unknown method 'dog'; there are: cat"),
        ("teacher.epochs=-1", "teacher.epochs: Input should be greater than or equal to 0 (got -1)"),
        ("teacher.epochs=many", "teacher.epochs: Input should be a valid integer"),
        ("metrics.names=['psnrr']", "metrics.names: unknown metric 'psnrr'; did you mean 'psnr'"),
        ("data.size=abc", "data.size: Input should be a valid integer"),
        ("data.load_size=8", "data: load_size 8 x 8 is smaller than size 64 x 64"),
        ("budget", "'budget' is no key=value"),
        ("seed.x=1", "seed: Input should be a valid integer"),
        ("budget=3", "budget: must be KIND=AMOUNT: macs=3%? (got 3)"),
        (
            "budget.AtoB=macs=10%",
            "budget: a table needs a limit for each direction, such as AtoB = 'macs=10%'",
        ),
        ("budget={AtoB='macs=1%', BtoC='macs=2%'}", "this one is {'AtoB': 'macs=1%', 'BtoC': 'macs=2%'}"),
        ("budget={AtoB='macs=1%', BtoA=2}", "budget: a table needs a limit for each direction"),
        (
            "budget={AtoB='macs=1%', BtoA='macs=2%'}",
            "mine.toml: budget gives each direction its own limit, but only AtoB is made: write budget = 'macs=1%', or "
            "data.direction = 'both'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, override, message):
    path = write(tmp_path, "[net]\nname = 'resnet9'\n[data]\nsize = 64\n")
    with pytest.raises(ValueError) as error:
        read_recipe(path, [override])
    lines = str(error.value).splitlines()
    assert len(lines) == 1 and message in lines[0], lines


def test_all_errors_are_told_at_once(tmp_path):
    path = write(tmp_path, "[net]\nname = 'resnet9'\n[teacher]\nepochs = -1\nlog_evry = 2\n")
    with pytest.raises(ValueError) as error:
        read_recipe(path)
    text = str(error.value)
    assert "teacher.epochs" in text and "did you mean 'log_every'" in text
    assert all(line.startswith(str(path)) for line in text.splitlines())


def test_a_missing_or_broken_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no recipe .*none.toml"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="not valid TOML"):
        read_recipe(write(tmp_path, "a = = 1"))
