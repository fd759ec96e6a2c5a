"""UGC's evolutionary search: bands of cost, two teachers, and a search that is a function of its seed and of scores."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import nn

from ganshrink.methods.base import Job
from ganshrink.methods.ugc import UgcConfig
from ganshrink.methods.ugc.search import Search, teachers_of
from ganshrink.methods.ugc.ugc import Ugc
from ganshrink.pruning import Budget, Plan
from ganshrink.pruning.budget import spending
from ganshrink.training.stages import Run
from ganshrink.training.subnets import SubnetScores
from telling import rest_exhaustive


class Counting(Search):
    """Counts the networks that it scores, and is killed before one of them."""

    limit: int | None = None

    def __init__(self, *given: Any) -> None:
        self.members: list[tuple[int, ...]] = []
        super().__init__(*given)

    def score(self, widths: np.ndarray) -> float:
        if len(self.members) == self.limit:
            raise KeyboardInterrupt
        self.members.append(tuple(widths.tolist()))
        return super().score(widths)


@dataclass(frozen=True)
class Place:
    """Where a search is made: a trained supernet, and a file for scores."""

    work: Job
    config: UgcConfig
    whole: few.Whole
    file: Path

    def search(self, kind: type[Counting] = Counting) -> Counting:
        whole, images = self.whole, few.images_of(self.work, self.config)
        given = whole.network, whole.channels, whole.space, images, "agreement", self.work.metrics
        seen = self.config.search.calibration_images
        subnets = SubnetScores(*given, seen=seen, training=self.work.training)
        return kind(self.work, self.config.search, subnets, self.file)

    def budget(self, text: str) -> Budget:
        return Budget.parse(text).resolve(self.whole.channels)

    def widths(self, plan: Plan) -> np.ndarray:
        return self.whole.channels.widths(plan)

    def macs(self, plan: Plan) -> int:
        return self.whole.channels.cost(plan).macs


@pytest.fixture(scope="module")
def base() -> Job:
    return few.job()


def place(base: Job, folder: Path, *, seed: int = 0, **changes: Any) -> Place:
    config = few.settings(**changes)
    work = replace(base, training=base.training.model_copy(update={"seed": seed}))
    return Place(work, config, few.whole(config), folder / "scores.json")


def found(search: Counting, at: Place, budget: str = "macs=30%") -> dict[str, Plan]:
    student = search.student(at.budget(budget))
    return {"student": student, **search.teachers(student)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "band"),
    rest_exhaustive(
        [
            ("macs=30%", 0.9),
            ("macs=30%", 0.5),
            ("params=25%", 0.9),
            ("macs=60%,params=40%", 0.9),
            ("paper_macs=35%,bytes=90%", 0.95),
        ],
        ("macs=60%,params=40%", 0.9).__eq__,
    ),
)
def test_the_student_costs_what_its_budget_allows_and_hardly_less(base, tmp_path, text, band):
    at = place(base, tmp_path, band=band)
    search, budget = at.search(), at.budget(text)
    plan = search.student(budget)
    for members in (at.widths(plan), *map(np.array, search.members)):
        shares = [spending(at.whole.channels, members, limit) / limit.amount for limit in budget.limits]
        assert band <= max(shares) <= 1
        assert members in at.whole.space
    assert budget.allows(at.whole.channels, plan)
    assert search.scores.get(at.widths(plan)) == max(search.scores.known.values())
    assert len(search.members) == len(set(search.members)) == len(search.scores.known) > 4


def test_a_budget_above_the_whole_network_leaves_it_whole(base, tmp_path):
    at = place(base, tmp_path)
    macs = at.whole.channels.cost().macs
    student = at.search().student(Budget.parse(f"macs={2 * macs}"))
    assert at.widths(student).tolist() == at.whole.space.largest().tolist()


@pytest.mark.slow
def test_teachers_cost_so_many_times_the_student_one_wider_and_one_deeper(base, tmp_path, caplog):
    at = place(base, tmp_path, teacher_ratio=2.6, teacher_tolerance=0.15)
    search = at.search()
    plans = found(search, at, "macs=12%")
    student, space = at.widths(plans["student"]), at.whole.space
    for name in ("wide", "deep"):
        assert 2.21 <= at.macs(plans[name]) / at.macs(plans["student"]) <= 2.99
    assert space.depths(at.widths(plans["wide"])).tolist() == [0, 0]
    assert space.depths(at.widths(plans["deep"])).tolist() == [1, 1]
    free = [n for n in range(len(student)) if n not in {g for site in space.sites for g in site}]
    wide, deep = (at.widths(plans[name])[free].sum() for name in ("wide", "deep"))
    assert student[free].sum() < deep < wide
    assert "nearest" not in caplog.text
    report = search.report(plans)
    for name, plan in plans.items():
        told = report["networks"][name]
        assert told["macs"] == at.macs(plan) and told["params"] == at.whole.channels.cost(plan).params
        assert told["of_student"] == pytest.approx(at.macs(plan) / at.macs(plans["student"]))
        assert told["depths"] == space.depths(at.widths(plan)).tolist()
        assert told["score"] == told["history"][-1] == max(told["history"]) and len(told["history"]) == 2
    assert report["fitness"] == "agreement" and report["images"] == 1
    assert report == json.loads(json.dumps(report))


@pytest.mark.exhaustive
def test_under_a_budget_in_the_papers_macs_teachers_cost_so_many_times_the_student_in_these(base, tmp_path):
    """Transposed layers count four times there: by exact MACs a teacher would be a third off."""
    at = place(base, tmp_path, teacher_ratio=2.6, teacher_tolerance=0.1, population=1, generations=1)
    budget = at.budget("paper_macs=20%")
    at = replace(at, work=replace(at.work, budget=budget))
    search = at.search()
    student = search.student(budget)
    plans = {"student": student, **search.teachers(student)}
    cost = {name: at.whole.channels.cost(plan, "paper").macs for name, plan in plans.items()}
    report = search.report(plans)
    for name in ("wide", "deep"):
        assert 0.9 * 2.6 <= cost[name] / cost["student"] <= 1.1 * 2.6
        assert report["networks"][name]["of_student"] == pytest.approx(cost[name] / cost["student"])
    assert any(
        at.macs(plan) / at.macs(student) < 0.95 * cost[n] / cost["student"] for n, plan in plans.items()
    )
    assert report["convention"] == "paper"


@pytest.mark.parametrize(
    ("text", "convention"),
    [
        ("macs=9%", "exact"),
        ("paper_macs=9%", "paper"),
        ("paper_macs=9%,params=9%", "paper"),
        ("paper_macs=9%,macs=9%", "exact"),
        ("params=9%", "exact"),
    ],
)
def test_macs_are_counted_as_the_budget_does(text, convention):
    assert Budget.parse(text).convention == convention


@pytest.mark.exhaustive
def test_without_inserted_blocks_there_is_no_deep_teacher(base, tmp_path):
    """It would be another wide one, and where no network is in the band, the same."""
    for ratio in (2.6, 20):
        at = place(base, tmp_path, extra_blocks=0, teacher_ratio=ratio)
        student = at.whole.space.plan(at.whole.channels, at.whole.space.smallest())
        assert teachers_of(student, at.whole.space, at.whole.channels, at.config.search, 0).keys() == {"wide"}
    config = few.settings(nas=False, extra_blocks=0)
    images = few.images_of(at.work, config)
    assert Ugc(Run(tmp_path / "run"), at.work, config, images).fixed().keys() == {"student", "wide"}


def test_without_a_search_the_wide_teacher_is_so_many_times_as_wide_and_no_wider_than_the_original(
    base, tmp_path
):
    config = few.settings(nas=False)
    work = replace(base, original=few.prepared(base.original, config.transforms()))
    method = Ugc(Run(tmp_path), work, config, few.images_of(work, config))
    sites = {number for site in method.space.sites for number in site}
    for ratio, budget in ((4, "macs=12%"), (1.5, "macs=20%"), (4, "macs=60%")):
        method.config = few.settings(nas=False, wide_ratio=ratio)
        method.job = replace(work, budget=Budget.parse(budget).resolve(method.channels))
        student, wide, deep = (method.channels.widths(plan).tolist() for plan in method.fixed().values())
        for number, group in enumerate(method.channels.groups):
            inside = number in sites
            assert wide[number] == (0 if inside else min(len(group), math.ceil(ratio * student[number])))
            assert deep[number] == (len(group) if inside else student[number])


@pytest.mark.exhaustive
@pytest.mark.slow
def test_where_no_teacher_costs_as_much_the_nearest_is_taken_and_its_ratio_told(base, tmp_path, caplog):
    at = place(base, tmp_path, teacher_ratio=20)
    search = at.search()
    plans = found(search, at)
    space = at.whole.space
    assert at.widths(plans["wide"]).tolist() == space.shallow().largest().tolist()
    assert space.depths(at.widths(plans["deep"])).tolist() == [1, 1]
    report = search.report(plans)["networks"]
    for name in ("wide", "deep"):
        ratio = at.macs(plans[name]) / at.macs(plans["student"])
        assert report[name]["of_student"] == pytest.approx(ratio) and ratio < 15
        assert "history" not in report[name]
        assert (
            f"no {name} teacher has 20 times" in caplog.text and f"{ratio:.3g} times, is taken" in caplog.text
        )


@pytest.mark.exhaustive
def test_a_deep_teacher_dearer_than_wanted_is_the_smallest_deep_one(base, tmp_path):
    at = place(base, tmp_path, teacher_ratio=1, teacher_tolerance=0)
    student = at.whole.space.plan(at.whole.channels, at.whole.space.smallest())
    deep = teachers_of(student, at.whole.space, at.whole.channels, at.config.search, 0)["deep"]
    assert isinstance(deep, np.ndarray)
    assert deep.tolist() == at.whole.space.deep().smallest().tolist()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_same_seed_finds_the_same_and_another_looks_elsewhere(base, tmp_path):
    searches, plans = [], []
    for number, seed in enumerate((0, 0, 1)):
        at = place(base, tmp_path / str(number), seed=seed)
        at.file.parent.mkdir()
        torch.manual_seed(number), np.random.seed(number)
        searches.append(at.search())
        plans.append(found(searches[-1], at))
    assert plans[0] == plans[1] and searches[0].scores.known == searches[1].scores.known
    assert searches[0].members == searches[1].members != searches[2].members


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 3, 11])
def test_a_killed_search_goes_on_and_scores_no_network_again(base, tmp_path, killed):
    (tmp_path / "whole").mkdir(), (tmp_path / "killed").mkdir()
    at = place(base, tmp_path / "whole")
    undisturbed = at.search()
    wanted = found(undisturbed, at)
    assert len(undisturbed.members) > 11

    at = replace(at, file=tmp_path / "killed/scores.json")
    first = at.search()
    first.limit = killed
    with pytest.raises(KeyboardInterrupt):
        found(first, at)
    second = at.search()
    assert found(second, at) == wanted
    assert first.members + second.members == undisturbed.members
    assert second.report(wanted) == undisturbed.report(wanted)
    assert json.loads(at.file.read_text()) == undisturbed.scores.known


def test_batch_norms_are_counted_anew_before_a_network_is_scored(base, tmp_path):
    """What the supernet's running statistics are says nothing of its subnets'."""
    scores = []
    for value in (None, 1e3):
        at = place(base, tmp_path)
        for module in at.whole.network.modules():
            if isinstance(module, nn.BatchNorm2d) and value is not None:
                module.running_mean.fill_(value), module.running_var.fill_(value)
        before = {name: tensor.clone() for name, tensor in at.whole.network.state_dict().items()}
        search = at.search()
        members = [at.whole.space.smallest(), at.whole.space.largest()]
        scores.append([search.score(widths) for widths in members])
        assert tiny.same(at.whole.network.state_dict(), before)  # the supernet's own stay
    assert scores[0] == scores[1] and scores[0][0] < scores[0][1] == 0
