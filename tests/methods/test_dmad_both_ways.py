"""DMAD on a CycleGAN, one way and both at once."""

import logging
import re
from pathlib import Path

import pytest
import tiny_dmad as tiny
import torch
from torch.nn.functional import l1_loss

from ganshrink.graph import trace
from ganshrink.losses import discriminator_loss
from ganshrink.methods.base import Job, Result
from ganshrink.methods.dmad import DmadConfig, dmad
from ganshrink.methods.dmad.dmad import DistillationLoss
from ganshrink.pruning import add_affine
from ganshrink.training import Taps
from ganshrink.training.stages import Run

TAPS = tiny.SMALL_TAPS
BUDGETS = ("macs=85%", "macs=40%")
WAYS = {"A": ("input", "target"), "B": ("target", "input")}


def macs(result: Result, name: str) -> int:
    return result.channels[name].cost(result.plans[name]).macs


def numbers(work: Job, way: str) -> dict[str, float]:
    job = work if way == "A" else work.back
    assert job is not None
    return job.budget.numbers()


def met(folder: Path, way: str) -> int:
    """After how many steps a generator had met its budget."""
    sought = [f"G{way and '_' + way}_spa" in line["losses"] for line in tiny.logged(folder, "search")]
    steps = sought.index(False)
    assert not any(sought[steps:])
    return steps


# Both ways


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> tuple[Path, Job, Result]:
    folder, work = tmp_path_factory.mktemp("twins"), tiny.both(*BUDGETS)
    return folder, work, dmad(Run(folder), work, tiny.settings(taps=TAPS))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_each_generator_has_its_own_budget_and_its_own_stop(twins):
    folder, work, result = twins
    assert set(result.students) == set(result.plans) == {"G_A", "G_B"}
    for way in WAYS:
        name = f"G_{way}"
        assert macs(result, name) <= numbers(work, way)["macs"]
        assert trace(result.students[name], *work.example).cost().macs == macs(result, name)
        of_teacher = tiny.cut_from_the_search(folder, result, name=name)
        assert {k: t.shape for k, t in of_teacher.state_dict().items()} == {
            k: t.shape for k, t in result.students[name].state_dict().items()
        }
    assert macs(result, "G_A") > numbers(work, "B")["macs"]
    steps = {way: met(folder, way) for way in WAYS}
    assert 0 < steps["A"] < steps["B"] < 12
    last = tiny.logged(folder, "search")[-1]["watched"]
    assert set(last) == {"live_A", "live_B", "boundary_A", "boundary_B"}
    still = tiny.logged(folder, "search")[steps["A"] - 1]["watched"]
    assert still["boundary_A"] == 0 < still["boundary_B"]


@pytest.mark.exhaustive
def test_the_originals_are_the_teachers_of_each_way(twins):
    _, work, result = twins
    image = tiny.first_batch(work)["input"]
    with torch.no_grad():
        for name, job in (("G_A", work), ("G_B", work.back)):
            torch.testing.assert_close(result.originals[name](image), job.teacher()["G"](image))


