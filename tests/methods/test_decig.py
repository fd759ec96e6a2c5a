"""DECIG as a whole: its roads on every task, what Stage I adds to a training, what Stage II is taught, and hinges."""

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

from ganshrink.data import Batches
from ganshrink.graph import trace
from ganshrink.losses import discriminator_loss
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job, Result
from ganshrink.methods.decig import DecigConfig, decig
from ganshrink.methods.decig.condensing import layer_factors, magnitudes, penalty
from ganshrink.methods.decig.cutting import cut_at_hinges
from ganshrink.pruning import Channels, Plan, extract
from ganshrink.training.stages import Run, Stage
from ganshrink.training.train import fit_nets

STAGES = ("condense", "finetune")


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def widths(plan: Plan, channels: Channels) -> dict[str, int]:
    return {g.name: int(plan.keep[g.atoms].sum()) for g in channels.groups if g.frozen is None}


def alpha(folder: Path) -> float:
    return json.loads((folder / "stages/condense/alpha.json").read_text())["value"]


def l_penal(network: nn.Module, channels: Channels, config: DecigConfig) -> Tensor:
    options = {"shape": config.shape, "importance": config.importance}
    return penalty(network, channels, factors=layer_factors(channels), **options)


def batch_at(work: Job, step: int) -> dict[str, Tensor]:
    return Batches(work.data, batch_size=work.training.batch_size, seed=work.training.seed).at(step)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A run of each kind, when first asked for."""

    @functools.cache
    def walk(kind: str) -> Road:
        make, changes = roads.ROADS[kind]
        folder, work, config = tmp_path_factory.mktemp("road"), make(), DecigConfig(**changes)
        before = {
            f"{name} {net}": copy.deepcopy(network.state_dict())
            for name, one in work.by_generator().items()
            for net, network in one.teacher().items()
        }
        for network in work.teacher().values():
            network.train()  # as a careless caller would hand them over
        return Road(folder, work, config, decig(Run(folder), work, config), before)

    return walk


@pytest.fixture(params=roads.ROADS)
def road(request, walked) -> Road:
    return walked(request.param)


# The whole road


def test_the_road_ends_at_students_within_their_budgets(road):
    assert METHODS["decig"] is decig and DecigConfig.both_ways
    assert roads.begun(road.folder) == {"condense": 1, "hinges": 1, "finetune": 1}
    result, jobs = road.result, road.work.by_generator()
    assert set(result.students) == set(result.plans) == set(road.names.values())
    for name, of in road.names.items():
        channels, plan, student = result.channels[of], result.plans[of], result.students[of]
        cost = channels.cost(plan)
        assert cost.macs <= jobs[name].budget.numbers()["macs"] < channels.cost().macs
        assert trace(student, *road.work.example).cost().macs == cost.macs
        assert shapes(extract(result.originals[of], channels, plan)) == shapes(student)
        assert not any(module.training for module in student.modules())
        assert tiny.same(student.state_dict(), tiny.saved(road.folder, "finetune", name))
        assert set(result.basis) == set(widths(plan, channels))
        layers = result.for_direction(of).hinges["G"]["layers"]
        assert {layer["name"]: layer["kept"] for layer in layers} == widths(plan, channels)
    assert set(result.basis.values()) == {f"L1 ({road.config.importance})"}


def test_each_way_has_its_own_budget_and_a_way_alone_leaves_the_other_whole(walked):
    road = walked("both ways")
    there, back = (road.result.channels[n].cost(road.result.plans[n]).macs for n in ("G_A", "G_B"))
    assert back <= road.work.back.budget.numbers()["macs"] < there
    road = walked("one way")
    whole = shapes(road.work.build())
    saved = [tiny.saved(road.folder, stage, "G_B") for stage in STAGES]
    assert all({name: tensor.shape for name, tensor in state.items()} == whole for state in saved)
    assert not tiny.same(*saved)  # trained along
    assert shapes(road.result.students["G"]) != whole


def test_the_teacher_is_left_as_it_was_and_is_the_original(road):
    jobs, image = road.work.by_generator(), tiny.first_batch(road.work)["input"]
    for name, of in road.names.items():
        teachers = jobs[name].teacher()
        for net, network in teachers.items():
            assert tiny.same(network.state_dict(), road.before[f"{name} {net}"])
            assert all(parameter.grad is None for parameter in network.parameters())
        with torch.no_grad():
            wanted = copy.deepcopy(teachers["G"]).eval()(image)
            torch.testing.assert_close(copy.deepcopy(road.result.originals[of]).eval()(image), wanted)


def test_a_finished_run_gives_the_same_students(road):
    again = decig(Run(road.folder), road.work, road.config)
    for name, student in road.result.students.items():
        assert again.plans[name] == road.result.plans[name]
        assert tiny.same(again.students[name].state_dict(), student.state_dict())
    assert roads.begun(road.folder) == {"condense": 1, "hinges": 1, "finetune": 1}


# Stage I


def test_alpha_makes_the_penalty_at_the_first_step_a_tenth_of_the_weighted_l1_terms(road, tmp_path):
    """Of all generators together; both from the fresh weights that the stage begins with, and as it was logged."""
    work, config = road.work, road.config
    fresh = roads.first_stage(Run(tmp_path), roads.steps(work, 0), config)
    channels = next(iter(road.result.channels.values()))
    penalties = {name: l_penal(fresh[name], channels, config).item() for name in road.names}
    start = json.loads((road.folder / "stages/condense/start.json").read_text())
    for name in road.names:  # what dead layers are told by
        sizes = magnitudes(fresh[name], channels, importance=config.importance)
        assert start[name] == pytest.approx({key: size.max().item() for key, size in sizes.items()})
    for network in fresh.values():
        network.train()
    l1 = roads.l1_by_hand(work, fresh, tiny.first_batch(work))
    assert alpha(road.folder) * sum(penalties.values()) == pytest.approx(config.ratio * l1, rel=1e-5)

    first, *later = [line["losses"] for line in tiny.logged(road.folder, "condense")]
    logged = {name: first[f"{name}_penal"] for name in road.names}
    assert logged == pytest.approx({n: alpha(road.folder) * p for n, p in penalties.items()}, rel=1e-5)
    assert sum(first[name] for name in work.task.l1_terms) == pytest.approx(l1, rel=1e-5)
    # and is not found anew
    for line in later:
        ratio = sum(line[f"{name}_penal"] for name in road.names) / sum(line[n] for n in work.task.l1_terms)
        assert ratio != pytest.approx(config.ratio, rel=1e-4)
    assert not any(name.endswith("_penal") for name in tiny.logged(road.folder, "finetune")[0]["losses"])


@pytest.mark.parametrize("changes", [{}, {"shape": "uniform", "importance": "own_plus_consumer"}], ids=str)
def test_stage_one_is_the_task_s_training_with_the_penalty_among_the_generator_s_losses(tmp_path, changes):
    """To the bit; and without the penalty the generator is another."""
    work, config = roads.short(), DecigConfig(**changes)
    condensed = roads.first_stage(Run(tmp_path / "run"), work, config)
    fresh = roads.first_stage(Run(tmp_path / "fresh"), roads.steps(work, 0), config)
    channels, ends = roads.structure(work), {}
    for penalised in (True, False):
        nets = copy.deepcopy(fresh)

        def pulled(context: Any, network: nn.Module = nets["G"]) -> dict[str, Tensor]:
            return {"G_penal": alpha(tmp_path / "run") * l_penal(network, channels, config)}

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
    of = road.names[name]
    network = tiny.loaded(road.work.build(), tiny.saved(road.folder, "condense", name)).eval()
    return network, extract(network, road.result.channels[of], road.result.plans[of])


def kd(student: nn.Module, teacher: nn.Module, image: Tensor) -> float:
    with torch.no_grad():
        return 50 * l1_loss(student.train()(image), teacher.eval()(image)).item()


def shown(name: str) -> str:
    return "target" if name == "G_B" else "input"


def test_the_student_begins_as_what_is_left_of_the_network_that_teaches_it(road):
    """Its weights and its discriminator's, seen in the first step's losses."""
    batch, line = tiny.first_batch(road.work), tiny.logged(road.folder, "finetune")[0]["losses"]
    students = {}
    for name in road.names:
        teacher, students[name] = cut(road, name)
        assert line[f"{name}_kd"] == pytest.approx(kd(students[name], teacher, batch[shown(name)]), rel=1e-5)
        assert line[f"{name}_kd"] > 0.01
    if "G_A" in students:
        rest = tiny.loaded(road.work.build(), tiny.saved(road.folder, "condense", "G_B"))
        students = {"G_B": rest, **students}
    l1 = roads.l1_by_hand(road.work, students, batch)
    assert sum(line[name] for name in road.work.task.l1_terms) == pytest.approx(l1, rel=1e-5)


def test_the_discriminator_goes_on_from_stage_one(walked):
    road = walked("pix2pix")
    batch, line = tiny.first_batch(road.work), tiny.logged(road.folder, "finetune")[0]["losses"]
    judge = tiny.loaded(road.work.teacher()["D"], tiny.saved(road.folder, "condense", "D"))
    images = (batch["target"], cut(road, "G")[1].train()(batch["input"]))
    real, made = discriminator_loss(
        *(judge(torch.cat([batch["input"], image], 1)) for image in images), mode="hinge"
    )
    assert (line["D_real"], line["D_fake"]) == pytest.approx((real.item(), made.item()), rel=1e-5)


def test_without_the_weight_there_is_no_lesson(tmp_path):
    decig(Run(tmp_path), roads.short(max_steps=1), DecigConfig(lambda_kd=0))
    assert tiny.logged(tmp_path, "finetune")[0]["losses"].keys() == {"D_real", "D_fake", "G_gan", "G_recon"}


# Stopped and taken up again


@pytest.fixture(scope="module", params=["pix2pix", "both ways"])
def stopped(request, walked, tmp_path_factory) -> tuple[Road, Path, Result, dict[str, dict[str, Any]]]:
    """A run, the same one killed in both stages after two of three steps, and its checkpoints at the kills."""
    road, folder, left = walked(request.param), tmp_path_factory.mktemp("stopped"), {}
    make, _ = roads.ROADS[request.param]
    for stage in STAGES:
        data = roads.Interrupting(folder / "stages" / stage)
        with pytest.raises(OSError, match="the disk is gone"):
            decig(Run(folder), make(data=data, checkpoint_steps=2), road.config)
        assert not (folder / "stages" / stage / "done.json").exists()
        left[stage] = torch.load(folder / f"stages/{stage}/checkpoint.pt", weights_only=False)
        assert left[stage]["step"] == 2
    torch.manual_seed(1)
    return road, folder, decig(Run(folder), make(data=roads.Interrupting()), road.config), left


def test_a_run_stopped_in_either_stage_goes_on_to_the_bit(stopped):
    road, folder, resumed, left = stopped
    assert resumed.plans == road.result.plans
    assert left["condense"]["state"]["alpha"] == {"value": alpha(road.folder)} == {"value": alpha(folder)}
    for stage in STAGES:
        logs = [[line["losses"] for line in tiny.logged(f, stage)] for f in (folder, road.folder)]
        assert logs[0] == logs[1] and len(logs[0]) == 3
        names = {path.stem for path in (folder / "stages" / stage).glob("*.safetensors")}
        assert len(names) == 2 * len(road.names)
        for name in names:
            assert tiny.same(tiny.saved(folder, stage, name), tiny.saved(road.folder, stage, name))


def test_neither_alpha_nor_the_student_s_teacher_moves(stopped):
    """The third step's penalty and distance, from the networks as the second one left them."""
    road, _, _, left = stopped
    batch = batch_at(road.work, 2)
    for name in road.names:
        before = tiny.loaded(road.work.build(), left["condense"]["nets"][name])
        wanted = (
            alpha(road.folder) * l_penal(before, road.result.channels[road.names[name]], road.config).item()
        )
        line = tiny.logged(road.folder, "condense")[2]["losses"]
        assert line[f"{name}_penal"] == pytest.approx(wanted, rel=1e-5)
        teacher, student = cut(road, name)
        student = tiny.loaded(student, left["finetune"]["nets"][name])
        line = tiny.logged(road.folder, "finetune")[2]["losses"]
        assert line[f"{name}_kd"] == pytest.approx(kd(student, teacher, batch[shown(name)]), rel=1e-5)


