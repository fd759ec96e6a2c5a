"""What DMAD refuses, with which words and how early; when its search is done again; and recipes of earlier versions."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.methods.base import Job
from ganshrink.methods.dmad import dmad
from ganshrink.pruning import Plan, add_affine
from ganshrink.training.stages import Run
from ganshrink.training.train import Nets
from ganshrink.workflow.recipe import read_recipe

QUICK = Path("recipes/dmad/quick.toml")


class Unscaled(nn.Module):
    """Between its ends nothing but a norm without a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(instance_norm(self.first(x)).relu()).tanh()


def untaught(work: Job) -> Job:
    """A job whose teacher must not be asked for."""

    def teacher() -> Nets:
        raise AssertionError("the teacher was asked for")

    return replace(work, teacher=teacher, back=work.back and replace(work.back, teacher=teacher))


def refusal(folder: Path, work: Job, **changes: Any) -> str:
    with pytest.raises(ValueError) as error:
        dmad(Run(folder), work, tiny.settings(**changes))
    assert "\n" not in str(error.value)
    return str(error.value)


def stages(folder: Path) -> dict[str, int]:
    """How often each stage was begun: those put aside have a dot in their names."""
    found = [path.name.partition(".")[0] for path in (folder / "stages").iterdir()]
    return {name: found.count(name) for name in found}


# Before anything is trained

UNREACHABLE = r"the budget macs=.* cannot be met; the smallest reachable cost is macs="


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (lambda: tiny.job(tiny.small, budget="macs=30%"), {"search": {"floor": 8}}, UNREACHABLE),
        (lambda: tiny.job(tiny.small, budget="macs=30%"), {"search": {"round_to": 8}}, UNREACHABLE),
        (lambda: tiny.both("macs=60%", "macs=2%"), {}, UNREACHABLE),
        (
            lambda: tiny.job(Unscaled),
            {},
            "no channel of this generator may be cut: .*a factor before a norm without a scale has no effect",
        ),
        (
            lambda: tiny.job(tiny.small),
            {"taps": ("6.bodi",)},
            r"no submodule '6.bodi' to tap; did you mean '6.body'\?",
        ),
        (
            lambda: tiny.job(lambda: nets.build("unet256", ngf=2, downs=5), data=tiny.pairs(32)),
            {"taps": ("down.2", "down.4")},
            "taps: attention on a single pixel, as down.4 has it",
        ),
    ],
    ids=["floor", "round_to", "the other way's budget", "nothing to cut", "tap", "a single pixel"],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(tmp_path, make, changes, words):
    assert re.search(words, refusal(tmp_path, untaught(make()), **changes))
    assert stages(tmp_path) == {}


@pytest.mark.parametrize("changes", [{"fusion": "none"}, {"lambda_fea": 0}, {}], ids=str)
def test_a_teacher_without_a_discriminator_is_refused_where_it_is_to_show_something(tmp_path, changes):
    work = tiny.job(tiny.small)
    alone = replace(work, teacher=lambda: {"G": work.teacher()["G"]})
    message = refusal(tmp_path, alone, **changes)
    assert (
        "came without one" in message
        and "method.distill.fusion = 'none' and method.distill.lambda_fea = 0" in message
    )
    assert stages(tmp_path) == {}


@pytest.mark.exhaustive
def test_a_teacher_without_a_discriminator_will_do_otherwise(tmp_path):
    work = tiny.job(tiny.small, max_steps=2, budget="macs=95%")
    alone = replace(work, teacher=lambda: {"G": work.teacher()["G"]})
    dmad(Run(tmp_path), alone, tiny.settings(fusion="none", lambda_fea=0))
    line = tiny.logged(tmp_path, "distill")[0]["losses"]
    assert "G_att" in line and "G_fea" not in line


# After the search


