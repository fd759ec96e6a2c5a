"""DECIG's trainings: what Stage I adds to the task's own, what Stage II is taught; and what of a network is cut."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_decig as roads
import tiny_dmad as tiny
import torch
from tiny_decig import Road
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.losses import discriminator_loss
from ganshrink.methods.base import Job
from ganshrink.methods.decig import DecigConfig, decig
from ganshrink.methods.decig.decig import calibrated, cut_at_hinges, layer_factors, penalty
from ganshrink.pruning import Channels, Plan, extract
from ganshrink.training.stages import Run, Stage
from ganshrink.training.train import fit_nets
from telling import rest_exhaustive


def widths(plan: Plan, channels: Channels) -> dict[str, int]:
    return {g.name: int(plan.keep[g.atoms].sum()) for g in channels.groups if g.frozen is None}


def alpha(folder: Path) -> float:
    return json.loads((folder / "stages/condense/alpha.json").read_text())["value"]


def teachers(work: Job) -> list[nn.Module]:
    return [network for one in work.by_generator().values() for network in one.teacher().values()]


def l_penal(network: nn.Module, channels: Channels, config: DecigConfig) -> Tensor:
    options: Any = {"shape": config.condense.shape, "importance": config.condense.importance}
    return penalty(network, channels, factors=layer_factors(channels), **options)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A run of each kind, when first asked for."""

    @functools.cache
    def walk(kind: str) -> Road:
        make, changes = roads.ROADS[kind]
        folder, work, config = tmp_path_factory.mktemp("road"), make(), roads.config(**changes)
        before = [copy.deepcopy(network.state_dict()) for network in teachers(work)]
        for network in work.teacher().values():
            network.train()  # as a careless caller would hand them over
        return Road(folder, work, config, decig(Run(folder), work, config), before)

    return walk


@pytest.fixture(params=rest_exhaustive(roads.ROADS, {"pix2pix", "both ways"}.__contains__))
def road(request, walked) -> Road:
    return walked(request.param)


@pytest.mark.slow
def test_hinges_json_says_what_was_kept(road):
    importance = road.config.condense.importance
    assert set(road.result.basis.values()) == {f"L1 ({importance})"}
    for name in road.names:
        layers = road.result.files[name]["hinges.json"]["layers"]
        kept = widths(road.result.plans[name], road.result.channels[name])
        assert {layer["name"]: layer["kept"] for layer in layers} == kept
        [section] = road.result.sections[name]
        assert section.title == "Hinges"


def test_the_teachers_are_left_as_they_were(road):
    for network, before in zip(teachers(road.work), road.before, strict=True):
        assert tiny.same(network.state_dict(), before)
        assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.exhaustive
def test_a_way_alone_leaves_the_other_whole(walked):
    road = walked("one way")
    whole = {name: tensor.shape for name, tensor in road.work.build().state_dict().items()}
    saved = [tiny.saved(road.folder, stage, "G_B") for stage in ("condense", "finetune")]
    assert all({name: tensor.shape for name, tensor in state.items()} == whole for state in saved)
    assert not tiny.same(*saved)  # trained along


# Stage I


@pytest.mark.parametrize("ratio", [0.1, 0.01])
def test_alpha_makes_the_first_ratio_what_was_asked(ratio):
    penals = {"G_A": torch.tensor(81234.5, requires_grad=True), "G_B": torch.tensor(1.0)}
    terms = {"cycle_A": torch.tensor(30.0), "idt_B": torch.tensor(7.25), "G_A_gan": torch.tensor(5.0)}
    assert calibrated(penals, terms, ratio) * 81235.5 / 37.25 == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("wrong", [0.0, torch.nan, torch.inf])
def test_alpha_needs_losses_above_0(wrong):
    one, other = torch.tensor(wrong), torch.tensor(1.0)
    with pytest.raises(ValueError, match="L_PENAL is .* at the first step"):
        calibrated({"G": one}, {"G_recon": other}, 0.1)
    with pytest.raises(ValueError, match="L_l1 is .* at the first step"):
        calibrated({"G": other}, {"G_recon": one}, 0.1)


