"""Two discriminators that share their first layers."""

import copy

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.nets.patchgan import second_head


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
