"""Every mask is heard: drawn from 0.5 to -0.3 it moves what the network puts out, or its group is frozen, with a reason.

A norm takes back a factor on what it is given. Between a layer and the last norm that does so there may be anything that
treats each channel alone.
"""

import pytest
import torch
from test_handles import assert_searched_is_cut, eq3, masked
from test_topologies import shaken
from topologies import Net, conv
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import add_affine
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.search.masks import Masks, maskable
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

HEARD = 5e-3


def under_masks(make, x):
    """A network in training mode, its structure, and its masks, all at 7/8."""
    torch.manual_seed(0)
    model = shaken(folded_copy(add_affine(make())))
    channels = maskable(trace(model, x[:1]))
    masks = Masks(model, channels)
    with torch.no_grad():
        masks.inputs.fill_(0.5)
    return model.train(), channels, masks


def effects(model, masks, x) -> dict[str, float]:
    """Per masked layer, by how much the output moves (relative L2) when every other mask of it goes from 7/8 to 0.245."""

    def run() -> Tensor:
        torch.manual_seed(1)
        with torch.no_grad():
            return model(x)

    before, moved = run(), {}
    for layer in masks.layers:
        kept = masks.inputs.detach().clone()
        with torch.no_grad():
            masks.inputs[layer.start : layer.stop : 2] = -0.3
        moved[layer.producer.module] = float((run() - before).norm() / before.norm())
        with torch.no_grad():
            masks.inputs.copy_(kept)
    return moved


BUILT_IN = [  # network, its options, masked layers: all but the head
    ("resnet9", {"ngf": 4, "blocks": 2}, 9),
    ("resnet9", {"ngf": 4, "blocks": 2, "norm": "batch"}, 9),
    ("mobile_resnet9", {"ngf": 4, "blocks": 2}, 9),
    ("mobile_resnet9", {"ngf": 4, "blocks": 2, "norm": "batch"}, 9),
    ("unet256", {"ngf": 4, "downs": 5}, 9),
    ("unet256", {"ngf": 4, "downs": 5, "norm": "instance"}, 9),
    ("incres9", {"ngf": 6, "blocks": 2}, 29),
    ("incres9", {"ngf": 6, "blocks": 2, "norm": "batch"}, 29),
    ("cartoongan", {"ngf": 4, "blocks": 2}, 13),
]
TOLD = [BUILT_IN[0]]


@pytest.mark.parametrize(
    ("name", "options", "layers"), rest_exhaustive(BUILT_IN, TOLD.__contains__), ids=lambda v: str(v)
)
def test_each_mask_of_our_networks_is_heard(name, options, layers):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    model, channels, masks = under_masks(lambda: nets.build(name, **options), x)
    moved = effects(model, masks, x)
    assert len(moved) == layers
    assert {path: effect for path, effect in moved.items() if effect <= HEARD} == {}
    made = {
        producer.module for group in channels.groups if group.frozen is None for producer in group.producers
    }
    assert made == moved.keys()


# ---- what may stand between a layer and the norm that takes a factor on it back


def depthwise(width: int, kernel: int = 3) -> nn.Conv2d:
    return conv(width, width, kernel, groups=width)


def chain(*between: nn.Module):
    """A masked layer "0", what stands behind it, and a head."""
    return nn.Sequential(conv(3, 8), *between, nn.ReLU(), conv(8, 3))


def instance() -> nn.Module:
    return nn.InstanceNorm2d(8, affine=True)


