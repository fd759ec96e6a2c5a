"""Where masks act: on what a layer puts out, behind its norm, so that the network searched is the network cut."""

import copy

import pytest
import torch
import wild_attention
import wild_shapes
import wild_sharing
from test_topologies import difference, shaken
from topologies import CASES, Net, conv
from torch import nn
from wild import WILD, drawn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.layers import Residual
from ganshrink.pruning import add_affine, extract, zeroed
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.search.masks import Masks, maskable
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

assert wild_attention and wild_shapes and wild_sharing  # they fill the table
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def masked(make, *example, share=0.3, dead=(), alive=(), **settings):
    """A network with norms of every scale and shift, under masks of which this share is 0 and the others 1, for good.

    Layers named `dead` have none but zeros, those named `alive` none but ones.
    """
    torch.manual_seed(0)
    model = shaken(folded_copy(add_affine(make())))
    channels = maskable(trace(model, *(example or (torch.randn(1, 3, 32, 48),))))
    masks = Masks(model, channels, **settings)
    with torch.no_grad():
        free = masks.settled == 0
        drawn = torch.where(torch.rand(len(free)) < share, -1.0, 1.0)
        for layer in masks.layers:
            if layer.producer.module in (*dead, *alive):
                drawn[layer.start : layer.stop] = -1.0 if layer.producer.module in dead else 1.0
        masks.inputs[free] = drawn[free]
    masks.move(0.5)
    return model, channels, masks


def assert_searched_is_cut(model, channels, masks, inputs, *, sees=True):
    """The masked network, the folded, the zeroed and the extracted one; `sees`: what it puts out depends on its input."""

    def run(net, inputs):
        torch.manual_seed(1)
        with torch.no_grad():
            return net.eval()(*(t.clone() for t in inputs))

    searched, plan = run(model, inputs), masks.live()
    assert not sees or difference(run(model, [t.flip(-1) for t in inputs]), searched) > 1e-3
    masks.fold()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    student = extract(model, channels, plan)
    for net in (model, zeroed(model, channels, plan), student):
        assert difference(run(net, inputs), searched) < 1e-5
    assert channels.cost(plan).params == sum(p.numel() for p in student.parameters())
    return student


# ---- placement


def eq3(p):
    """The mask of inputs at boundary 1."""
    return torch.where(p <= 0, (p + 1).clamp_min(0).square() / 2, 1 - (p - 1).clamp_max(0).square() / 2)


def watched(model, x):
    """What convolutions and norms take and give in one pass, in order of their calls, by path."""
    seen = {}

    def keep(path):
        return lambda module, inputs, output: seen.update({path: (inputs[0], output)})

    kinds = (*CONVOLUTIONS, nn.InstanceNorm2d, nn.BatchNorm2d)
    hooks = [m.register_forward_hook(keep(path)) for path, m in model.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


PLACED = [  # network, its options, size of images, masked layers
    ("resnet9", {"ngf": 4}, 32, 23),
    ("mobile_resnet9", {"ngf": 4}, 32, 23),
    ("unet256", {"ngf": 2}, 256, 15),
    ("incres9", {"ngf": 6, "blocks": 2}, 32, 3 + 2 * 12 + 2),
    ("cartoongan", {"ngf": 4, "blocks": 2}, 32, 5 + 2 * 2 + 4),
    ("resnet6", {"ngf": 4, "norm": "batch"}, 32, 3 + 12 + 2),
    ("patchgan", {"ndf": 4, "in_channels": 3}, 32, 4),
]


@pytest.mark.parametrize(
    ("name", "options", "size", "layers"),
    rest_exhaustive(PLACED, lambda case: case[0] == "unet256"),
    ids=[case[0] for case in PLACED],
)
def test_a_mask_multiplies_what_the_norm_puts_out_or_else_the_layer(name, options, size, layers):
    torch.manual_seed(0)
    model = shaken(add_affine(nets.build(name, **options)))
    plain, x = copy.deepcopy(model), torch.randn(1, 3, size, size)
    before = watched(plain, x)
    of = {path: plain.get_submodule(path) for path in before}
    norms = [path for path, module in of.items() if not isinstance(module, CONVOLUTIONS)]
    dense = [path for path, module in of.items() if isinstance(module, CONVOLUTIONS) and module.groups == 1]

    def behind_of(path):
        """The norm that takes what a layer gives, or the layer; that of a depthwise convolution next in its block."""
        found = next((norm for norm in norms if before[norm][0] is before[path][1]), path)
        after = [p for p in of if isinstance(of[p], CONVOLUTIONS)]
        following = after[after.index(path) + 1]
        same = following.rpartition(".")[0] if "branches" in path else ".".join(following.split(".")[:3])
        alone = of[following].groups > 1 and path.startswith(f"{same}.")
        return behind_of(following) if alone else found

    behind = {path: behind_of(path) for path in dense[:-1]}  # of each but the head
    masks = Masks(model, maskable(trace(model, x)))
    assert len(masks.layers) == len(behind) == layers
    factors = {behind[m.producer.module]: eq3(masks.inputs[m.start : m.stop].detach()) for m in masks.layers}
    assert len(factors) == layers
    for path, (taken, given) in watched(model, x).items():
        with torch.no_grad():
            own = of[path](taken)
        factor = factors.get(path, torch.ones(1))
        torch.testing.assert_close(given, own * factor[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["resnet9", pytest.param("mobile_resnet9", marks=pytest.mark.exhaustive)])
def test_a_trunk_channel_has_ten_members(name):
    model = add_affine(nets.build(name, ngf=4))
    masks = Masks(model, channels := maskable(trace(model, torch.randn(1, 3, 32, 32))))
    members = masks.per_atom(torch.ones(len(masks.inputs)))
    assert sorted({len(group.producers) for group in channels.groups if group.frozen is None}) == [1, 10]
    for group in channels.groups:
        if group.frozen is None:
            assert (members[group.atoms] == len(group.producers)).all()


def test_what_no_mask_can_act_on_is_frozen_with_the_place():
    normalised = lambda s, x: s.c(s.b(torch.relu(torch.nn.functional.instance_norm(s.a(x)))))  # noqa: E731
    model = Net(normalised, a=conv(3, 8), b=conv(8, 6), c=conv(6, 3))
    channels = maskable(trace(model, torch.randn(1, 3, 12, 16)))
    reasons = {group.name: group.frozen for group in channels.groups}
    assert "norm without a scale has no effect: instance_norm (" in reasons["a"]
    assert reasons["b"] is None
    assert [layer.producer.module for layer in Masks(model, channels).layers] == ["b"]


def test_group_norms_get_a_scale_too_and_then_masks():
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 12), nn.GroupNorm(4, 12, affine=False), nn.ReLU(), conv(12, 3))
    wide, x = add_affine(model), torch.randn(2, 3, 12, 16)
    torch.testing.assert_close(wide(x), model(x), rtol=1e-6, atol=1e-6)
    assert wide[1].weight.shape == wide[1].bias.shape == (12,)
    assert model[1].weight is None
    assert not any(group.frozen is None for group in maskable(trace(model, x)).groups)
    masks = Masks(wide, maskable(trace(wide, x)))
    [layer] = masks.layers
    assert [(handle.module is wide[1], handle.name) for handle in layer.handles] == [
        (True, "weight"),
        (True, "bias"),
    ]


