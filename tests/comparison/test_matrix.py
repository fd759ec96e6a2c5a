"""A matrix becomes cells: which there are, what they share, and what is refused."""

import re
from pathlib import Path

import pytest

from ganshrink.comparison.matrix import Matrix, cells, read_matrix
from ganshrink.methods import BASELINES, METHODS
from tiny_recipe import tiny

SHARED = {key: value for key, value in tiny("x").items() if key not in ("run", "budget", "method")}


def matrix(tmp_path, **given) -> Matrix:
    return Matrix(**{"run": tmp_path / "grid", "recipe": SHARED, **given})


def test_baselines_are_in_every_matrix_and_every_method_by_default(tmp_path):
    found = cells(matrix(tmp_path))
    entries = [cell.entry for cell in found]
    assert entries == [*BASELINES, *(name for name in METHODS if name != "uniform")]
    assert {cell.recipe.budget for cell in found} == {"macs=10%"}


def test_cells_differ_in_what_the_matrix_says_alone(tmp_path):
    found = cells(
        matrix(
            tmp_path,
            methods=["cat", "few"],
            method={"few": {"name": "cat", "search": {"floor": 4}}},
            budgets=["macs=60%", "macs=30%"],
            seeds=[3, 4],
            label_fractions=[1.0, 0.25],
        )
    )
    assert len({cell.name for cell in found}) == len(found) == 5 * 2 * 2 * 2
    assert [cell.seed for cell in found] == [3] * 20 + [4] * 20
    assert {cell.recipe.data.label_fraction for cell in found} == {1.0, 0.25}
    assert {cell.recipe.method.search.floor for cell in found if cell.entry == "few"} == {4}
    same = {cell.recipe.student.model_copy(update={"seed": 0}) for cell in found}
    assert len(same) == 1
    assert {cell.recipe.student.seed for cell in found} == {3, 4}
    assert found[0].kind == found[20].kind and found[0].kind_key() == found[20].kind_key()
    assert found[0].key() != found[20].key()


def test_a_teacher_s_own_seed_is_not_the_students(tmp_path):
    recipe = {**SHARED, "teacher": {**SHARED["teacher"], "seed": 7}}
    found = cells(matrix(tmp_path, recipe=recipe, methods=[], seeds=[0, 1]))
    assert {cell.recipe.teacher.seed for cell in found} == {7}
    assert [cell.recipe.student.seed for cell in found] == [0, 0, 0, 1, 1, 1]


def test_a_recipe_file_lends_its_method_and_its_tables(tmp_path):
    file = "recipes/cat/quick.toml"
    found = cells(matrix(tmp_path, recipe=file, methods=[file], budgets=["macs=30%"]))
    assert found[-1].entry == "cat-quick"
    assert {cell.recipe.net.options["ngf"] for cell in found} == {found[0].recipe.net.options["ngf"]}
    assert {cell.recipe.budget for cell in found} == {"macs=30%"}


def test_an_entry_may_have_a_network_of_its_own(tmp_path):
    method = {"other": {"name": "uniform", "student_net": {"name": "devicenet", "ngf": 16}}}
    nets = {c.entry: c.recipe.student.net for c in cells(matrix(tmp_path, methods=["other"], method=method))}
    assert nets.pop("other").options == {"ngf": 16} and set(nets.values()) == {None}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": ["cta"]}, "unknown method 'cta'; did you mean 'cat'?"),
        ({"methods": ["uniform-scratch"]}, "is a baseline, which is always there"),
        ({"methods": ["cat", "cat"]}, "two cells are called"),
        ({"methods": ["cat"], "method": {"other": {}}}, "method.other: methods does not name it"),
        ({"recipe": {**SHARED, "budget": "macs=1%"}}, "recipe.budget: the matrix decides this"),
        ({"methods": ["cat"], "budgets": ["mac=10%"]}, "mac"),
        ({"rank_by": "mIoU"}, "rank_by: 'mIoU' is not measured"),
        ({"recipe": {**SHARED, "student": {"seed": 3}}}, "recipe.student.seed: write seeds in the matrix"),
        ({"recipe": {**SHARED, "data": {"label_fraction": 0.5}}}, "write label_fractions in the matrix"),
    ],
)
def test_what_cannot_be_a_matrix_is_refused_in_a_line(tmp_path, given, said):
    with pytest.raises(ValueError, match=r".") as caught:
        cells(matrix(tmp_path, **given))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_key_of_the_file_is_told_with_the_nearest_one(tmp_path):
    file = tmp_path / "m.toml"
    file.write_text('recipe = "recipes/cat/quick.toml"\nseed = [1]\n')
    with pytest.raises(ValueError, match=r"m\.toml: seed: unknown key; did you mean 'seeds'"):
        read_matrix(file)


def test_the_matrix_of_the_page_is_one(tmp_path):
    page = Path("docs/compare.md").read_text()
    file = tmp_path / "page.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    assert len(cells(read_matrix(file))) == 2 * 6


@pytest.mark.parametrize(
    "file", sorted(Path("benchmarks/compare").glob("*.toml")), ids=lambda file: file.stem
)
def test_a_matrix_that_is_shipped_is_one(file):
    assert cells(read_matrix(file))
