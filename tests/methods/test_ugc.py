"""UGC as a whole: its roads on every task, ablations, and where its stages begin."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import Tensor

from ganshrink.data.passes import spread_inputs
from ganshrink.graph import trace
from ganshrink.methods.base import Job, Result
from ganshrink.methods.ugc import UgcConfig
from ganshrink.nets.extra_blocks import in_extra_block
from ganshrink.pruning import extract
from ganshrink.training.batch_norm import recalibrate
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

SEARCHED = {"supernet": 1, "search": 1, "finetune": 1}
FIXED = {"finetune": 1}


def own_images(**options: Any) -> Job:
    return few.job(task=tiny.image2image(), data=tiny.inputs(), unlabelled=None, **options)


def one_way(**options: Any) -> Job:
    return few.job(task=tiny.cyclegan(), unlabelled=None, **options)


ROADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pix2pix": (few.job, {}),
    "fixed": (few.job, {"nas": False}),
    "omgd": (few.job, {"nas": False, "finetune": few.LABELLED_ALONE, "lambda_cd": 1}),
    "supervised": (few.job, {"supernet": few.LABELLED_ALONE, "finetune": few.LABELLED_ALONE}),
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
        return Road(folder, work, config, few.go(folder, work, config))

    return walk


@pytest.fixture(params=rest_exhaustive(ROADS, "omgd".__eq__))
def road(request, walked) -> Road:
    return walked(request.param)


def test_the_road_ends_at_a_student_within_its_budget(road):
    assert few.begun(road.folder) == (SEARCHED if road.config.nas else FIXED)
    result, channels = road.result, road.result.channels["G"]
    student, plan = result.students["G"], result.plans["G"]
    assert channels.cost(plan).macs <= road.work.budget.numbers()["macs"] < channels.cost().macs
    assert trace(student, *road.work.example).cost().macs == channels.cost(plan).macs
    assert not any(module.training for module in student.modules())
    assert tiny.same(student.state_dict(), tiny.saved(road.folder, "finetune", "G"))
    assert all(parameter.isfinite().all() for parameter in student.parameters())
    found = result.files.get("G", {}).get("search.json")
    assert (found is not None) == (len(result.sections) == 1) == road.config.nas
    if found is not None:
        assert found["networks"].keys() == {"student", *teachers(road.config)}
        assert found["fitness"] == "agreement"
        assert found["networks"]["student"]["macs"] == channels.cost(plan).macs
        json.dumps([found, *(section.to_json() for section in result.sections["G"])])


def teachers(config: UgcConfig) -> tuple[str, ...]:
    """Without inserted blocks there is none that is deeper, and no second one that is the first again."""
    return ("wide", "deep") if config.extra_blocks else ("wide",)


TERMS = {"A_ssim", "A_tv", "U_ssim", "U_tv"}


def test_each_road_learns_what_its_settings_say(road):
    config = road.config
    student = TERMS if config.finetune.unlabelled else {"A_ssim", "A_tv"}
    student = student | ({"A_cd"} if config.finetune.lambda_cd else set())
    first, second, _ = road.logged("finetune")
    assert second.keys() == student < first.keys()  # teachers learn at every third step
    kinds = ("D_real", "D_fake", "G_gan", "G_recon")
    assert first.keys() - student == {f"{name}_{kind}" for name in teachers(config) for kind in kinds}
    if config.nas:
        subnets = {f"{name}_{term}" for name in ("random", "smallest") for term in ("ssim", "tv")}
        assert all(line.keys() == {*kinds, *subnets} for line in road.logged("supernet"))


@pytest.mark.exhaustive
def test_without_a_search_teachers_are_a_wider_student_and_one_with_all_blocks(walked):
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


@pytest.mark.exhaustive
def test_stage_one_is_the_sandwich_on_fresh_weights(walked, tmp_path):
    """Of the run's seed, whatever was drawn before: to the bit."""
    road = walked("pix2pix")
    before = few.go(tmp_path, replace(road.work, training=steps(road.work, 0)), road.config)
    fresh = tiny.loaded(before.originals["G"], tiny.saved(tmp_path, "supernet", "G"))
    weights = torch.cat([p.flatten() for n, p in fresh.named_parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.1)
    one = road.logged("supernet")[0]
    images = few.images_of(road.work, road.config)
    batch = few.batch_at(replace(road.work, data=images.labelled, unlabelled=images.unlabelled), 0)
    made = fresh.train()(batch["input"])
    assert one["G_recon"] == pytest.approx(100 * (made - batch["target"]).abs().mean().item(), rel=1e-4)


def steps(work: Job, count: int) -> Any:
    return work.training.model_copy(update={"max_steps": count})


def calibrated(road: Road, plan: Any, images: Any) -> Any:
    whole = tiny.loaded(road.result.originals["G"], tiny.saved(road.folder, "supernet", "G"))
    cut = extract(whole, road.result.channels["G"], plan)
    return recalibrate(cut, spread_inputs(images.unlabelled, road.config.finetune.calibration_images))


def test_stage_two_begins_with_the_supernet_s_weights_and_discriminator(walked):
    """Seen in the first step's losses."""
    road = walked("pix2pix")
    images = few.images_of(road.work, road.config)
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
