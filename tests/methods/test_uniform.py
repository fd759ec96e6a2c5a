"""The uniform baseline: one share for every layer, under the budget, taught or not."""

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.data import TensorPairs
from ganshrink.data.passes import spread_inputs
from ganshrink.graph import trace
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job
from ganshrink.methods.original import Original
from ganshrink.methods.uniform import UniformConfig, uniform
from ganshrink.pruning import Budget, Channels, Plan, extract, reconstruct
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.scores import evenly
from ganshrink.training.stages import Run
from ganshrink.training.tasks import Image2Image, Image2ImageConfig, Pix2Pix, Pix2PixConfig, Task
from ganshrink.training.train import StudentTraining

SIZE = 16


def resnet(ngf: int = 8) -> nn.Module:
    torch.manual_seed(1)
    return nets.build("resnet9", ngf=ngf, blocks=1)


@pytest.fixture(scope="module")
def channels() -> Channels:
    return trace(resnet(32), torch.zeros(1, 3, SIZE, SIZE))


@cache
def original() -> Original:
    """Traced once for all jobs."""
    return Original(resnet, (torch.zeros(1, 3, SIZE, SIZE),), {})


def job(
    *, task: Task | None = None, teacher: nn.Module | None = None, budget: str = "macs=40%", **options: Any
) -> Job:
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(3, SIZE, SIZE, generator=draw) * 2 - 1,) * 2 for _ in range(4)]
    task = task or Pix2Pix(Pix2PixConfig(ndf=4, d_layers=1))
    trained = task.nets(teacher or resnet(), 3, 3)
    training = StudentTraining(**{"max_steps": 1, "batch_size": 2, "accelerator": "cpu", **options})
    return Job(
        original=original(),
        teacher=lambda: trained,
        task=task,
        data=TensorPairs(pairs),
        budget=Budget.parse(budget).resolve(original().channels),
        training=training,
        progress=False,
    )


def kept(channels: Channels, plan: Plan) -> dict[str, tuple[int, int]]:
    """Of every group that may be cut, how many channels stay, of how many."""
    free = (group for group in channels.groups if group.frozen is None)
    return {group.name: (int(plan.keep[group.atoms].sum()), len(group.atoms)) for group in free}


@pytest.mark.slow
@pytest.mark.parametrize("percent", [70, 40, 15, 5])
def test_every_group_keeps_the_largest_share_that_fits_and_the_top_up_is_small(channels, percent):
    budget = channels.cost().macs * percent / 100
    plan = bisect_threshold(channels, evenly(channels), Budget.parse(f"macs={percent}%"))
    assert channels.cost(plan).macs <= budget

    def cut(share: float) -> Plan:
        """Every group at a share of its width, rounded up."""
        keep = torch.ones(channels.num_atoms, dtype=torch.bool)
        for group in channels.groups:
            if group.frozen is None:
                keep[group.atoms[math.ceil(share * len(group.atoms)) :]] = False
        return Plan(keep)

    shares = [step / 128 for step in range(1, 129)]  # the widest group has 128 channels, others divide them
    largest = max(share for share in shares if channels.cost(cut(share)).macs <= budget)
    uncut = kept(channels, cut(largest))
    for name, (width, whole) in kept(channels, plan).items():
        assert uncut[name][0] <= width <= uncut[name][0] + 1 + whole / 32


def test_one_threshold_is_one_share(channels):
    scores = evenly(channels)
    for share in (
        0.11,
        0.26,
        0.55,
        0.9,
    ):  # no place of any group is as near to one of these as rounding errors
        for group in channels.groups:
            assert int((scores[group.atoms] > 1 - share).sum()) == math.ceil(share * len(group.atoms))


@pytest.mark.slow
@pytest.mark.parametrize(("floor", "step"), [(6, 1), (1, 4)])
def test_floor_and_rounding_hold(tmp_path, floor, step):
    config = UniformConfig(teaching="scratch", floor=floor, round_to=step)
    result = uniform(Run(tmp_path), job(max_steps=0, budget="macs=50%"), config)
    widths = kept(result.channels["G"], result.plans["G"])
    assert all(width >= floor and width % step == 0 for width, _ in widths.values())
    assert any(width < whole for width, whole in widths.values())


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("teaching", ["distilled", "scratch"])
def test_both_teachings_give_a_student_under_the_budget_with_weights_of_its_own(tmp_path, teaching):
    assert METHODS["uniform"] is uniform
    work = job()
    result = uniform(Run(tmp_path), work, UniformConfig(teaching=teaching))
    student, plan, channels = result.students["G"], result.plans["G"], result.channels["G"]
    [limit] = work.budget.limits
    assert channels.cost(plan).macs <= limit.amount
    assert student(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 3, SIZE, SIZE)
    assert student.down[1].weight.std() < 0.05  # fresh: N(0, 0.02), not torch's own or the teacher's
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["narrow"]
    again = uniform(Run(tmp_path), work, UniformConfig(teaching=teaching))
    assert same(weights(student), weights(again.students["G"]))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_distilling_reads_the_teacher_and_scratch_does_not(tmp_path):
    """The same stage with another teacher: only what is taught changes."""
    other = resnet()
    nn.init.normal_(other.down[4].weight)
    students = {}
    for number, teacher in enumerate((None, other)):
        for teaching in ("distilled", "scratch"):
            work = job(teacher=teacher, max_steps=2)
            run = Run(tmp_path / f"{teaching}{number}")
            result = uniform(run, work, UniformConfig(teaching=teaching, inherit_discriminator=False))
            students[teaching, number] = weights(result.students["G"])
    assert same(students["scratch", 0], students["scratch", 1])
    assert not same(students["distilled", 0], students["distilled", 1])