# ---- the network searched is the network cut

NETS = [
    ("resnet9", {"ngf": 4, "blocks": 2}),
    ("resnet9", {"ngf": 4, "blocks": 2, "norm": "batch"}),
    ("resnet9", {"ngf": 4, "blocks": 2, "norm": "none"}),
    ("mobile_resnet9", {"ngf": 4, "blocks": 2}),
    ("mobile_resnet9", {"ngf": 4, "blocks": 2, "norm": "batch"}),
    ("unet256", {"ngf": 4, "downs": 5}),
    ("unet256", {"ngf": 4, "downs": 5, "norm": "instance"}),
    ("incres9", {"ngf": 6, "blocks": 1}),
    ("incres9", {"ngf": 6, "blocks": 2, "norm": "batch"}),
    ("cartoongan", {"ngf": 4, "blocks": 2}),
]


TOLD = [NETS[0], NETS[5]]  # what their topologies, and norms, do not say of the others


@pytest.mark.parametrize(("name", "options"), rest_exhaustive(NETS, TOLD.__contains__), ids=lambda v: str(v))
def test_our_networks_with_settled_masks(name, options):
    x = torch.randn(2, 3, 64, 64)
    model, channels, masks = masked(lambda: nets.build(name, **options), x[:1])
    assert_searched_is_cut(model, channels, masks, [x])


