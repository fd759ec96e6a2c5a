"""Unconditional generation: losses and regularisers against naive transcriptions; what is refused; latent vectors."""

import copy
import math

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.losses import gradient_penalty, path_lengths
from ganshrink.training.tasks import Unconditional, UnconditionalConfig


def made(name="sagan", **settings):
    torch.manual_seed(0)
    options = {"ngf": 4, "size": 16, "latent": 5}
    task = Unconditional(UnconditionalConfig(**{"ndf": 4, "d_layers": 2, **settings}))
    return task, task.nets(nets.build(name, **options), 0, 3)


def batch():
    return {"input": torch.randn(3, 5), "target": torch.rand(3, 3, 16, 16) * 2 - 1}


def losses(task, networks, given):
    """Every loss of one step, none of which changes anything."""
    context = task.forward(networks)(given, 0, 0)
    found = {}
    for update in task.updates(networks):
        for terms in update.losses(context):
            found |= terms
    return found, context


def test_r1_is_the_squared_gradient_of_the_score_of_each_image():
    images = torch.randn(2, 1, 2, 2, requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    scores = (weights * images.square()).sum((1, 2, 3))
    wanted = (2 * weights * images).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(gradient_penalty(scores, images), wanted)


def test_path_lengths_are_those_of_the_jacobian():
    """Of images J w the length of J^T y, by the same y."""
    jacobian, styles = torch.randn(12, 4), torch.randn(3, 4, requires_grad=True)
    images = (styles @ jacobian.T).view(3, 3, 2, 2)
    torch.manual_seed(7)
    found = path_lengths(images, styles)
    torch.manual_seed(7)
    noise = torch.randn(3, 12) / math.sqrt(4)
    torch.testing.assert_close(found, (noise @ jacobian).norm(dim=1))


def test_hinge_losses_and_the_distance_to_the_teacher_are_as_written():
    task, networks = made()
    given, teacher = batch(), copy.deepcopy(networks["G"]).eval()
    found, context = losses(task, networks, given)
    assert set(found) == {"D_real", "D_fake", "G_gan"}
    scores = networks["D"].eval()(context.fake)  # spectral norm moves on in training
    assert scores.shape == (3, 1, 1, 1)
    student = task.as_student_task(teacher)
    found, context = losses(student, {**networks, "D": networks["D"].train()}, given)
    with torch.no_grad():
        wanted = 10 * (context.fake - teacher(given["input"])).abs().mean()
    torch.testing.assert_close(found["G_recon"], wanted)
    assert task.with_teachers({"G": teacher}).teacher is teacher
    assert set(losses(task.with_teachers({"G": teacher}), networks, given)[0]) == {
        "D_real",
        "D_fake",
        "G_gan",
    }


def test_stylegan2_s_regularisers_come_every_so_many_steps_and_count_for_all_of_them():
    settings = {"gan_mode": "vanilla", "discriminator": "residual", "lambda_r1": 10, "lambda_path": 2}
    task, networks = made("stylegan2", **settings)
    given = batch()
    updates = {update.name: update for update in task.updates(networks)}
    assert {name: update.every for name, update in updates.items()} == {"D": 1, "G": 1, "R1": 16, "path": 4}
    assert updates["R1"].optimizers is updates["D"].optimizers
    found, _ = losses(task, networks, given)
    photos = given["target"].clone().requires_grad_()
    [slope] = torch.autograd.grad(networks["D"](photos).sum(), photos)
    wanted = 10 / 2 * 16 * slope.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(found["D_r1"], wanted)
    context = task.forward(networks)(given, 0, 0)
    for name in ("R1", "path"):  # they reach what they are to regularise
        [terms] = updates[name].losses(context)
        parameters = updates[name].optimizers[0].param_groups[0]["params"]
        sum(terms.values()).backward(inputs=parameters)
        assert any(p.grad is not None and bool(p.grad.any()) for p in parameters)
    mean = updates["path"].state["path_length"]
    assert mean.value > 0 and mean.state_dict() == {"value": mean.value}


def test_what_cannot_work_is_refused():
    task, networks = made()
    with pytest.raises(ValueError, match="takes latent vectors, not pictures: set data.name = 'latents'"):
        task.nets(networks["G"], 3, 3)
    with pytest.raises(ValueError, match="latent vectors have no true image"):
        task.as_student_task(networks["G"], target="truth")
    with pytest.raises(ValueError, match="`mapping` to styles, as stylegan2 has one, and SAGAN has none"):
        made(lambda_path=2)
    with pytest.raises(ValueError, match="lambda_gan"):
        UnconditionalConfig(lambda_gan=0)
    task, networks = made("stylegan2", lambda_path=2)
    networks["G"].mapping = nn.Sequential(networks["G"].mapping)  # what is compiled runs no hooks
    networks["G"].mapping.register_forward_hook = lambda hook: nn.Module().register_forward_hook(hook)
    with pytest.raises(ValueError, match="leave compile out"):
        losses(task, networks, batch())