# Hinges


def planned(network: nn.Module, budget: str = "macs=100%", **changes: Any) -> tuple[Plan, Channels]:
    work, config = roads.short(roads.plain, budget=budget), DecigConfig(**changes)
    channels = roads.structure(work)
    sizes = {k: v.detach() for k, v in magnitudes(network, channels, importance=config.importance).items()}
    return cut_at_hinges(network, channels, sizes, config, work, start={})[0], channels


@pytest.mark.parametrize("importance", ["own", "own_plus_consumer"])
def test_what_a_network_does_not_need_is_found_and_cut_without_a_difference(caplog, importance):
    network, alive = roads.condensed_by_hand(importance)
    plan, channels = planned(network, importance=importance)
    assert torch.equal(plan.keep, alive)
    assert "no hinge" not in caplog.text
    image = torch.rand(2, 3, 24, 16) * 2 - 1
    with torch.no_grad():
        whole, small = network(image), extract(network, channels, plan)(image)
    assert whole.std() > 0.1
    torch.testing.assert_close(small, whole, atol=1e-4, rtol=0)


def test_what_is_still_read_is_not_cut_where_readers_count():
    """A norm after such a layer would undo how small its weights are. The last layer, which three channels read, is cut."""
    network, _ = roads.condensed_by_hand("own")
    plan, channels = planned(network, importance="own_plus_consumer")
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
    plan, channels = planned(roads.plain(), "macs=50%")
    assert "G: 4 of 4 layers have no hinge" in caplog.text and "(0, 2, 3.body.0, ...)" in caplog.text
    assert 0.45 * channels.cost().macs < channels.cost(plan).macs <= 0.5 * channels.cost().macs


def test_hinges_by_hand_are_kept(tmp_path, caplog):
    work = roads.short(roads.plain, budget="macs=30%", max_steps=1)
    result = decig(Run(tmp_path), work, DecigConfig(hinges={"0": 15, "4": 2}))
    kept = widths(result.plans["G"], result.channels["G"])
    assert (kept["0"], kept["4"]) == (15, 2) and kept["2"] < 20
    assert result.students["G"].get_submodule("0").out_channels == 15
    assert "G: 2 of 4 layers have no hinge" in caplog.text
