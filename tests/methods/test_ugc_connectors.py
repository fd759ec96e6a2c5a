"""OMGD's channel distillation as an option of UGC: what connects channels learns with the student, and is thrown away."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import nn
from torch.nn.functional import relu

from ganshrink.methods.base import Job
from ganshrink.methods.ugc import ugc
from ganshrink.methods.ugc.connectors import Connectors, connect
from ganshrink.methods.ugc.distillation import OnlineDistillation
from ganshrink.methods.ugc.teaching import DistillationLoss
from ganshrink.pruning import extract
from ganshrink.training import Taps
from ganshrink.training.stages import Run
from ganshrink.training.train import Nets

PATHS = ("5", "9")
CD = {"lambda_cd": 50, "taps": PATHS}


@pytest.fixture(scope="module")
def work() -> Job:
    return few.job()


def ready(work: Job, **changes: Any) -> tuple[Nets, Connectors]:
    """A student, its wide teacher twice, and connectors of the first."""
    whole = few.whole()
    space, channels = whole.space, whole.channels
    nets = {
        name: extract(whole.network, channels, space.plan(channels, widths)).train()
        for name, widths in (("G", space.smallest()), ("wide", space.shallow().largest()))
    }
    nets["deep"] = copy.deepcopy(nets["wide"])
    connectors = connect(
        tiny.small(), nets["G"], nets["wide"], work.example, channels, **{"paths": PATHS} | changes
    )
    nets["connectors"] = connectors
    for network in nets.values():
        network.train()
    return nets, connectors


def naive(nets: Nets, image: torch.Tensor) -> float:
    """The released code's: 1x1 convolution, batch norm of the batch, ReLU, and a channel's mean over the image."""
    total = 0.0
    with torch.no_grad(), Taps(nets["G"], PATHS) as ours, Taps(nets["wide"], PATHS) as theirs:
        nets["G"](image), nets["wide"](image)
        mine, taught = ours.take(), theirs.take()
        for path, layer in zip(PATHS, nets["connectors"].layers, strict=True):
            x = nn.functional.conv2d(mine[path], layer[0].weight)
            x = (x - x.mean((0, 2, 3), keepdim=True)) / (
                x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
            ).sqrt()
            total += float((relu(x).mean((2, 3)) - taught[path].mean((2, 3))).square().mean())
    return total


def test_the_loss_is_the_formula_on_labelled_images_alone_and_teaches_student_and_connectors(work):
    config, task = few.settings(**CD), tiny.pix2pix(lambda_gan=0)
    nets, connectors = ready(work)
    batch, twins = few.batch_at(work, 0), copy.deepcopy(nets)
    with Taps(nets["G"], PATHS) as ours, Taps(nets["wide"], PATHS) as theirs:
        taps = {"G": ours, "wide": theirs}
        online = OnlineDistillation(task, nets, DistillationLoss(config), config, taps)
        [student] = [update for update in online.updates() if update.name == "student"]
        of_labelled, of_unlabelled = student.losses(online.forward()(batch, 0, 0))
    assert of_labelled["A_cd"].item() == pytest.approx(50 * naive(twins, batch["input"]), rel=1e-4)
    assert "U_cd" not in of_unlabelled and "U_ssim" in of_unlabelled

    of_labelled["A_cd"].backward()
    assert nets["G"].get_parameter("0.weight").grad.ne(0).any()
    assert all(layer[0].weight.grad.ne(0).any() for layer in connectors.layers)
    assert all(p.grad is None for name in ("wide", "deep") for p in nets[name].parameters())
    learning = {id(p) for group in student.optimizers[0].param_groups for p in group["params"]}
    assert learning == {id(p) for name in ("G", "connectors") for p in nets[name].parameters()}


def test_they_lead_from_the_student_s_widths_to_the_teacher_s(work):
    nets, connectors = ready(work)
    assert connectors.paths == PATHS
    made_by = {"5": "3", "9": "7"}  # the convolutions before these activations
    for path, layer in zip(PATHS, connectors.layers, strict=True):
        widths = [nets[name].get_submodule(made_by[path]).out_channels for name in ("G", "wide")]
        assert [layer[0].in_channels, layer[0].out_channels] == widths and widths[0] < widths[1]
        assert layer[0].bias is None and layer[0].kernel_size == (1, 1)
    _, by_itself = ready(work, paths=None)
    assert by_itself.paths


def test_they_are_in_no_result(work, tmp_path):
    short = replace(work, training=work.training.model_copy(update={"max_steps": 2}))
    result = ugc(Run(tmp_path), short, few.settings(search=False, **CD))
    assert result.students.keys() == {"G"}
    whole = few.whole()
    assert result.students["G"].state_dict().keys() <= whole.network.state_dict().keys()
    first, second = (line["losses"]["A_cd"] for line in tiny.logged(tmp_path, "finetune"))
    assert first > 0 and second != first
    kept = tiny.saved(tmp_path, "finetune", "connectors")
    assert kept["layers.0.1.num_batches_tracked"] == 2


@pytest.mark.parametrize("search", [False, True])
def test_a_layer_that_is_not_there_is_refused_before_anything_is_trained(work, tmp_path, search):
    with pytest.raises(ValueError, match="no submodule 'nope' to tap") as error:
        ugc(Run(tmp_path), few.untaught(work), few.settings(search=search, lambda_cd=50, taps=("nope",)))
    assert "\n" not in str(error.value) and few.begun(tmp_path) == {}
