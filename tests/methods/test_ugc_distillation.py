"""Stage 2 of UGC: the order of its updates, and its losses, against a naive transcription of Eqs. 6, 7 and 9."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, relu

from ganshrink.methods.base import Job
from ganshrink.methods.ugc import UgcConfig
from ganshrink.methods.ugc.ugc import OnlineDistillation, online_loss
from ganshrink.nets.patchgan import second_head
from ganshrink.pruning import extract
from ganshrink.training.stages import Stage
from ganshrink.training.tasks import Pix2Pix
from ganshrink.training.tasks.steady import steadied
from ganshrink.training.train import Nets, fit_nets
from telling import rest_exhaustive

STRONG = {"lambda_tv": 0.01, "teachers_every": 2}


@pytest.fixture(scope="module")
def work() -> Job:
    return few.job()


def ready(config: UgcConfig, task: Pix2Pix) -> Nets:
    """A student, two teachers of other widths and depths, and their discriminators."""
    whole = few.whole(config)
    space, draw = whole.space, torch.Generator().manual_seed(0)
    exponents = torch.rand(len(space.choices) + len(space.sites), generator=draw).double().numpy() + 0.5
    widths = {
        "G": space.between(0.4, exponents),
        "wide": space.shallow().largest(),
        "deep": space.deep().smallest(),
    }
    nets: Nets = {
        n: extract(whole.network, whole.channels, space.plan(whole.channels, w)) for n, w in widths.items()
    }
    judges = {name: tiny.seasoned(net) for name, net in task.nets(nn.Identity(), 3, 3).items() if name == "D"}
    if judges:
        other = second_head(judges["D"], config.finetune.shared_layers)
        nets |= {"D_wide": judges["D"], "D_deep": other}
    return nets


def online(config: UgcConfig, task: Pix2Pix, nets: Nets) -> OnlineDistillation:
    for net in nets.values():
        net.train()
    return OnlineDistillation(task, nets, online_loss(config), config.finetune, {})


def fitted(work: Job, config: UgcConfig, nets: Nets, folder: Path, steps: int) -> list[dict[str, float]]:
    """Stage 2 for so many steps; the losses of each."""
    lesson = online(config, work.task, nets)
    training = work.training.model_copy(update={"max_steps": steps})
    options = {"updates": lesson.updates(), "forward": lesson.forward, "unlabelled": work.unlabelled}
    folder = folder / "stages/finetune"
    fit_nets(Stage(folder, "key"), nets, work.task, work.data, training, **options, progress=False)
    return [line["losses"] for line in tiny.logged(folder.parents[1], "finetune")]


def student_losses(
    lesson: OnlineDistillation, batch: dict[str, Any], step: int = 0
) -> list[dict[str, Tensor]]:
    [student] = [update for update in lesson.updates() if update.name == "student"]
    return list(student.losses(lesson.forward(batch, step, 0)))


class Naive:
    """Stage 2 by the letter: an optimizer for each network, the layers that discriminators share in one of them."""

    def __init__(self, nets: Nets, config: UgcConfig) -> None:
        self.nets, self.config = nets, config
        own: dict[str, list[nn.Parameter]] = {name: list(net.parameters()) for name, net in nets.items()}
        shared = {id(p) for p in own["D_wide"]} & {id(p) for p in own["D_deep"]}
        own["D_deep"] = [p for p in own["D_deep"] if id(p) not in shared]
        self.optimizers = {n: torch.optim.Adam(p, lr=2e-3, betas=(0.5, 0.999)) for n, p in own.items() if p}

    def step(self, batch: dict[str, Any], *, teaching: bool) -> dict[str, float]:
        x, y, nets = batch["input"], batch["target"], self.nets
        made = {name: nets[name](x) for name in ("wide", "deep")}
        terms: dict[str, Tensor] = {}
        if teaching:
            for name, image in made.items():
                judge = nets[f"D_{name}"]
                fake, real = (judge(torch.cat([x, shown], 1)) for shown in (image.detach(), y))
                terms[f"{name}_D_real"] = 0.5 * relu(1 - real).mean()
                terms[f"{name}_D_fake"] = 0.5 * relu(1 + fake).mean()
            self._learn([n for n in self.optimizers if n.startswith("D_")], dict(terms))
            of_teachers = {}
            for name, image in made.items():
                of_teachers[f"{name}_G_gan"] = -nets[f"D_{name}"](torch.cat([x, image], 1)).mean()
                of_teachers[f"{name}_G_recon"] = 100 * l1_loss(image, y)
            self._learn(["wide", "deep"], of_teachers)
            terms |= of_teachers
        mine = nets["G"](x)
        of_student = {
            "A_ssim": sum(few.l_od(mine, image.detach()).mean() for image in made.values()),
            "A_tv": 2 * self.config.lambda_tv * few.variation(mine),
        }
        self._learn(["G"], of_student)
        return {name: float(loss.detach()) for name, loss in {**terms, **of_student}.items()}

    def _learn(self, names: list[str], terms: dict[str, Tensor]) -> None:
        for net in self.nets.values():
            net.zero_grad()
        sum(terms.values()).backward()
        for name in names:
            self.optimizers[name].step()


@pytest.mark.slow
@pytest.mark.parametrize("shared", rest_exhaustive([0, 2, 5], (2).__eq__))
def test_five_steps_are_those_of_a_naive_transcription(work, tmp_path, shared):
    """Discriminators and teachers learn at steps 0, 2 and 4, the student at each, from images of before these learnt."""
    config = few.settings(**STRONG, shared_layers=shared, finetune=few.LABELLED_ALONE)
    nets = ready(config, work.task)
    naive = Naive({name: net.train() for name, net in copy.deepcopy(nets).items()}, config)
    logged = fitted(work, config, nets, tmp_path, 5)
    student = {"A_ssim", "A_tv"}
    for step, terms in enumerate(logged):
        expected = naive.step(few.batch_at(work, step), teaching=step % 2 == 0)
        assert terms == pytest.approx(expected, rel=2e-3)
        assert (terms.keys() == student) == (step % 2 == 1) and student <= terms.keys()
    assert len(logged) == 5


@pytest.mark.slow
@pytest.mark.parametrize("every", rest_exhaustive([1, 3], (3).__eq__))
def test_updates_run_in_order_and_as_often_as_they_should(work, every):
    config = few.settings(teachers_every=every)
    found = online(config, work.task, ready(config, work.task)).updates()
    assert [(u.name, u.every) for u in found] == [("D", every), ("teachers", every), ("student", 1)]
    assert [len(u.optimizers) for u in found] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("part", rest_exhaustive(["labelled", "unlabelled"], "unlabelled".__eq__))
def test_the_student_learns_the_images_of_before_its_teachers_update(work, tmp_path, part):
    """Of the same step."""
    config = few.settings(lambda_tv=0, teachers_every=1, filter="none")
    nets = ready(config, work.task)
    batch, before = few.batch_at(work, 0), copy.deepcopy(nets)
    [terms] = fitted(work, config, nets, tmp_path, 1)
    image = batch["input" if part == "labelled" else "unlabelled"]
    with torch.no_grad():
        mine = before["G"].train()(image)
        early = sum(few.l_od(mine, before[name].train()(image)).mean() for name in ("wide", "deep"))
        late = sum(few.l_od(mine, nets[name].train()(image)).mean() for name in ("wide", "deep"))
    assert abs(early - late) > 0.01
    assert terms["A_ssim" if part == "labelled" else "U_ssim"] == pytest.approx(early.item(), abs=1e-3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_student_s_losses_teach_nobody_else_and_have_no_judge(work):
    config = few.settings(**STRONG, filter_after=0)
    nets = ready(config, work.task)
    lesson = online(config, work.task, nets)
    for step in range(3):
        found = student_losses(lesson, few.batch_at(work, step), step)
        assert [terms.keys() for terms in found] == [{"A_ssim", "A_tv"}, {"U_ssim", "U_tv"}]
        for terms in found:
            sum(terms.values()).backward()
    for name, net in nets.items():
        assert all((parameter.grad is None) == (name != "G") for parameter in net.parameters())


def test_a_task_s_further_terms_are_the_student_s_too(work):
    config = few.settings(**STRONG)
    nets = ready(config, work.task)
    [labelled, unlabelled] = student_losses(
        online(config, steadied(work.task, 1), nets), few.batch_at(work, 0)
    )
    assert labelled.keys() == {"A_ssim", "A_tv", "G_shift"} and unlabelled.keys() == {"U_ssim", "U_tv"}
    labelled["G_shift"].backward()
    assert all(parameter.grad is not None for parameter in nets["G"].parameters())
    assert all(
        parameter.grad is None for name in nets if name != "G" for parameter in nets[name].parameters()
    )


def images_of(nets: Nets, image: Tensor) -> dict[str, Tensor]:
    """Of statistics of this batch, and without leaving a trace."""
    twins = copy.deepcopy(nets)
    with torch.no_grad():
        return {name: twins[name].train()(image) for name in ("G", "wide", "deep")}


@pytest.mark.slow
def test_unlabelled_images_count_as_the_filter_says_for_each_teacher(work):
    """Eq. 9: with the wide teacher's images below the average, and the deep one's above, in every combination."""
    config = few.settings(**STRONG, filter_after=0)
    nets = ready(config, work.task)
    image = few.batch_at(work, 0)["unlabelled"]
    made = images_of(nets, image)
    each = {name: few.l_od(made["G"], made[name]) for name in ("wide", "deep")}
    changes = [few.variation(one[None]) for one in made["G"]]
    outcomes = {}
    for phi in itertools.product((0.0, 1.0), repeat=2):
        ssim = (torch.tensor(phi) * each["wide"]).mean() + each["deep"].mean()
        tv = sum((weight + 1) * change for weight, change in zip(phi, changes, strict=True))
        outcomes[phi] = {"U_ssim": ssim.item(), "U_tv": config.lambda_tv * float(tv)}
    seen = set()
    for seed in range(24):
        lesson = online(config, work.task, nets)
        lesson.filter.average = {"wide": 1e9, "deep": -1e9}
        torch.manual_seed(seed)
        terms = {
            name: float(loss.detach())
            for name, loss in student_losses(lesson, few.batch_at(work, 0))[1].items()
        }
        [phi] = [phi for phi, outcome in outcomes.items() if terms == pytest.approx(outcome, rel=1e-4)]
        seen.add(phi)
    assert seen == set(outcomes)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"filter": "none", "filter_after": 0}, {"filter_after": 100}], ids=str)
def test_without_a_filter_or_before_it_begins_all_images_count(work, changes):
    config = few.settings(**STRONG, **changes)
    nets = ready(config, work.task)
    lesson = online(config, work.task, nets)
    lesson.filter.average = {"wide": 1e9, "deep": 1e9}
    batch = few.batch_at(work, 0)
    for terms, key in zip(student_losses(lesson, batch), ("input", "unlabelled"), strict=True):
        made = images_of(nets, batch[key])
        ssim = sum(few.l_od(made["G"], made[name]).mean() for name in ("wide", "deep"))
        got = [float(loss.detach()) for loss in terms.values()]
        assert got == pytest.approx(
            [float(ssim), 2 * config.lambda_tv * float(few.variation(made["G"]))], rel=1e-4
        )


@pytest.mark.slow
def test_the_filter_sees_the_mean_patch_score_of_the_image_beside_its_input(work):
    config = few.settings(**STRONG)
    nets = ready(config, work.task)
    lesson, image = online(config, work.task, nets), few.batch_at(work, 0)["unlabelled"]
    made, judges = images_of(nets, image), copy.deepcopy(nets)
    student_losses(lesson, few.batch_at(work, 0))
    for name in ("wide", "deep"):
        scores = judges[f"D_{name}"](torch.cat([image, made[name]], 1))
        assert lesson.filter.average[name] == pytest.approx(scores.mean().item(), rel=1e-4)


@pytest.mark.exhaustive
def test_labelled_images_are_not_filtered_and_alone_where_that_is_wanted(work):
    config = few.settings(**STRONG, filter_after=0, finetune=few.LABELLED_ALONE)
    lesson = online(config, work.task, ready(config, work.task))
    lesson.filter.average = {"wide": 1e9, "deep": 1e9}
    [terms] = student_losses(lesson, few.batch_at(work, 0))
    assert terms.keys() == {"A_ssim", "A_tv"} and lesson.filter.updates == {"wide": 0, "deep": 0}


def test_without_a_gan_loss_there_is_no_judge_and_nothing_is_filtered(work, tmp_path):
    task, config = tiny.pix2pix(lambda_gan=0), few.settings(**STRONG, filter_after=0)
    nets = ready(config, task)
    assert nets.keys() == {"G", "wide", "deep"}
    lesson = online(config, task, nets)
    assert [update.name for update in lesson.updates()] == ["teachers", "student"]
    batch = few.batch_at(work, 0)
    made = images_of(nets, batch["unlabelled"])
    wanted = sum(few.l_od(made["G"], made[name]).mean() for name in ("wide", "deep"))
    assert float(student_losses(lesson, batch)[1]["U_ssim"].detach()) == pytest.approx(
        float(wanted), rel=1e-4
    )
    assert lesson.filter.average == {}
