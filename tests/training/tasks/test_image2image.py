"""A trained generator as its own data: nothing but inputs is needed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganshrink.nets import build
from ganshrink.training.tasks import TASKS, Image2Image, Image2ImageConfig


def made(**changes: Any) -> tuple[Image2Image, dict[str, nn.Module], nn.Module]:
    """The student's task, its nets, and the teacher, of 4 input channels."""
    torch.manual_seed(0)
    teacher = build("resnet9", in_channels=4, ngf=4, blocks=1).eval()
    task = Image2Image(Image2ImageConfig(**({"ndf": 4, "d_layers": 1} | changes))).as_student_task(teacher)
    return task, task.nets(build("resnet9", in_channels=4, ngf=2, blocks=1), 4, 3), teacher


def inputs() -> Tensor:
    return torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def terms_of(task: Image2Image, nets: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Every loss term of one step, on a batch that holds nothing but inputs."""
    context = task.forward(nets)({"input": inputs(), "name": ["a", "b"]}, 0, 0)
    return {
        k: v for update in task.updates(nets) for terms in update.losses(context) for k, v in terms.items()
    }


def test_the_student_learns_the_teacher_s_images_without_targets_or_a_discriminator():
    task, nets, teacher = made()
    assert list(nets) == ["G"] and [update.name for update in task.updates(nets)] == ["G"]
    terms = terms_of(task, nets)
    assert set(terms) == {"G_recon"}
    torch.testing.assert_close(terms["G_recon"], 10 * l1_loss(nets["G"](inputs()), teacher(inputs())))


def test_with_a_gan_loss_the_judge_sees_images_alone_and_the_teacher_s_are_real():
    task, nets, teacher = made(lambda_gan=2)
    assert [update.name for update in task.updates(nets)] == ["D", "G"]
    terms = terms_of(task, nets)
    on_real, on_fake = (nets["D"](network(inputs())) for network in (teacher, nets["G"]))
    torch.testing.assert_close(terms["D_real"], 0.5 * (on_real - 1).square().mean())
    torch.testing.assert_close(terms["D_fake"], 0.5 * on_fake.square().mean())
    torch.testing.assert_close(terms["G_gan"], 2 * (on_fake - 1).square().mean())


def test_the_teacher_looks_on():
    task, nets, teacher = made(lambda_gan=1)
    assert list(task.frozen) == [teacher]
    torch.stack(list(terms_of(task, nets).values())).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in nets["G"].parameters())


def test_there_is_no_such_thing_as_its_own_training():
    assert TASKS["image2image"].needs_teacher
    task = Image2Image()
    nets = task.nets(nn.Conv2d(4, 3, 1), 4, 3)
    with pytest.raises(ValueError, match="no teacher"):
        terms_of(task, nets)