def test_alpha_is_found_at_the_first_step_and_kept(road, tmp_path):
    """Of all generators together; both from the fresh weights that the stage begins with, and as it was logged."""
    work, config, ratio = road.work, road.config, road.config.condense.ratio
    task = work.task.as_student_task(work.teacher()["G"]) if work.task.needs_teacher else work.task
    fresh = roads.condensed(Run(tmp_path), roads.steps(roads.replace(work, task=task), 0), config)
    channels = work.channels
    penalties = {name: l_penal(fresh[name], channels, config).item() for name in road.names}
    for network in fresh.values():
        network.train()
    l1 = roads.l1_by_hand(work, fresh, tiny.first_batch(work))
    assert alpha(road.folder) * sum(penalties.values()) == pytest.approx(ratio * l1, rel=1e-5)

    first, *later = [line["losses"] for line in tiny.logged(road.folder, "condense")]
    logged = {name: first[f"{name}_penal"] for name in road.names}
    assert logged == pytest.approx({n: alpha(road.folder) * p for n, p in penalties.items()}, rel=1e-5)
    assert sum(first[name] for name in first.keys() & roads.L1_TERMS) == pytest.approx(l1, rel=1e-5)
    assert len(later) == 2  # and is not found anew
    for line in later:
        l1 = sum(line[name] for name in line.keys() & roads.L1_TERMS)
        assert sum(line[f"{name}_penal"] for name in road.names) / l1 != pytest.approx(ratio, rel=1e-4)
    assert not any(name.endswith("_penal") for name in tiny.logged(road.folder, "finetune")[0]["losses"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    rest_exhaustive([{}, {"shape": "uniform", "importance": "own_plus_consumer"}], lambda changes: changes),
    ids=str,
)
def test_stage_one_is_the_task_s_training_with_the_penalty_among_the_generator_s_losses(tmp_path, changes):
    """To the bit; and without the penalty the generator is another."""
    work, config = roads.short(), roads.config(**changes)
    condensed = roads.condensed(Run(tmp_path / "run"), work, config)
    fresh = roads.condensed(Run(tmp_path / "fresh"), roads.steps(work, 0), config)
    ends = {}
    for penalised in (True, False):
        nets = copy.deepcopy(fresh)

        def pulled(context: Any, network: nn.Module = nets["G"]) -> dict[str, Tensor]:
            return {"G_penal": alpha(tmp_path / "run") * l_penal(network, work.channels, config)}

        stage = Stage(tmp_path / str(penalised), "key")
        terms = [pulled] if penalised else []
        fit_nets(stage, nets, work.task, work.data, work.training, terms=terms, progress=False)
        ends[penalised] = nets
    for name, network in condensed.items():
        assert tiny.same(network.state_dict(), ends[True][name].state_dict())
    assert not tiny.same(condensed["G"].state_dict(), ends[False]["G"].state_dict())


# Stage II


def cut(road: Road, name: str) -> tuple[nn.Module, nn.Module]:
    """The network of Stage I, and what the plan leaves of it."""
    network = tiny.loaded(road.work.build(), tiny.saved(road.folder, "condense", name)).eval()
    return network, extract(network, road.result.channels[name], road.result.plans[name])


def test_the_student_begins_as_what_is_left_of_the_network_that_teaches_it(road):
    """Its weights and its discriminator's, seen in the first step's losses."""
    batch, line = tiny.first_batch(road.work), tiny.logged(road.folder, "finetune")[0]["losses"]
    students = {}
    for name in road.names:
        teacher, students[name] = cut(road, name)
        image = batch["target" if name == "G_B" else "input"]
        with torch.no_grad():
            distance = 50 * l1_loss(students[name].train()(image), teacher(image)).item()
        assert line[f"{name}_kd"] == pytest.approx(distance, rel=1e-5) and distance > 0.01
    if "G_A" in students:
        rest = tiny.loaded(road.work.build(), tiny.saved(road.folder, "condense", "G_B"))
        students = {"G_B": rest, **students}
    l1 = roads.l1_by_hand(road.work, students, batch)
    assert sum(line[name] for name in line.keys() & roads.L1_TERMS) == pytest.approx(l1, rel=1e-5)


def test_the_discriminator_goes_on_from_stage_one(walked):
    road = walked("pix2pix")
    batch, line = tiny.first_batch(road.work), tiny.logged(road.folder, "finetune")[0]["losses"]
    judge = tiny.loaded(road.work.teacher()["D"], tiny.saved(road.folder, "condense", "D"))
    images = (batch["target"], cut(road, "G")[1].train()(batch["input"]))
    real, made = discriminator_loss(
        *(judge(torch.cat([batch["input"], image], 1)) for image in images), mode="hinge"
    )
    assert (line["D_real"], line["D_fake"]) == pytest.approx((real.item(), made.item()), rel=1e-5)


@pytest.mark.exhaustive
def test_without_the_weight_there_is_no_lesson(tmp_path):
    decig(Run(tmp_path), roads.short(max_steps=1), roads.config(lambda_kd=0))
    assert tiny.logged(tmp_path, "finetune")[0]["losses"].keys() == {"D_real", "D_fake", "G_gan", "G_recon"}


# What is cut


def planned(network: nn.Module, budget: str = "macs=100%", **changes: Any) -> tuple[Plan, Channels]:
    work = roads.short(roads.plain, budget=budget)
    found = cut_at_hinges(network, work, roads.config(**changes))
    return Plan.from_json(work.channels, found["plan"]), work.channels


@pytest.mark.slow
@pytest.mark.parametrize("importance", ["own", "own_plus_consumer"])
def test_what_a_network_does_not_need_is_found_and_cut_without_a_difference(caplog, importance):
    network, alive = roads.condensed_by_hand(importance)
    plan, channels = planned(network, importance=importance)
    assert torch.equal(plan.keep, alive)
    image = torch.rand(2, 3, 24, 16) * 2 - 1
    with torch.no_grad():
        whole, small = network(image), extract(network, channels, plan)(image)
    assert whole.std() > 0.1
    torch.testing.assert_close(small, whole, atol=1e-4, rtol=0)


def test_what_is_still_read_is_not_cut_where_readers_count():
    """A norm after such a layer would undo how small its weights are. The last layer, which three channels read, is cut."""
    network, _ = roads.condensed_by_hand("own")
    plan, channels = planned(network, importance="own_plus_consumer", sensitivity=0)
    assert widths(plan, channels) == {"0": 16, "2": 20, "3.body.0": 24, "4": 6}


def test_a_budget_cuts_deeper_and_a_bigger_one_is_not_filled_up():
    network, alive = roads.condensed_by_hand("own_plus_consumer")
    for budget, same in (("macs=60%", True), ("macs=10%", False)):
        plan, channels = planned(network, budget)
        assert torch.equal(plan.keep, alive) == same and not (plan.keep & ~alive).any()
        assert channels.cost(plan).macs <= channels.cost().macs * float(budget[5:-1]) / 100


def test_widths_keep_to_the_floor_and_the_step():
    network, _ = roads.condensed_by_hand("own_plus_consumer")
    plan, channels = planned(network, floor=9, round_to=4)
    assert widths(plan, channels) == {"0": 12, "2": 12, "3.body.0": 12, "4": 12}


def test_a_network_without_hinges_is_cut_by_the_budget_alone_and_says_so(caplog):
    torch.manual_seed(0)
    with caplog.at_level("INFO"):
        plan, channels = planned(roads.plain(), "macs=50%")
    assert (
        "G: 0 of 4 layers have a hinge; 4 without one are cut by the budget alone (0, 2, 3.body"
        in caplog.text
    )
    assert 0.45 * channels.cost().macs < channels.cost(plan).macs <= 0.5 * channels.cost().macs


def test_hinges_by_hand_are_kept(tmp_path, caplog):
    work = roads.short(roads.plain, budget="macs=30%", max_steps=1)
    with caplog.at_level("INFO"):
        result = decig(Run(tmp_path), work, roads.config(hinges={"0": 15, "4": 2}, sensitivity=0))
    kept = widths(result.plans["G"], result.channels["G"])
    assert (kept["0"], kept["4"]) == (15, 2) and kept["2"] < 20
    assert result.students["G"].get_submodule("0").out_channels == 15
    assert "G: 2 of 4 layers have a hinge; 2 without one" in caplog.text and "2 set by hand" in caplog.text
