"""DMAD on a pix2pix job: its whole road, what is handed on from search to student, and other networks and trainings."""

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm, l1_loss

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.losses import discriminator_loss
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job, Result
from ganshrink.methods.dmad import DmadConfig, dmad
from ganshrink.methods.dmad.dmad import DistillationLoss, distill
from ganshrink.pruning import Channels, Plan, add_affine, extract, initialise
from ganshrink.pruning.search.masks import maskable
from ganshrink.training import Taps
from ganshrink.training.stages import Run
from ganshrink.training.train import Nets
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

WIDTH, BUDGET = 0.5, "macs=20%,params=30%"
TAPS = ("down.6", "blocks.0", "blocks.1")


def states(networks: Nets) -> dict[str, dict[str, Tensor]]:
    return copy.deepcopy({name: network.state_dict() for name, network in networks.items()})


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


# The whole road


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> tuple[Path, Job, Result, dict[str, dict[str, Tensor]]]:
    """A run that begins its search with half of each layer; and what its teacher was before."""
    folder, work = tmp_path_factory.mktemp("road"), tiny.job(budget=BUDGET)
    before = states(work.teacher())
    for network in work.teacher().values():
        network.train()  # as a careless caller would hand them over
    config = tiny.settings(search={"width": WIDTH}, taps=TAPS)
    return folder, work, dmad(Run(folder), work, config), before


