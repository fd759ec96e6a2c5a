"""UGC as a whole: its roads on every task, where stage 2 begins, ablations, and runs that were stopped."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from tiny_decig import Interrupting
from torch import Tensor

from ganshrink.graph import trace
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job, Result
from ganshrink.methods.ugc import ugc
from ganshrink.methods.ugc.config import UgcConfig
from ganshrink.methods.ugc.fitness import inputs_of
from ganshrink.methods.ugc.images import divided
from ganshrink.nets.extra_blocks import in_extra_block
from ganshrink.pruning import extract
from ganshrink.training.batch_norm import recalibrate
from ganshrink.training.stages import Run

SEARCHED = {"supernet": 1, "search": 1, "finetune": 1}
FIXED = {"finetune": 1}


def own_images(**options: Any) -> Job:
    return few.job(task=tiny.image2image(), data=tiny.inputs(), unlabelled=None, **options)


def one_way(**options: Any) -> Job:
    return few.job(task=tiny.cyclegan(), unlabelled=None, **options)


ROADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pix2pix": (few.job, {}),
    "fixed": (few.job, {"search": False}),
    "omgd": (few.job, {"search": False, "finetune_unlabelled": False, "lambda_cd": 1}),
    "supervised": (few.job, {"search_unlabelled": False, "finetune_unlabelled": False}),
    "printed": (few.job, {"filter": "printed", "filter_after": 0, "extra_blocks": 0, "shared_layers": 0}),
    "image2image": (own_images, {"filter": "none"}),
    "one way": (one_way, {}),
}


@dataclass(frozen=True)
class Road:
    """A finished run."""

    folder: Path
    work: Job
    config: UgcConfig
    result: Result

    def logged(self, stage: str) -> list[dict[str, float]]:
        return [line["losses"] for line in tiny.logged(self.folder, stage)]


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A run of each kind, when first asked for."""

    @functools.cache
    def walk(kind: str) -> Road:
        make, changes = ROADS[kind]
        folder, work, config = (
            tmp_path_factory.mktemp("road"),
            make(),
            few.settings(**{"population": 2} | changes),
        )
        torch.manual_seed(len(kind))
        return Road(folder, work, config, ugc(Run(folder), work, config))

    return walk


@pytest.fixture(params=ROADS)
def road(request, walked) -> Road:
    return walked(request.param)


def test_the_road_ends_at_a_student_within_its_budget(road):
    assert METHODS["ugc"] is ugc and not UgcConfig.both_ways
    assert few.begun(road.folder) == (SEARCHED if road.config.search else FIXED)
    result, channels = road.result, road.result.channels["G"]
    student, plan = result.students["G"], result.plans["G"]
    cost = channels.cost(plan)
    assert cost.macs <= road.work.budget.numbers()["macs"] < channels.cost().macs
    assert trace(student, *road.work.example).cost().macs == cost.macs
    built = extract(result.originals["G"], channels, plan).state_dict()
    assert {n: t.shape for n, t in student.state_dict().items()} == {n: t.shape for n, t in built.items()}
    assert not any(module.training for module in student.modules())
    assert tiny.same(student.state_dict(), tiny.saved(road.folder, "finetune", "G"))
    assert result.extra_blocks == road.config.extra_blocks
    assert (result.search is not None) == road.config.search
    for name, parameter in student.named_parameters():
        assert parameter.isfinite().all(), name


def test_a_second_call_finds_it_done_and_gives_the_same(road):
    torch.manual_seed(99)
    again = ugc(Run(road.folder), road.work, road.config)
    assert again.plans == road.result.plans and again.search == road.result.search
    assert tiny.same(again.students["G"].state_dict(), road.result.students["G"].state_dict())
    assert few.begun(road.folder) == (SEARCHED if road.config.search else FIXED)


TERMS = {"A_ssim", "A_tv", "U_ssim", "U_tv"}


def test_each_road_learns_what_its_settings_say(road):
    config = road.config
    student = TERMS if config.finetune_unlabelled else {"A_ssim", "A_tv"}
    student = student | ({"A_cd"} if config.lambda_cd else set())
    first, second, _ = road.logged("finetune")
    assert second.keys() == student < first.keys()  # teachers learn at every third step
    kinds = ("D_real", "D_fake", "G_gan", "G_recon")
    assert first.keys() - student == {f"{name}_{kind}" for name in ("wide", "deep") for kind in kinds}
    if config.search:
        subnets = {f"{name}_{term}" for name in ("random", "smallest") for term in ("ssim", "tv")}
        assert all(line.keys() == {*kinds, *subnets} for line in road.logged("supernet"))


