"""OMGD's channel distillation as an option of UGC: what connects channels learns with the student, and is thrown away."""

import copy
from dataclasses import replace

import pytest
import tiny_dmad as tiny
import tiny_ugc as few
import torch
from torch import nn
from torch.nn.functional import relu

from ganshrink.losses import Connectors
from ganshrink.methods.base import Job
from ganshrink.methods.ugc.ugc import OnlineDistillation, online_loss
from ganshrink.pruning import extract
from ganshrink.training import Taps, widths_at
from ganshrink.training.train import Nets

PATHS = ("5", "9")
CD = {"lambda_cd": 50, "taps": PATHS}


@pytest.fixture(scope="module")
def work() -> Job:
    return few.job()


def ready(work: Job) -> Nets:
    """A student, its wide teacher twice, and connectors of the first."""
    whole = few.whole()
    space, channels = whole.space, whole.channels
    nets = {
        name: extract(whole.network, channels, space.plan(channels, widths)).train()
        for name, widths in (("G", space.smallest()), ("wide", space.shallow().largest()))
    }
    nets["deep"] = copy.deepcopy(nets["wide"])
    inside, outside = (widths_at(nets[name], PATHS, work.example) for name in ("G", "wide"))
    nets["connectors"] = Connectors({path: (inside[path], outside[path]) for path in PATHS})
    for network in nets.values():
        network.train()
    return nets


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


@pytest.mark.slow
def test_the_loss_is_the_formula_on_labelled_images_alone_and_teaches_student_and_connectors(work):
    config, task = few.settings(**CD), tiny.pix2pix(lambda_gan=0)
    nets = ready(work)
    batch, twins = few.batch_at(work, 0), copy.deepcopy(nets)
    with Taps(nets["G"], PATHS) as ours, Taps(nets["wide"], PATHS) as theirs:
        taps = {"G": ours, "wide": theirs}
        online = OnlineDistillation(task, nets, online_loss(config), config.finetune, taps)
        [student] = [update for update in online.updates() if update.name == "student"]
        of_labelled, of_unlabelled = student.losses(online.forward(batch, 0, 0))
    assert of_labelled["A_cd"].item() == pytest.approx(50 * naive(twins, batch["input"]), rel=1e-4)
    assert "U_cd" not in of_unlabelled and "U_ssim" in of_unlabelled

    of_labelled["A_cd"].backward()
    assert nets["G"].get_parameter("0.weight").grad.ne(0).any()
    assert all(layer[0].weight.grad.ne(0).any() for layer in nets["connectors"].layers)
    assert all(p.grad is None for name in ("wide", "deep") for p in nets[name].parameters())
    learning = {id(p) for group in student.optimizers[0].param_groups for p in group["params"]}
    assert learning == {id(p) for name in ("G", "connectors") for p in nets[name].parameters()}


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("taps", [PATHS, None], ids=["named", "by themselves"])
def test_they_lead_from_the_student_s_widths_to_the_teacher_s_and_are_in_no_result(work, tmp_path, taps):
    short = replace(work, training=work.training.model_copy(update={"max_steps": 2}))
    result = few.go(tmp_path, short, few.settings(nas=False, lambda_cd=50, taps=taps))
    assert result.students.keys() == {"G"}
    whole = few.whole()
    assert result.students["G"].state_dict().keys() <= whole.network.state_dict().keys()
    first, second = (line["losses"]["A_cd"] for line in tiny.logged(tmp_path, "finetune"))
    assert first > 0 and second != first
    kept, ours, theirs = (tiny.saved(tmp_path, "finetune", name) for name in ("connectors", "G", "wide"))
    assert kept["layers.0.1.num_batches_tracked"] == 2 and "layers.0.0.bias" not in kept
    if taps == PATHS:  # the convolutions before these activations
        for place, made_by in enumerate(("3", "7")):
            axis = 1 if made_by == "7" else 0  # of a transposed one
            widths = tuple(state[f"{made_by}.weight"].shape[axis] for state in (theirs, ours))
            assert kept[f"layers.{place}.0.weight"].shape == (*widths, 1, 1) and widths[0] > widths[1]


@pytest.mark.slow
@pytest.mark.parametrize("nas", [False, True])
def test_a_layer_that_is_not_there_is_refused_before_anything_is_trained(work, tmp_path, nas):
    with pytest.raises(ValueError, match="no submodule 'nope' to tap") as error:
        few.go(tmp_path, few.untaught(work), few.settings(nas=nas, lambda_cd=50, taps=("nope",)))
    assert "\n" not in str(error.value) and few.begun(tmp_path) == {}