@pytest.mark.exhaustive
def test_both_learn_from_their_own_teachers_and_go_on_in_their_cycle(twins):
    """The first step's losses, from what the search left, of which no net has moved yet when they are found."""
    folder, work, result = twins
    batch = tiny.first_batch(work)
    a, b = batch["input"], batch["target"]
    students = {name: tiny.cut_from_the_search(folder, result, name=name) for name in ("G_A", "G_B")}
    g_a, g_b = students.values()
    wanted = {"cycle_A": 10 * l1_loss(g_b(g_a(a)), a), "cycle_B": 10 * l1_loss(g_a(g_b(b)), b)}
    wanted |= {"idt_A": 5 * l1_loss(g_a(b), b), "idt_B": 5 * l1_loss(g_b(a), a)}
    taps, teachers = {}, {}
    for name, job in (("G_A", work), ("G_B", work.back)):
        teachers[name] = job.teacher()["G"]
        taps |= {name: Taps(students[name], TAPS), name.replace("G", "teacher"): Taps(teachers[name], TAPS)}
    context = work.task.with_teachers(teachers).forward(students, taps)(batch, 0, 0)
    for name, job in (("G_A", work), ("G_B", work.back)):
        config = DmadConfig().for_task(job.task).distill
        wanted |= DistillationLoss(name, config, job.teacher()["D"], TAPS).losses(context.ways[name])
        judge = tiny.loaded(job.teacher()["D"], tiny.saved(folder, "search", name.replace("G", "D")))
        wanted[f"{name}_gan"] = (judge(context.ways[name].fake) - 1).square().mean()
        real = batch[WAYS[name[-1]][1]]
        d_real, d_fake = discriminator_loss(judge(real), judge(context.ways[name].fake), mode="lsgan")
        wanted |= {f"D_{name[-1]}_real": d_real}
    for one in taps.values():
        one.close()
    line = tiny.logged(folder, "distill")[0]["losses"]
    assert line.keys() == wanted.keys() | {"D_A_fake", "D_B_fake"}
    found = {name: line[name] for name in wanted}
    assert found == pytest.approx({name: loss.item() for name, loss in wanted.items()}, rel=1e-4)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_error_names_the_way_that_missed_its_budget_though_the_other_met_its_own(tmp_path, caplog):
    """Nothing draws the masks to 0, about half of which are in the end."""
    for budgets, late, early in (
        (("macs=95%", "macs=15%"), "G_B", "G_A"),
        (("macs=15%", "macs=95%"), "G_A", "G_B"),
    ):
        caplog.clear()
        work = tiny.both(*budgets, max_steps=6)
        with caplog.at_level(logging.INFO, "ganshrink"), pytest.raises(ValueError) as error:
            dmad(
                Run(tmp_path / late),
                work,
                tiny.settings(taps=TAPS, search={"lambda_spa": 0, "mask_lr": 1e-3}),
            )
        assert f"{early} meets its budget at step" in caplog.text
        text = str(error.value)
        assert text.startswith(f"{late}: ") and early not in text and "\n" not in text
        cost, allowed = re.search(r"cost macs ([\d.]+k?) of ([\d.]+?k?)\. The", text).groups()
        limit = numbers(work, late[-1])["macs"]
        assert in_full(allowed) == pytest.approx(limit, rel=0.01) and in_full(cost) > limit
        assert not (tmp_path / late / "stages/search/done.json").exists()
    given = {"lambda_spa": 0, "mask_lr": 1e-3, "if_missed": "trim"}
    result = dmad(Run(tmp_path / late), work, tiny.settings(taps=TAPS, search=given))
    assert (
        macs(result, "G_A") <= numbers(work, "A")["macs"]
        and macs(result, "G_B") <= numbers(work, "B")["macs"]
    )
    assert len(tiny.logged(tmp_path / late, "search")) == 6 > met(tmp_path / late, "B")


def in_full(number: str) -> float:
    return float(number.removesuffix("k")) * (1000 if number.endswith("k") else 1)


# One way


@pytest.mark.exhaustive
@pytest.mark.slow
def test_one_way_alone_is_made_small_and_the_other_stays_whole_and_is_trained_along(tmp_path):
    work = tiny.job(tiny.small, task=tiny.cyclegan(), max_steps=4, budget="macs=80%")
    result = dmad(Run(tmp_path), work, tiny.settings(taps=TAPS))
    assert set(result.students) == {"G_A"} and macs(result, "G_A") <= work.budget.numbers()["macs"]
    whole = {name: tensor.shape for name, tensor in add_affine(work.build()).state_dict().items()}
    backs = [tiny.saved(tmp_path, stage, "G_B") for stage in ("search", "distill")]
    for back in backs:
        assert {name: tensor.shape for name, tensor in back.items()} == whole
    assert not torch.equal(backs[0]["0.weight"], backs[1]["0.weight"])
    assert tiny.same(result.students["G_A"].state_dict(), tiny.saved(tmp_path, "distill", "G_A"))
    for stage, more in (("search", set()), ("distill", {"G_A_att", "G_A_fea"})):
        line = tiny.logged(tmp_path, stage)[-1]["losses"]
        cycles = {f"{kind}_{way}" for kind in ("cycle", "idt", "D") for way in "AB"} - {"D_A", "D_B"}
        judges = {
            f"{net}_{way}_{kind}"
            for way in "AB"
            for net, kind in (("D", "real"), ("D", "fake"), ("G", "gan"))
        }
        assert line.keys() == cycles | judges | more
    assert set(tiny.logged(tmp_path, "search")[0]["watched"]) == {"live_A", "boundary_A"}
