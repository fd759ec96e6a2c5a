"""A loss against flicker, which joins any task's losses."""

import json

import pytest
import torch
from torch import nn

from ganshrink.data import TensorPairs
from ganshrink.losses import shift_consistency
from ganshrink.losses.shift_consistency import moved
from ganshrink.nets import build
from ganshrink.training.tasks import CycleGAN, CycleGANConfig, Image2Image, WithTerms
from ganshrink.training.tasks.steady import Steady, check_movable, steadied
from ganshrink.training.train import Training, describe
from ganshrink.workflow.compress import compress_recipe
from ganshrink.workflow.recipe import resolve
from tiny_recipe import tiny


def of_step(task, nets, batch):
    context = task.forward(nets)(batch, 0, 0)
    return {
        k: v for update in task.updates(nets) for terms in update.losses(context) for k, v in terms.items()
    }


def test_each_generator_that_is_trained_has_its_term():
    torch.manual_seed(0)
    task = steadied(CycleGAN(CycleGANConfig(ndf=4, d_layers=1)), 7)
    nets = task.nets(build("resnet9", ngf=4, blocks=1), 3, 3)
    batch = {"input": torch.rand(2, 3, 32, 32) * 2 - 1, "target": torch.rand(2, 3, 32, 32) * 2 - 1}
    torch.manual_seed(3)
    terms = of_step(task, nets, batch)
    torch.manual_seed(3)
    right, down = torch.randint(-4, 5, (2,)).tolist()
    assert (right, down) != (0, 0)
    for name, images in (("G_A", batch["input"]), ("G_B", batch["target"])):
        expected = shift_consistency(nets[name](images), nets[name](moved(images, right, down)), right, down)
        torch.testing.assert_close(terms[f"{name}_shift"], 7 * expected)
        assert expected > 0


def test_a_generator_may_enlarge_each_side_by_its_own_factor():
    torch.manual_seed(0)
    taller = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Upsample(scale_factor=(2.0, 1.0), mode="nearest"))
    photo = torch.rand(1, 3, 24, 32)
    check_movable(taller, photo[0])
    task = steadied(Image2Image(), 1).as_student_task(taller)
    context = task.forward({"G": taller})({"input": photo}, 0, 0)
    assert float(task.terms[0](context)["G_shift"].detach()) < 1e-6  # it moves as its input does


def test_without_a_weight_the_task_is_as_it_was_and_the_user_s_own_terms_stay():
    task = Image2Image()
    assert steadied(task, 0) is task

    def mine(context):
        return {}

    both = steadied(WithTerms(task, (mine,)), 2)
    assert both.task is task and both.terms == (mine, Steady(2))


def test_the_weight_is_in_the_stamp_of_what_is_trained_with_it():
    data = TensorPairs([(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8))])
    plain, one, two = (describe(steadied(Image2Image(), w), data, Training()) for w in (0, 1, 2))
    assert plain != one != two != plain
    assert one == describe(steadied(Image2Image(), 1), data, Training())


class Wider(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=1.5)


def test_what_cannot_move_is_refused_before_any_training(tmp_path):
    check_movable(nn.Upsample(scale_factor=2.0), torch.zeros(3, 20, 24))
    for network, input, why in (
        (Wider(), torch.zeros(3, 20, 24), "outputs as large .* makes \\(30, 36\\)"),
        (nn.Identity(), torch.zeros(128), "a generator of one picture"),
        (nn.Identity(), (torch.zeros(3, 20, 24), torch.zeros(3, 20, 24)), "a generator of one picture"),
        (nn.Identity(), torch.zeros(3, 16, 24), "pictures of more than 16 pixels"),
    ):
        with pytest.raises(ValueError, match=f"lambda_shift moves the input by whole pixels: it needs {why}"):
            check_movable(network, input)
    raw = tiny(tmp_path / "run", student={"lambda_shift": 1}, data={"size": 16})
    with pytest.raises(ValueError, match="pictures of more than 16 pixels a side"):
        compress_recipe(resolve(raw), progress=False)
    assert not list(tmp_path.glob("run/stages/*"))


def test_students_are_trained_with_it_and_teachers_are_not(tmp_path):
    raw = tiny(
        tmp_path / "run", scratch=True, student={"lambda_shift": 1, "log_every": 1}, teacher={"max_steps": 1}
    )
    compress_recipe(resolve(raw), progress=False)
    with_it = {
        path.parent.name
        for path in tmp_path.glob("run/stages/*/events.jsonl")
        if any("G_shift" in json.loads(line)["losses"] for line in path.read_text().splitlines())
    }
    everything = {path.parent.name for path in tmp_path.glob("run/stages/*/events.jsonl")}
    assert "teacher" in everything and with_it == everything - {"teacher"} and len(with_it) >= 2
