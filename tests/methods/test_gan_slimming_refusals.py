"""What GAN Slimming refuses, with which words; and recipes of earlier versions."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_slimming as tiny
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.methods.base import Job
from ganshrink.methods.gan_slimming import gan_slimming
from ganshrink.nets.layers import Residual
from ganshrink.pruning import Plan
from ganshrink.training.stages import Run
from ganshrink.workflow.recipe import read_recipe

QUICK = Path("recipes/gan_slimming/quick.toml")


def nothing_to_learn() -> tuple[Job, dict]:
    return tiny.job(task=tiny.image2image(lambda_gan=0)), {"beta": 0}


def no_gan_to_prune_by(variant: str) -> Callable[[], tuple[Job, dict]]:
    return lambda: (tiny.job(task=tiny.image2image(lambda_gan=0)), {"variant": variant})


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            nothing_to_learn,
            r"method.beta = 0 leaves nothing but the GAN loss, and task.lambda_gan is 0: set it",
        ),
        *(
            (
                no_gan_to_prune_by(variant),
                rf"method.variant = '{re.escape(variant)}' leaves nothing but the GAN",
            )
            for variant in ("cp", "d+cp", "cp+d", "postq")
        ),
        (
            lambda: (tiny.job(), {"variant": "d", "narrow": {"lambda_triplet": 1}}),
            r"method.narrow.lambda_triplet compares images of the target domain in D: it needs data that have them",
        ),
        (
            lambda: (tiny.job(), {"real": "photos"}),
            r"method.real = 'photos' .* these data have none: use 'teacher'",
        ),
        (lambda: (tiny.job(), {"distance": "perceptual", "vgg": "none.safetensors"}), "none.safetensors"),
        (
            lambda: (tiny.job(), {"search": {"adaptive_rho": True, "rho": 0}}),
            r"method.search.adaptive_rho multiplies method.search.rho, which is 0",
        ),
        (
            lambda: (tiny.job(), {"search": {"start": "fresh"}, "quantization": {"activations": "observed"}}),
            r"activations = 'observed' sees ranges of random weights: with new weights use 'fixed'",
        ),
        (
            lambda: (
                tiny.job(),
                {"inherit_discriminator": False, "search": {"fixed_discriminator": True}},
            ),
            r"method.search.fixed_discriminator .* method.inherit_discriminator = true",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_line_before_anything_is_trained(tmp_path, case, words):
    work, changes = case()

    def teacher() -> dict[str, nn.Module]:
        raise AssertionError("the teacher was asked for")

    object.__setattr__(work, "teacher", teacher)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        gan_slimming(Run(tmp_path), work, tiny.settings(**changes))
    assert "\n" not in str(error.value)
    assert list((tmp_path / "stages").iterdir()) == []


def test_a_discriminator_that_is_to_stay_must_have_come(tmp_path):
    work = tiny.job()
    object.__setattr__(work, "teacher", lambda: {"G": tiny.generator()})
    with pytest.raises(ValueError, match="it came without: name it as teacher.discriminator"):
        gan_slimming(Run(tmp_path), work, tiny.settings(search={"fixed_discriminator": True}))


def test_a_budget_out_of_reach_names_the_least_and_that_the_trunk_could_be_cut(tmp_path):
    work = tiny.job(budget="macs=5%")
    said = "cannot be met; the smallest reachable cost is macs=.* \\((\\d+)\\)"
    least = {}
    for prune_trunk in (False, True):
        with pytest.raises(ValueError, match=said) as error:
            gan_slimming(Run(tmp_path), work, tiny.settings(prune_trunk=prune_trunk, search={"floor": 2}))
        assert str(error.value).endswith("; less with method.prune_trunk = true") != prune_trunk
        least[prune_trunk] = int(re.search(said, str(error.value))[1])
    assert least[True] < least[False]
    channels = trace(tiny.generator(), *tiny.EXAMPLE)
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in channels.groups:
        if group.name in tiny.OTHERS:
            keep[group.atoms[0 if group.removable else 2 :]] = False
    assert channels.cost(Plan(keep)).macs == least[False]


def test_a_branch_with_a_trunk_of_its_own_is_left_alone_unless_asked(tmp_path):
    """Its channels have several producers, so no scales: what they would be cut by is their number."""
    torch.manual_seed(0)
    body = [nn.Conv2d(6, 8, 3, padding=1), Residual(nn.Conv2d(8, 8, 3, padding=1)), nn.ReLU()]
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        Residual(nn.Sequential(*body, nn.Conv2d(8, 6, 3, padding=1))),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 3, 3, padding=1),
    )
    [branch] = [group for group in trace(network, *tiny.EXAMPLE).groups if group.removable]
    assert len(branch.producers) == 2
    work = tiny.job(network, budget="macs=70%", max_steps=0)  # 81 % is the least without the branch
    with pytest.raises(ValueError, match="less with method.prune_trunk = true"):
        gan_slimming(Run(tmp_path), work, tiny.settings())


def test_a_network_that_is_all_trunk_is_refused_in_a_line_that_names_the_way_out(tmp_path):
    trunk = Residual(nn.Conv2d(6, 6, 3, padding=1))
    work = tiny.job(
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), trunk, nn.Conv2d(6, 3, 3, padding=1)), budget="macs=100%"
    )
    with pytest.raises(ValueError, match="method.prune_trunk = false"):
        gan_slimming(Run(tmp_path), work, tiny.settings())


def test_settings_of_earlier_recipes_are_found_in_their_tables():
    moved = ["lr=0.1", "finetune_lr=0.2", "search_epochs=3", "rho=0.4", "floor=5", "round_to=6", "width=0.7"]
    method: Any = read_recipe(QUICK, [f"method.{setting}" for setting in moved]).method
    assert (method.search.lr, method.search.epochs, method.search.rho, method.search.floor) == (
        0.1,
        3,
        0.4,
        5,
    )
    assert (method.finetune.lr, method.finetune.round_to) == (0.2, 6)
    assert (method.narrow.lr, method.narrow.width) == (0.2, 0.7)