def test_without_a_search_teachers_are_the_original_and_the_student_with_all_blocks(walked):
    """The student has the same share of every layer and none of the blocks."""
    road = walked("fixed")
    channels, plan = road.result.channels["G"], road.result.plans["G"]
    shares = {}
    for group in channels.groups:
        kept = int(plan.keep[group.atoms].sum())
        if in_extra_block(group.name):
            assert kept == 0
        elif group.frozen is None:
            shares[group.name] = kept / len(group)
    assert max(shares.values()) - min(shares.values()) < 0.25
    student, wide, deep = (tiny.saved(road.folder, "finetune", name) for name in ("G", "wide", "deep"))
    original = road.work.build().state_dict()
    assert {name: t.shape for name, t in wide.items()} == {name: t.shape for name, t in original.items()}
    blocks = {name for name in deep if in_extra_block(name)}
    assert {name: t.shape for name, t in deep.items() if name not in blocks} == {
        name: t.shape for name, t in student.items()
    }
    inside = [name for name in blocks if name.endswith("body.1.weight")]
    assert len(inside) == 2 and all(len(deep[name]) == 8 for name in inside)  # as wide as they are


# Where the stages begin


def test_stage_one_is_the_sandwich_on_fresh_weights(walked, tmp_path):
    """Of the run's seed, whatever was drawn before: to the bit."""
    road = walked("pix2pix")
    before = ugc(Run(tmp_path), replace(road.work, training=steps(road.work, 0)), road.config)
    fresh = tiny.loaded(before.originals["G"], tiny.saved(tmp_path, "supernet", "G"))
    weights = torch.cat([p.flatten() for n, p in fresh.named_parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.1)
    one = road.logged("supernet")[0]
    images = divided(road.work, road.config)
    batch = few.batch_at(replace(road.work, data=images.labelled, unlabelled=images.unlabelled), 0)
    made = fresh.train()(batch["input"])
    assert one["G_recon"] == pytest.approx(100 * (made - batch["target"]).abs().mean().item(), rel=1e-4)


def steps(work: Job, count: int) -> Any:
    return work.training.model_copy(update={"max_steps": count})


def calibrated(road: Road, plan: Any, images: Any) -> Any:
    whole = tiny.loaded(road.result.originals["G"], tiny.saved(road.folder, "supernet", "G"))
    cut = extract(whole, road.result.channels["G"], plan)
    return recalibrate(cut, inputs_of(images.unlabelled, road.config.calibration_images))


def test_stage_two_begins_with_the_supernet_s_weights_and_discriminator(walked):
    """Seen in the first step's losses."""
    road = walked("pix2pix")
    images = divided(road.work, road.config)
    batch = few.batch_at(replace(road.work, data=images.labelled, unlabelled=images.unlabelled), 0)
    found = {"G": road.result.plans["G"]} | few.plans(road.folder, road.result.channels["G"])
    nets = {name: calibrated(road, plan, images).train() for name, plan in found.items()}
    judge = tiny.loaded(
        road.work.task.nets(road.work.build(), 3, 3)["D"], tiny.saved(road.folder, "supernet", "D")
    )
    line, x = road.logged("finetune")[0], batch["input"]
    with torch.no_grad():
        made = {name: net(x) for name, net in nets.items()}
        for name in ("wide", "deep"):
            scores = judge(torch.cat([x, made[name]], 1))
            assert line[f"{name}_D_fake"] == pytest.approx(0.5 * (1 + scores).relu().mean().item(), rel=1e-4)
            distance = (made[name] - batch["target"]).abs().mean()
            assert line[f"{name}_G_recon"] == pytest.approx(100 * distance.item(), rel=1e-4)
        expected: Tensor = sum(few.l_od(made["G"], made[name]).mean() for name in ("wide", "deep"))
    assert line["A_ssim"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["pix2pix", "omgd"])
def test_the_same_settings_make_the_same_student_whatever_was_drawn_before(walked, tmp_path, kind):
    road = walked(kind)
    torch.manual_seed(1234)
    again = ugc(Run(tmp_path), ROADS[kind][0](), road.config)
    assert tiny.same(again.students["G"].state_dict(), road.result.students["G"].state_dict())


# Stopped and taken up again


@pytest.mark.parametrize(("kind", "stages"), [("pix2pix", ("supernet", "finetune")), ("omgd", ("finetune",))])
def test_a_run_stopped_in_any_stage_goes_on_to_the_bit(walked, tmp_path, kind, stages):
    """Killed after two of three steps."""
    road = walked(kind)
    for stage in stages:
        data = Interrupting(tmp_path / "stages" / stage)
        with pytest.raises(OSError, match="the disk is gone"):
            ugc(Run(tmp_path), few.job(data=data, checkpoint_steps=2), road.config)
        assert not (tmp_path / "stages" / stage / "done.json").exists()
        left = torch.load(tmp_path / f"stages/{stage}/checkpoint.pt", weights_only=False)
        assert left["step"] == 2
    if kind == "pix2pix":
        assert left["state"]["filter"]["updates"] == {"wide": 2, "deep": 2}
    torch.manual_seed(1)
    resumed = ugc(Run(tmp_path), few.job(data=Interrupting()), road.config)
    assert resumed.plans == road.result.plans and resumed.search == road.result.search
    for stage in stages:
        assert [line["losses"] for line in tiny.logged(tmp_path, stage)] == road.logged(stage)
        for path in (road.folder / "stages" / stage).glob("*.safetensors"):
            ours, theirs = (tiny.saved(folder, stage, path.stem) for folder in (tmp_path, road.folder))
            assert tiny.same(ours, theirs), path.stem