SMALL = [
    *("nested residual", "dense concat", "u-net", "glu by chunk", "grouped", "one-dimensional", "group norm"),
    *("instance norm with running statistics", "batch norm without a scale", "weight norm", "unfold"),
    *("shared convolution called twice", "scaled weights", "pixel shuffle in the middle", "weights used both ways"),
    *("squeeze and excitation", "self-attention with sizes from x.shape", "multi-head attention", "einsum"),
    *("depthwise", "raw parameter", "sigmoid before an affine norm", "tied weights", "modules used functionally"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    rest_exhaustive(
        SMALL,
        {
            "u-net",
            "grouped",
            "scaled weights",
            "tied weights",
            "self-attention with sizes from x.shape",
        }.__contains__,
    ),
)
def test_small_networks_with_settled_masks(name):
    case = CASES[name]
    torch.manual_seed(1)
    example = [torch.randn(shape) for shape in case.shapes]
    assert_searched_is_cut(*masked(case.make, *example), example)


BROUGHT = [
    *("fixed channels joined", "low-rank weight", "one norm for two tensors", "two norms in a row", "ghost module"),
    *("shufflenet block", "switchable norm", "another module's weight used functionally"),
]  # fmt: skip


@pytest.mark.parametrize(
    "name", rest_exhaustive(BROUGHT, {"fixed channels joined", "ghost module"}.__contains__)
)
def test_networks_as_users_bring_them(name):
    case = WILD[name]
    torch.manual_seed(1)
    example = drawn(case.shapes)
    assert_searched_is_cut(*masked(case.make, *example), example)


# ---- branches, trunks and the narrowest of layers


def resnet():
    return nets.build("resnet9", ngf=4, blocks=2)


@pytest.mark.parametrize(
    "half",
    rest_exhaustive(["blocks.0.body.1", "blocks.0.body.5"], "blocks.0.body.1".__eq__),
    ids=["its first half", "its second half"],
)
def test_a_block_goes_with_either_half(half):
    x = torch.randn(1, 3, 64, 64)
    model, channels, masks = masked(resnet, x, dead=[half], alive=["down.1", "up.0", "up.3"])
    plan = masks.live()
    inner = next(group for group in channels.groups if group.name == "blocks.0.body.1")
    assert not plan.keep[inner.atoms].any()
    student = assert_searched_is_cut(model, channels, masks, [x])
    assert [sum(p.numel() for p in block.parameters()) > 0 for block in student.blocks] == [False, True]


@pytest.mark.exhaustive
def test_a_trunk_channel_lives_while_any_member_does():
    x = torch.randn(1, 3, 64, 64)
    model, channels, masks = masked(resnet, x, share=0.7, alive=["down.1", "up.0", "up.3"])
    of = {layer.producer.module: masks.alive()[layer.start : layer.stop] for layer in masks.layers}
    votes = of["down.7"] | of["blocks.0.body.5"] | of["blocks.1.body.5"]
    some = votes & ~(of["down.7"] & of["blocks.0.body.5"] & of["blocks.1.body.5"])
    assert some.any() and not votes.all()  # every kind is there
    trunk = next(group for group in channels.groups if len(group.producers) == 3)
    atoms = torch.from_numpy(channels.axes["down.7.weight"][0])
    assert torch.equal(masks.live().keep[atoms], votes)
    assert sorted(atoms.tolist()) == sorted(trunk.atoms.tolist())
    student = assert_searched_is_cut(model, channels, masks, [x])
    assert student.down[7].out_channels == int(votes.sum())


@pytest.mark.exhaustive
@pytest.mark.parametrize("floor", [1, 3])
def test_layers_of_which_only_the_floor_is_left(floor):
    x = torch.randn(1, 3, 32, 32)
    layers = [
        "down.0.0",
        *(f"down.{level}.1" for level in range(1, 5)),
        *(f"up.{level}.1" for level in range(4)),
    ]
    make = lambda: nets.build("unet256", ngf=4, downs=5)  # noqa: E731
    model, channels, masks = masked(make, x, dead=layers, floor=floor)
    free = [group for group in channels.groups if group.frozen is None]
    assert len(free) == 9
    assert all(int(masks.live().keep[group.atoms].sum()) == floor for group in free)
    student = assert_searched_is_cut(model, channels, masks, [x], sees=False)
    assert student.down[2][1].out_channels == floor


def test_a_branch_that_is_read_elsewhere_too_stays():
    parts = {
        "stem": conv(3, 8),
        "r": nn.ReLU(),
        "a": conv(8, 6),
        "b": conv(6, 8),
        "d": conv(6, 3),
        "head": conv(8, 3),
    }
    two = lambda s, x: s.head((t := s.stem(x)) + s.b(h := s.r(s.a(t)))) + s.d(h)  # noqa: E731
    x = torch.randn(1, 3, 12, 16)
    model, channels, masks = masked(lambda: Net(two, **parts), x, dead=["b"], alive=["stem", "a"])
    assert masks.live().keep.all()
    assert_searched_is_cut(model, channels, masks, [x])


def pre_activated():
    body = [nn.BatchNorm2d(8), nn.ReLU(), conv(8, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 8)]
    return nn.Sequential(conv(3, 8), Residual(nn.Sequential(*body)), nn.ReLU(), conv(8, 3))


def test_a_trunk_that_only_branches_normalise():
    """Pre-activation: the sum is of convolutions, and the norm at the head of each branch is not on it."""
    x = torch.randn(1, 3, 12, 16)
    model, channels, masks = masked(pre_activated, x)
    assert [handle.module for handle in masks.layers[0].handles] == [model[0], model[0]]
    assert_searched_is_cut(model, channels, masks, [x])


class Factored(nn.Module):
    """Two factors of a weight, multiplied in one call that makes the channels of both."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = (
            nn.Parameter(torch.randn(6, 3)),
            nn.Parameter(torch.randn(8, 6)),
            conv(8, 3),
        )

    def forward(self, x):
        weight = torch.einsum("dc,ed->ec", self.a, self.b)
        return self.head(torch.nn.functional.conv2d(x, weight[:, :, None, None]))


def test_one_call_may_make_the_channels_of_two_parameters():
    torch.manual_seed(0)
    channels = trace(Factored(), torch.randn(1, 3, 8, 8))
    assert {p.parameter for p in channels.producers} >= {"a", "b"}