@pytest.mark.exhaustive
def test_the_road_ends_at_a_student_within_its_budget(road):
    folder, work, result, _ = road
    assert METHODS["dmad"] is dmad and {path.name for path in folder.glob("stages/*")} == {
        "search",
        "distill",
    }
    channels, plan = result.channels["G"], result.plans["G"]
    cost, numbers = channels.cost(plan), work.budget.numbers()
    assert cost.macs <= numbers["macs"] and cost.params <= numbers["params"]
    # the closed form is that of the network that is there
    assert trace(result.students["G"], *work.example).cost().macs == cost.macs
    # the plan is of the original's channels, also where the search began with fewer
    assert channels.num_atoms == trace(add_affine(work.build()), *work.example).num_atoms
    assert shapes(extract(result.originals["G"], channels, plan)) == shapes(result.students["G"])
    for group in channels.groups:
        if group.frozen is None:
            assert int(plan.keep[group.atoms].sum()) <= -(-len(group) * WIDTH // 1)
    assert set(result.basis) == {group.name for group in channels.groups if group.frozen is None}
    assert not result.students["G"].training


def test_the_search_has_a_sparsity_loss_until_the_budget_is_met_and_keeps_that_structure(road):
    folder, work, result, _ = road
    lines = tiny.logged(folder, "search")
    assert len(lines) == work.training.max_steps
    sought = ["G_spa" in line["losses"] for line in lines]
    met = sought.index(False)
    assert 0 < met < len(lines) - 1 and not any(sought[met:])
    live = [line["watched"]["live"] for line in lines]
    assert all(one >= other for one, other in zip(live, live[1:], strict=False))
    assert len(set(live[met - 1 :])) == 1 and live[0] > live[-1]
    assert [line["watched"]["boundary"] for line in lines[: met - 1]] == pytest.approx(
        [1 - ((step + 1) / len(lines)) ** (1 / 3) for step in range(met - 1)]
    )
    assert all(line["watched"]["boundary"] == 0 for line in lines[met - 1 :])
    assert all(
        "watched" not in line and "G_spa" not in line["losses"] for line in tiny.logged(folder, "distill")
    )


def test_the_student_goes_on_with_the_weights_and_the_discriminator_of_the_search(road):
    """Seen in the first step's losses: D's, before it moved; then G's reconstruction, which D has no part in."""
    folder, work, result, before = road
    student, batch = tiny.cut_from_the_search(folder, result, width=WIDTH), tiny.first_batch(work)
    fake, line = student(batch["input"]), tiny.logged(folder, "distill")[0]["losses"]
    assert line["G_recon"] == pytest.approx(100 * l1_loss(fake, batch["target"]).item(), rel=1e-5)

    def judged(state: dict[str, Tensor]) -> tuple[float, float]:
        judge = tiny.loaded(work.teacher()["D"], state)
        shown = [judge(torch.cat([batch["input"], image], 1)) for image in (batch["target"], fake)]
        real, made = discriminator_loss(*shown, mode="hinge")
        return real.item(), made.item()

    logged = (line["D_real"], line["D_fake"])
    assert logged == pytest.approx(judged(tiny.saved(folder, "search", "D")), rel=1e-5)
    assert logged != pytest.approx(judged(before["D"]), rel=1e-2)


@pytest.mark.exhaustive
def test_the_first_lesson_is_the_trained_teacher_s(road):
    """Its features and its discriminator's, in eval mode, though it was handed over in training mode."""
    folder, work, result, before = road
    student, batch = tiny.cut_from_the_search(folder, result, width=WIDTH), tiny.first_batch(work)
    wise = {name: tiny.loaded(work.teacher()[name], before[name]).eval() for name in "GD"}
    lesson = DistillationLoss("G", DmadConfig().for_task(work.task).distill, wise["D"], TAPS)
    with Taps(student, TAPS) as learnt, Taps(wise["G"], TAPS) as taught:
        task = work.task.with_teachers({"G": wise["G"]})
        context = task.forward({"G": student}, {"G": learnt, "teacher": taught})(batch, 0, 0)
        wanted = {name: loss.item() for name, loss in lesson.losses(context.ways["G"]).items()}
    line = tiny.logged(folder, "distill")[0]["losses"]
    assert {name: line[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert all(line[name] > 1e-4 for name in ("G_att", "G_fea"))


@pytest.mark.exhaustive
def test_default_taps_are_along_the_original_s_trunk_whatever_the_search_begins_with(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        dmad(Run(tmp_path), tiny.job(max_steps=3, budget="macs=90%"), tiny.settings(search={"width": 0.75}))
    [told] = [text for text in caplog.messages if "attention compared at" in text]
    assert told.endswith("attention compared at down.9, blocks.0, blocks.1")


# What a student begins with


@pytest.fixture(scope="module")
def searched() -> tuple[Job, Channels, Plan, dict[str, Any]]:
    """One step to train, and what a search might have left."""
    work = tiny.job(max_steps=1)
    dense = add_affine(work.build())
    channels = maskable(trace(dense, *work.example))
    return work, channels, Plan.random(channels, 0.4), left(work, dense, seed=1)


def left(work: Job, dense: nn.Module, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    networks = {"G": dense, "D": work.task.nets(dense, 3, 3)["D"]}
    return states({name: tiny.seasoned(initialise(copy.deepcopy(net))) for name, net in networks.items()})


def distilled(
    folder: Path, work: Job, channels: Channels, plan: Plan, found: dict[str, Any], config: DmadConfig
) -> nn.Module:
    nets = work.task.nets(add_affine(work.build()), 3, 3)
    for name, net in nets.items():
        net.load_state_dict(found[name])
    whole = {"G": nets["G"]}
    nets["G"] = extract(nets["G"], channels, plan)
    config = config.for_task(work.task)
    return distill(Run(folder), work, config, TAPS, {"G": work.teacher()}, nets, whole)["G"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("changes", "remembered"),
    [({}, {"G", "D"}), ({"init": "fresh"}, set()), ({"ndf": 4}, {"G"}), ({"ndf": 6}, {"G"})],
    ids=["both", "none", "G, of the searched width", "G, of another width"],
)
def test_what_the_student_and_its_discriminator_remember_of_the_search(
    tmp_path, searched, changes, remembered
):
    """Searches that left other weights end elsewhere, unless these are not taken; chance before the run has no part."""
    work, channels, plan, found = searched
    other = left(work, add_affine(work.build()), seed=2)
    starts = {"same": found, "again": found, "G": {**found, "G": other["G"]}, "D": {**found, "D": other["D"]}}
    ends = {}
    for number, (name, start) in enumerate(starts.items()):
        torch.manual_seed(number)
        distilled(tmp_path / name, work, channels, plan, start, tiny.settings(**changes))
        ends[name] = tiny.saved(tmp_path / name, "distill", "G"), tiny.saved(tmp_path / name, "distill", "D")
    assert all(tiny.same(*pair) for pair in zip(ends["same"], ends["again"], strict=True))
    generator, judge = ends["same"]
    assert tiny.same(ends["G"][0], generator) == ("G" not in remembered)
    assert tiny.same(ends["D"][1], judge) == ("D" not in remembered)
    assert len(judge["layers.0.weight"]) == changes.get("ndf", 4)


def test_a_mixture_of_attentions_learns_beside_the_student(searched, tmp_path):
    work, channels, plan, found = searched
    work = replace(work, training=work.training.model_copy(update={"max_steps": 2}))
    distilled(tmp_path, work, channels, plan, found, tiny.settings(fusion="conv"))
    mixed = torch.load(tmp_path / "stages/distill/checkpoint.pt", weights_only=False)
    [_, _, moments] = mixed["optimizers"]
    assert len(moments["state"]) == 2 * len(TAPS) and len(mixed["nets"]["mix_G"]) == 2 * len(TAPS)
    assert not (tmp_path / "stages/distill/mix_G.safetensors").exists()


# Other networks and ways to train


class Own(nn.Module):
    """A user's: a functional norm without a scale, a block whose sum is in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.inner, self.outer = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.norm, self.last = nn.GroupNorm(3, 6), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.second(instance_norm(self.first(x)).relu())).relu()
        return self.last(y + self.outer(self.inner(y).relu())).tanh()


def unet() -> nn.Module:
    return nets.build("unet256", ngf=4, downs=5, dropout=0.5)


KINDS: dict[str, tuple[Any, dict, dict, dict]] = {
    "mobile": (lambda: nets.build("mobile_resnet9", ngf=4, blocks=1), {}, {}, {}),
    "u-net": (unet, {"data": tiny.pairs(32)}, {"search": {"freeze_at": 0.5}, "taps": ("down.1", "up.2")}, {}),
    "incres": (lambda: nets.build("incres9", ngf=4, blocks=1), {}, {}, {}),
    "instance": (lambda: tiny.resnet(norm="instance", blocks=1), {}, {"search": {"width": 0.5}}, {}),
    "half precision": (
        lambda: tiny.resnet(blocks=1),
        {},
        {},
        {"precision": "bf16-mixed", "channels_last": True},
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", rest_exhaustive(KINDS, {"mobile", "u-net", "half precision"}.__contains__))
def test_other_networks_and_ways_to_train_take_a_few_steps(tmp_path, kind):
    make, options, changes, training = KINDS[kind]
    work = tiny.job(make, budget="macs=85%", max_steps=2, **options, **training)
    result = dmad(Run(tmp_path), work, tiny.settings(**changes))
    plan, channels = result.plans["G"], result.channels["G"]
    assert channels.cost(plan).macs <= work.budget.numbers()["macs"] and not plan.keep.all()
    assert all(len(tiny.logged(tmp_path, stage)) == 2 for stage in ("search", "distill"))
    assert shapes(extract(result.originals["G"], channels, plan)) == shapes(result.students["G"])
    with torch.no_grad():
        image = result.students["G"](tiny.first_batch(work)["input"])
    assert image.isfinite().all() and image.dtype == torch.float32


def test_what_no_mask_can_act_on_stays_whole_and_says_why(tmp_path):
    result = dmad(
        Run(tmp_path), tiny.job(Own, budget="macs=85%", max_steps=2), tiny.settings(taps=("second",))
    )
    groups = {group["name"]: group for group in result.plans["G"].to_json(result.channels["G"])["groups"]}
    assert groups["first"]["kept"] == 8
    assert groups["first"]["frozen"].startswith("a factor before a norm without a scale has no effect")
    assert "first" not in result.basis and "inner" in result.basis


@pytest.mark.exhaustive
def test_taught_by_its_teacher_alone_a_generator_learns_its_images_in_both_stages(tmp_path):
    work = tiny.job(task=tiny.image2image(), data=tiny.inputs(), max_steps=3, budget="macs=80%")
    result = dmad(Run(tmp_path), work, tiny.settings(taps=TAPS))
    batch = tiny.first_batch(work)["input"]
    with torch.no_grad():
        taught = work.teacher()["G"](batch)
        fake = tiny.cut_from_the_search(tmp_path, result)(batch)
    line = tiny.logged(tmp_path, "distill")[0]["losses"]
    assert line["G_recon"] == pytest.approx(10 * l1_loss(fake, taught).item(), rel=1e-5)