def with_teacher_stage(run: Run, work: Job, stamp: str) -> Job:
    """The job with its teacher as a stage of the run, as a recipe's is."""
    trained = work.teacher()

    @cache
    def teacher() -> dict[str, nn.Module]:
        run.stage("teacher", lambda stage: {"G": trained["G"].state_dict()}, made_from={"stamp": stamp})
        return trained

    changed = copy.copy(work)
    object.__setattr__(changed, "teacher", teacher)
    return changed


def made_again(folder: Path, work: Job, config: UniformConfig) -> bool:
    """Whether another teacher makes the student anew."""
    for stamp in ("one", "other"):
        run = Run(folder)
        uniform(run, with_teacher_stage(run, work, stamp), config)
    return len([path for path in (folder / "stages").iterdir() if path.name.startswith("narrow")]) == 2


@pytest.mark.slow
def test_scratch_depends_on_the_teacher_s_stamp_only_where_it_teaches_all_the_same(tmp_path):
    scratch = UniformConfig(teaching="scratch")
    assert not made_again(tmp_path / "scratch", job(max_steps=0), scratch)
    assert made_again(tmp_path / "distilled", job(max_steps=0), UniformConfig())
    own = job(task=Image2Image(Image2ImageConfig()), max_steps=0)
    assert made_again(tmp_path / "image2image", own, scratch)


@pytest.mark.slow
def test_scratch_with_image2image_learns_the_teacher_s_images(tmp_path):
    run, work = Run(tmp_path), job(task=Image2Image(Image2ImageConfig()), max_steps=1, log_every=1)
    uniform(run, with_teacher_stage(run, work, "one"), UniformConfig(teaching="scratch"))
    logged = (tmp_path / "stages/narrow/events.jsonl").read_text()
    assert '"G_recon"' in logged and "G_dist" not in logged


@pytest.mark.slow
def test_an_infeasible_budget_fails_before_the_teacher_is_asked_for(tmp_path):
    work = job(budget="macs=0.1%")

    def teacher() -> dict[str, nn.Module]:
        raise AssertionError("the teacher was asked for")

    object.__setattr__(work, "teacher", teacher)
    with pytest.raises(ValueError, match="cannot be met; the smallest reachable cost is"):
        uniform(Run(tmp_path), work, UniformConfig(floor=4))


@pytest.mark.slow
def test_a_student_starts_as_it_is_told(tmp_path):
    """Of no step of training comes out what it began with."""
    config, made = UniformConfig(lambda_dist=0), {}
    for start in (None, "fresh", "inherit", "reconstruct"):
        work = job(max_steps=0, start=start, start_images=3)
        result = uniform(Run(tmp_path / str(start)), work, config)
        made[start] = result.students["G"].state_dict()
    cut = extract(resnet(), original().channels, result.plans["G"])
    assert all(torch.equal(made["inherit"][name], tensor) for name, tensor in cut.state_dict().items())
    inputs = next(spread_inputs(work.data, 3))
    reconstruct(cut, resnet(), inputs)
    for name, tensor in cut.state_dict().items():
        torch.testing.assert_close(made["reconstruct"][name], tensor)
        assert torch.equal(made[None][name], made["fresh"][name])
    assert all(not torch.equal(made["fresh"][n], t) for n, t in cut.state_dict().items() if t.ndim > 1)
    with pytest.raises(ValueError, match="starts fresh: leave out student.start = 'inherit'"):
        uniform(Run(tmp_path / "alone"), job(start="inherit"), UniformConfig(teaching="scratch"))


def test_a_start_is_in_the_stamp_of_the_student_alone_and_only_where_it_is_set():
    off, on = StudentTraining(), StudentTraining(start="reconstruct", start_images=8)
    assert StudentTraining(start_images=8).decisive() == off.decisive() == on.for_search().decisive()
    assert on.decisive() == off.decisive() | {"start": "reconstruct", "start_images": 8}