CHAINS = {  # name: how it is made, the module on whose scale and shift its masks act
    "relu, batch norm": (lambda: chain(nn.ReLU(), nn.BatchNorm2d(8)), "2"),
    "leaky relu, instance norm": (lambda: chain(nn.LeakyReLU(0.2), instance()), "2"),
    "upsample, instance norm": (lambda: chain(nn.Upsample(scale_factor=2), instance()), "2"),
    "average pool, instance norm": (lambda: chain(nn.AvgPool2d(2), instance()), "2"),
    "max pool, batch norm": (lambda: chain(nn.MaxPool2d(2), nn.BatchNorm2d(8)), "2"),
    "padding, instance norm": (lambda: chain(nn.ReflectionPad2d(2), instance()), "2"),
    "zero padding, batch norm": (lambda: chain(nn.ZeroPad2d(1), nn.BatchNorm2d(8)), "2"),
    "dropout, instance norm": (lambda: chain(nn.Dropout(0.3), instance()), "2"),
    "depthwise, instance norm": (lambda: chain(depthwise(8), instance()), "2"),
    "depthwise without a bias, batch norm": (
        lambda: chain(conv(8, 8, groups=8, bias=False), nn.BatchNorm2d(8)),
        "2",
    ),
    "two norms": (lambda: chain(nn.BatchNorm2d(8), instance()), "2"),
    "batch norm, relu, padding, depthwise, instance norm": (
        lambda: chain(nn.BatchNorm2d(8), nn.ReLU(), nn.ZeroPad2d(1), conv(8, 8, groups=8), instance()),
        "5",
    ),
    "relu alone": (lambda: chain(nn.ReLU()), "0"),
    "relu, depthwise": (lambda: chain(nn.ReLU(), depthwise(8)), "0"),
    "instance norm, relu, depthwise": (lambda: chain(instance(), nn.ReLU(), depthwise(8)), "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", rest_exhaustive(CHAINS, list(CHAINS)[::4].__contains__))
def test_a_mask_acts_on_the_last_norm_behind_its_layer(name):
    make, place = CHAINS[name]
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    model, _, masks = under_masks(make, x)
    [(path, effect)] = effects(model, masks, x).items()
    assert path == "0" and effect > HEARD
    [layer] = masks.layers
    module = model.get_submodule(place)
    assert [(handle.module is module, handle.name) for handle in layer.handles] == [
        (True, "weight"),
        (True, "bias"),
    ]
    model, channels, masks = masked(make, x[:1])
    student = assert_searched_is_cut(model, channels, masks, [x])
    assert 0 < student[0].out_channels < 8


@pytest.mark.parametrize("name", ["relu, batch norm", "depthwise, instance norm", "relu alone"])
def test_a_mask_behind_the_norm_is_a_factor_on_what_the_norm_puts_out(name):
    make, place = CHAINS[name]
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    model, _, masks = under_masks(make, x)
    given = []
    hook = model.get_submodule(place).register_forward_hook(
        lambda module, inputs, output: given.append(output)
    )
    with torch.no_grad():
        masks.inputs.fill_(2.0)
        model(x)
        masks.inputs.copy_(inputs := torch.linspace(-1.2, 1.2, 8))
        model(x)
    hook.remove()
    torch.testing.assert_close(given[1], given[0] * eq3(inputs)[:, None, None], rtol=1e-4, atol=1e-5)


FUNCTIONAL = {  # a norm without a scale has the last word
    "relu": lambda s, x: s.c(torch.relu(instance_norm(torch.relu(s.a(x))))),
    "upsample": lambda s, x: s.c(instance_norm(nn.functional.interpolate(s.a(x), scale_factor=2))),
    "norm, relu, depthwise": lambda s, x: s.c(torch.relu(instance_norm(s.d(torch.relu(s.n(s.a(x))))))),
}


@pytest.mark.parametrize("name", rest_exhaustive(FUNCTIONAL, list(FUNCTIONAL)[:1].__contains__))
def test_where_the_last_norm_has_no_scale_the_layer_is_frozen(name):
    parts = {"a": conv(3, 8), "b": conv(3, 6), "c": conv(8, 3), "e": conv(6, 3)}
    if "depthwise" in name:
        parts |= {"n": instance(), "d": depthwise(8)}
    beside = lambda s, x: FUNCTIONAL[name](s, x).mean((2, 3), keepdim=True) + s.e(torch.relu(s.b(x)))  # noqa: E731
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    model, channels, masks = under_masks(lambda: Net(beside, **parts), x)
    reasons = {group.name: group.frozen for group in channels.groups}
    assert "norm without a scale has no effect: instance_norm (" in reasons["a"]
    assert [layer.producer.module for layer in masks.layers] == ["b"]
    assert effects(model, masks, x)["b"] > HEARD
    assert_searched_is_cut(*masked(lambda: Net(beside, **parts), x[:1]), [x])


# ---- what is read elsewhere too


ELSEWHERE = {
    "before the norm": (lambda s, x: s.c(torch.relu(s.n(h := torch.relu(s.a(x))))) + s.d(h), "a"),
    "behind the norm": (lambda s, x: s.c(torch.relu(h := s.n(torch.relu(s.a(x))))) + s.d(h), "n"),
    "between two norms": (lambda s, x: s.c(s.m(torch.relu(h := s.n(s.a(x))))) + s.d(h), "n"),
}


@pytest.mark.parametrize("where", rest_exhaustive(ELSEWHERE, list(ELSEWHERE)[:1].__contains__))
def test_a_mask_acts_before_what_is_read_twice(where):
    run, place = ELSEWHERE[where]

    def make():
        norms = {"n": instance()} | ({"m": instance()} if "two" in where else {})
        return Net(run, a=conv(3, 8), **norms, c=conv(8, 3), d=conv(8, 3))

    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    model, _, masks = under_masks(make, x)
    assert effects(model, masks, x)["a"] > HEARD
    [layer] = masks.layers
    assert {handle.module for handle in layer.handles} == {model.get_submodule(place)}
    assert_searched_is_cut(*masked(make, x[:1]), [x])