@pytest.fixture(scope="module")
def emptied(tmp_path_factory) -> tuple[Path, Job]:
    """A run whose search can meet its budget without its block alone."""
    channels = trace(add_affine(tiny.small()), *tiny.job(tiny.small).example)
    keep = Plan.full(channels).keep
    for group in channels.groups:
        if group.frozen is None:
            keep[group.atoms[0 if group.removable else 1 :]] = False
    assert any(group.removable for group in channels.groups)
    folder = tmp_path_factory.mktemp("emptied")
    return folder, tiny.job(tiny.small, budget=f"macs={channels.cost(Plan(keep)).macs}", max_steps=8)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_tap_within_what_the_search_took_away_is_refused_and_one_on_what_passes_its_input_on_is_not(
    emptied,
):
    """The search is kept."""
    folder, work = emptied
    message = refusal(folder, work, search={"mask_lr": 0.3}, taps=("5", "6.body.2"))
    assert message.startswith("method.distill.taps: the search left nothing of 6")
    assert "6.body.2 cannot be tapped" in message and message.endswith("(the search itself is kept)")
    assert stages(folder) == {"search": 1}
    student = dmad(Run(folder), work, tiny.settings(search={"mask_lr": 0.3}, taps=("5", "6"))).students["G"]
    image = torch.rand(1, 1, 8, 8)
    assert torch.equal(student.get_submodule("6")(image), image)
    assert stages(folder) == {"search": 1, "distill": 1}
    assert "G_att" in tiny.logged(folder, "distill")[0]["losses"]


# What is done again


def taught_in(run: Run, work: Job, seed: int) -> Job:
    """The job with its teacher as a stage of the run, as recipes have it."""
    teacher = tiny.job(tiny.small, task=work.task, data=work.data, teacher=seed).teacher

    def made() -> Nets:
        states = {name: net.state_dict() for name, net in teacher().items()}
        run.stage("teacher", lambda stage: states, made_from={"seed": seed})
        return teacher()

    return replace(work, teacher=made)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_another_teacher_teaches_again_and_leaves_the_search_alone(once, tmp_path):
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path)
    dmad(run, taught_in(run, short(), 8), tiny.settings())
    assert stages(tmp_path) == {"teacher": 2, "search": 1, "distill": 2}


def short(budget: str = "macs=95%", **options: Any) -> Job:
    return tiny.job(tiny.small, budget=budget, max_steps=2, **options)


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("once")
    run = Run(folder)
    dmad(run, taught_in(run, short(), 7), tiny.settings())
    return folder


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_search_that_learns_the_teacher_s_images_is_done_again_for_another_teacher(tmp_path):
    for seed in (7, 8):
        run, work = Run(tmp_path), short(task=tiny.image2image(), data=tiny.inputs())
        dmad(run, taught_in(run, work, seed), tiny.settings())
    assert stages(tmp_path) == {"teacher": 2, "search": 2, "distill": 2}


def test_without_a_step_to_search_in_there_is_no_student(tmp_path):
    work = tiny.job(tiny.small, epochs=0, max_steps=None, budget="macs=50%")
    with pytest.raises(ValueError, match="student.epochs"):
        dmad(Run(tmp_path), work, tiny.settings())


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("other", [nn.InstanceNorm2d, nn.Identity])
def test_a_search_for_another_network_of_the_same_cost_is_not_taken(once, tmp_path, other):
    """`once` is of batch norms. In a U-Net, another rate of dropout is another training, and is not noticed at all."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path)
    network = tiny.small()
    for place in (1, 4, 8):
        network[place] = other(network[place].num_features)
    work = tiny.job(lambda: network, budget="macs=95%", max_steps=2)
    dmad(run, taught_in(run, work, 7), tiny.settings())
    assert stages(tmp_path)["search"] == 2


def test_without_a_gan_loss_it_is_refused_before_the_teacher_is_trained(tmp_path):
    refusal(tmp_path, untaught(tiny.job(tiny.small, task=tiny.pix2pix(lambda_gan=0))))


def test_what_is_advised_to_a_teacher_without_a_discriminator_can_be_done(tmp_path):
    work = tiny.job(tiny.small, task=tiny.image2image(lambda_gan=0), data=tiny.inputs())
    message = refusal(tmp_path, work)
    assert "teacher.discriminator" not in message or "task.lambda_gan" in message


def test_settings_of_earlier_recipes_are_found_in_their_tables():
    moved = ["lambda_spa=0.2", "mask_lr=0.3", "floor=4", "lambda_att=0.5", "taps=['6']"]
    method: Any = read_recipe(QUICK, [f"method.{setting}" for setting in moved]).method
    assert (method.search.lambda_spa, method.search.mask_lr, method.search.floor) == (0.2, 0.3, 4)
    assert (method.distill.lambda_att, method.distill.taps) == (0.5, ("6",))
