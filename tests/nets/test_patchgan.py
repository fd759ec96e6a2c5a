"""Two discriminators that share their first layers."""

import copy

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.nets.patchgan import second_head
from ganshrink.training.tasks.cyclegan import CycleGANConfig
from ganshrink.training.tasks.task import new_discriminator


@pytest.mark.parametrize("shared", [0, 1, 3, 4, 5, 9])
def test_discriminators_share_their_first_convolutions_and_what_belongs_to_them(shared):
    judge = nets.build("patchgan", ndf=4)
    whole = copy.deepcopy(judge.state_dict())
    other = second_head(judge, shared)
    assert other is not judge
    same = [one is two for one, two in zip(judge.layers, other.layers, strict=True)]
    convs = [place for place, layer in enumerate(judge.layers) if isinstance(layer, nn.Conv2d)]
    assert len(convs) == 5
    assert [same[place] for place in convs] == [number < shared for number in range(5)]
    assert same == sorted(same, reverse=True)
    for head in (judge, other):
        assert all(torch.equal(tensor, whole[name]) for name, tensor in head.state_dict().items())


@pytest.mark.parametrize(("d_norm", "scales"), [("instance", 0), ("instance_affine", 3), ("batch", 3)])
def test_a_tasks_discriminator_has_norms_with_scales_where_asked(d_norm, scales):
    judge = new_discriminator(3, CycleGANConfig(ndf=4, d_norm=d_norm))
    norms = [m for m in judge.modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]
    assert len(norms) == 3 and sum(norm.affine for norm in norms) == scales
    biases = sum(m.bias is not None for m in judge.modules() if isinstance(m, nn.Conv2d))
    assert biases == (2 if d_norm == "batch" else 5)
