"""Norms get a scale to read; the function stays."""

import torch
from test_topologies import shaken
from topologies import conv
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import add_affine, scores


def test_the_function_is_preserved():
    torch.manual_seed(0)
    model = shaken(
        nn.Sequential(
            conv(3, 8), nn.InstanceNorm2d(8), conv(8, 6), nn.BatchNorm2d(6, affine=False), conv(6, 3)
        )
    )
    wide = add_affine(model)
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(model(x), wide(x))
    assert (wide[1].weight == 1).all()
    assert not wide[3].bias.any()
    assert model[1].weight is None
    assert len(list(wide.parameters())) == len(list(model.parameters())) + 4


def test_norms_with_a_scale_keep_it():
    model = shaken(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8)))
    assert torch.equal(add_affine(model)[1].weight, model[1].weight)


def test_every_channel_of_a_plain_resnet_then_has_a_handle():
    model = add_affine(nets.build("resnet9", ngf=4, blocks=1).double())
    channels = trace(model, torch.randn(1, 3, 16, 16, dtype=torch.double))
    assert {p.dtype for p in model.parameters()} == {torch.double}
    free = [g for g in channels.groups if g.frozen is None]
    # As they come, the scales rank nothing: the weights do, until a training moves the scales.
    assert {scores.norm_scale_basis(model, channels)[g.name] for g in free} == {"L2"}
    assert all(len(scores.norm_scale(model, channels)[g.atoms].unique()) == len(g.atoms) for g in free)
    for norm in (m for m in model.modules() if isinstance(m, nn.InstanceNorm2d)):
        nn.init.uniform_(norm.weight)
    assert {scores.norm_scale_basis(model, channels)[g.name] for g in free} == {"norm scale"}
