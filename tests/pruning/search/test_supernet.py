"""Any cut of a network run on views of its weights computes what `extract` makes of the same plan, and leaves no trace."""

import copy

import numpy as np
import pytest
import torch
import wild_shapes
import wild_sharing
from test_topologies import CASES, difference, shaken
from test_wild import flat
from topologies import Net, conv
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from wild import WILD, drawn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.extra_blocks import extra_sites, with_extra_blocks
from ganshrink.pruning import Plan, extract
from ganshrink.pruning.search.space import space_of
from ganshrink.pruning.search.supernet import Supernet
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

assert wild_shapes and wild_sharing  # they fill the table
# network, options, size of the image, inserted blocks
NETWORKS = {
    "resnet6": ("resnet6", {"ngf": 8, "blocks": 2}, (32, 40), 2),
    "resnet6 affine": ("resnet6", {"ngf": 8, "blocks": 1, "affine": True}, (32, 40), 1),
    "resnet6 batch": ("resnet6", {"ngf": 8, "blocks": 1, "norm": "batch"}, (32, 40), 2),
    "mobile_resnet9": ("mobile_resnet9", {"ngf": 8, "blocks": 2, "affine": True}, (32, 40), 1),
    "unet128": ("unet128", {"ngf": 8}, (128, 128), 1),
    "unet instance": ("unet128", {"ngf": 8, "downs": 5, "norm": "instance", "dropout": 0.5}, (64, 96), 2),
    "cartoongan": ("cartoongan", {"ngf": 8, "blocks": 1}, (32, 40), 1),
    "incres9": ("incres9", {"ngf": 12, "blocks": 1}, (32, 40), 2),
}
TOLD = {"resnet6 batch"}  # the topologies below hold what the others have
TOPOLOGIES = (
    "nested residual", "dense concat", "concat with itself", "u-net", "glu by chunk", "depthwise with a multiplier",
    "grouped transposed", "functional depthwise", "shared convolution called twice", "tied weights", "scaled weights",
    "one-dimensional", "three-dimensional", "instance norm with running statistics", "batch norm without a scale",
    "functional norms", "group norm", "squeeze and excitation with linears", "learned constant", "prelu per channel",
    "spade", "adain from a linear", "self-attention with sizes from x.shape", "pixel shuffle in the middle",
    "channel shuffle", "flatten to a linear", "dropout", "sigmoid before an affine norm", "weights used both ways",
)  # fmt: skip
TOLD_KINDS = {
    "nested residual", "u-net", "glu by chunk", "tied weights", "group norm", "channel shuffle",
    "flatten to a linear",
}  # fmt: skip
USERS = (
    "recurrent refinement",
    "one norm for two tensors",
    "siamese encoder",
    "two modules share weight and bias",
    "switchable norm",
    "channels-last weights",
    "separable, grouped, transposed, dilated",
    "convolutional lstm from zeros",
    "one module under two names",
)


def grown(name):
    """(network, channels, space): with inserted blocks that are no identity, all norms at random."""
    torch.manual_seed(0)
    kind, options, size, count = NETWORKS[name]
    example = torch.randn(1, 3, *size)
    network = shaken(with_extra_blocks(nets.build(kind, **options), (example,), count))
    channels = trace(network, example)
    number = {group.name: place for place, group in enumerate(channels.groups)}
    sites = [[number[f"{path}.body.1"] for path in site] for site in extra_sites(network)]
    return network, channels, space_of(channels, steps=4, sites=sites)


def plans(channels, space, seed=0):
    """Scattered cuts, and members of the space: no block, some, all."""
    rng = np.random.default_rng(seed)
    members = [space.smallest(), space.shallow().largest(), space.deep().smallest(), space.random(rng)]
    return [Plan.random(channels, removed) for removed in (0.3, 0.9)] + [
        space.plan(channels, widths) for widths in members
    ]


def some_plan(channels, space):
    return space.plan(channels, space.random(np.random.default_rng(1)))


def made(network, inputs, **options):
    """Its outputs; what a network draws is the same each time, and inputs are no one's to write into."""
    torch.manual_seed(1)
    return flat(network(*(t.clone() for t in inputs), **options))


def content(network):
    """All that a pass could leave behind: tensors, which objects they are, modules, plain attributes, hooks."""
    plain = (bool, int, float, str, tuple)
    return (
        {name: tensor.clone() for name, tensor in network.state_dict().items()},
        [(name, id(t)) for kind in ("parameters", "buffers")
         for name, t in getattr(network, f"named_{kind}")(remove_duplicate=False)],
        [(path, id(m), {k: v for k, v in vars(m).items() if isinstance(v, plain)}, len(m._forward_hooks))
         for path, m in network.named_modules(remove_duplicate=False)],
    )  # fmt: skip


def assert_untouched(network, before):
    tensors, objects, modules = content(network)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in before[0].items())
    assert (objects, modules) == before[1:]


def assert_subnet_is_extracted(supernet, plan, inputs):
    """Nearly, since kernels may take another way through views. In training last: the small network counts that pass."""
    small, subnet = extract(supernet.network, supernet.channels, plan), supernet.subnet(plan)
    for training in (False, True):
        supernet.network.train(training), small.train(training)
        before = content(supernet.network)
        with torch.no_grad():
            ours, theirs = made(supernet, inputs, subnet=subnet), made(small, inputs)
        assert [t.shape for t in ours] == [t.shape for t in theirs]
        assert difference(ours, theirs) < 1e-5
        assert_untouched(supernet.network, before)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", rest_exhaustive(NETWORKS, TOLD.__contains__))
def test_every_subnet_of_every_network_is_the_extracted_one(name):
    """With batch norms too, in evaluation by the same share of the whole network's statistics."""
    network, channels, space = grown(name)
    supernet, size = Supernet(network, channels), NETWORKS[name][2]
    for plan in plans(channels, space):
        assert_subnet_is_extracted(supernet, plan, [torch.randn(2, 3, *size)])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", rest_exhaustive(NETWORKS, TOLD.__contains__))
def test_without_a_subnet_it_is_the_network(name):
    network, channels, _ = grown(name)
    supernet, x = Supernet(network, channels), torch.randn(2, 3, *NETWORKS[name][2])
    for training in (True, False):
        plain = copy.deepcopy(network.train(training))
        [ours], [whole], [theirs] = (
            made(supernet, [x]),
            made(supernet, [x], subnet=supernet.subnet(Plan.full(channels))),
            made(plain, [x]),
        )
        assert torch.equal(ours, theirs)
        assert torch.equal(whole, theirs)
    # batch norms counted the one pass in training, not the subnet's
    assert all(torch.equal(t, plain.state_dict()[key]) for key, t in network.state_dict().items())


def check_topology(make, draw):
    torch.manual_seed(0)
    network = shaken(make())
    channels = trace(network, *draw())
    supernet, space = Supernet(network, channels), space_of(channels, steps=4)
    for plan in (Plan.random(channels, 0.5), Plan.random(channels, 0.9), some_plan(channels, space)):
        assert_subnet_is_extracted(supernet, plan, draw())


@pytest.mark.parametrize("name", rest_exhaustive(TOPOLOGIES, TOLD_KINDS.__contains__))
def test_small_networks_of_every_kind(name):
    case = CASES[name]
    check_topology(case.make, lambda: [torch.randn(shape) for shape in case.shapes])


@pytest.mark.parametrize("name", rest_exhaustive(USERS, set(USERS[:2] + USERS[-1:]).__contains__))
def test_networks_as_users_bring_them(name):
    case = WILD[name]
    check_topology(case.make, lambda: drawn(case.shapes))


class SelfAdding(nn.Module):
    """A residual block whose sum is its own last line: it goes as an identity."""

    def __init__(self, width):
        super().__init__()
        self.one, self.norm, self.two = conv(width, 6), nn.BatchNorm2d(6), conv(6, width)

    def forward(self, x):
        return x + self.two(self.norm(self.one(x)).relu())


class Holding(nn.Module):
    """Its branches stand in a tuple too, which no registry of modules lists."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 3)
        self.one = nn.Sequential(conv(8, 6), nn.ReLU(), conv(6, 8))
        self.branches = (self.one,)

    def forward(self, x):
        h = self.a(x)
        return self.b(sum((branch(h) for branch in self.branches), h))


class Regrouped(nn.Module):
    """Its layers are listed once by name and once in order: every module has two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU())
        self.last = conv(8, 3)
        self.whole = nn.Sequential(self.first, self.last)

    def forward(self, x):
        return self.whole(x)


@pytest.mark.parametrize(
    ("make", "group"),
    [
        (lambda: nn.Sequential(conv(3, 8), SelfAdding(8), SelfAdding(8), conv(8, 3)), "1.one"),
        (lambda: Net(lambda s, x: s.c(x + s.branch(x)), branch=nn.Sequential(conv(3, 6), conv(6, 3)), c=conv(3, 3)),
         "branch.0"),
        (Holding, "one.0"),
    ],
    ids=("block that adds by itself", "branch", "branch that is held elsewhere too"),
)  # fmt: skip
def test_a_module_that_nothing_is_left_of_is_skipped(make, group):
    torch.manual_seed(0)
    network = shaken(make())
    x = torch.randn(2, 3, 8, 12)
    channels = trace(network, x)
    keep = Plan.random(channels, 0.3).keep
    keep[next(g.atoms for g in channels.groups if g.name == group)] = False
    assert_subnet_is_extracted(Supernet(network, channels), Plan(keep), [x])


@pytest.mark.parametrize("removed", [0.0, 0.5])
def test_layers_that_are_listed_twice(removed):
    torch.manual_seed(0)
    network, x = shaken(Regrouped()), torch.randn(2, 3, 8, 12)
    channels = trace(network, x)
    plan = Plan.random(channels, removed)
    assert_subnet_is_extracted(Supernet(network, channels), plan, [x])


@pytest.mark.exhaustive
def test_a_u_nets_decoder_reads_a_segment_of_each_tensor_that_was_joined():
    """Its input is [skip, up]: of a weight's rows those from 0, and those from the skip's full width on."""
    network, channels, space = grown("unet128")
    supernet = Supernet(network, channels)
    plan = space.plan(channels, space.between(0.4, np.ones(len(space.choices) + len(space.sites))))
    subnet = supernet.subnet(plan)
    joined = {f"up.{n}.1": (f"down.{6 - n}.1", f"up.{n - 1}.1") for n in range(1, 6)}
    joined |= {"head.1": ("down.0.0", "up.5.1")}

    def width(layer, axis):
        return int(plan.keep[channels.axes[f"{layer}.weight"][axis]].sum())

    seen = {}
    for path in joined:
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: seen.update({path: (inputs[0], module.weight)})
        )
    supernet(torch.randn(1, 3, 128, 128), subnet=subnet)
    for path, (skip_layer, up_layer) in joined.items():
        weight = network.get_submodule(path).weight  # (in, out, kernel, kernel)
        full = len(channels.axes[f"{skip_layer}.weight"][0])
        skip, up, outside = width(skip_layer, 0), width(up_layer, 1), width(path, 1)
        assert 0 < skip < full and up > 0
        expected = torch.cat([weight[:skip], weight[full : full + up]])[:, :outside]
        inputs, used = seen[path]
        assert inputs.shape[1] == skip + up
        assert torch.equal(used, expected)
        assert not torch.equal(used, weight[: skip + up, :outside])  # what a plain prefix would take
        assert dict(subnet.pieces[f"{path}.weight"])[0] == ((0, skip), (full, up))


def stopped(*_):
    raise RuntimeError("stopped on the way")


@pytest.mark.exhaustive
@pytest.mark.parametrize("fails", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_the_network_is_whole_again_after_a_pass_and_after_one_that_fails(fails):
    network, channels, space = grown("mobile_resnet9")
    supernet, x = Supernet(network, channels), torch.randn(1, 3, 32, 40)
    subnet = supernet.subnet(space.plan(channels, space.smallest()))
    layer = network.blocks[1].body[1][0]  # depthwise, behind the inserted blocks of the stem
    groups = []
    layer.register_forward_hook(lambda module, *_: groups.append((module.groups, len(module.weight))))
    if fails:
        network.up[-1].register_forward_hook(stopped)
    before = content(network)
    if fails:
        with pytest.raises(RuntimeError, match="stopped on the way"):
            supernet(x, subnet=subnet)
    else:
        supernet(x, subnet=subnet)
    assert_untouched(network, before)
    assert groups == [(8, 8)]
    assert layer.groups == len(layer.weight) == 32
    assert len(subnet.removed) == sum(map(len, space.sites)) == 4


@pytest.mark.parametrize("normed", [weight_norm, spectral_norm, nn.utils.spectral_norm])
def test_parametrized_networks_are_refused(normed):
    network = nn.Sequential(normed(conv(3, 8)), nn.ReLU(), conv(8, 3))
    channels = trace(network, torch.randn(1, 3, 8, 12))
    with pytest.raises(ValueError, match="fold the network's parametrizations first") as caught:
        Supernet(network, channels)
    assert "\n" not in str(caught.value)


def test_another_network_than_the_traced_one_is_refused():
    channels = trace(nets.build("resnet6", ngf=4, blocks=1), torch.randn(1, 3, 16, 16))
    for options, problem in (
        ({"ngf": 8, "blocks": 1}, r"down.1.weight has shape \(8, 3, 7, 7\)"),
        ({"ngf": 4, "blocks": 0}, "no blocks.0"),
    ):
        with pytest.raises(ValueError, match=problem) as caught:
            Supernet(nets.build("resnet6", **options), channels)
        assert "\n" not in str(caught.value)


def test_plans_that_cannot_be_carried_out_are_refused():
    network, channels, _ = grown("resnet6")
    supernet = Supernet(network, channels)
    free = next(group for group in channels.groups if group.frozen is None and not group.removable)
    frozen = next(group for group in channels.groups if group.frozen is not None)
    for atoms, problem in ((free.atoms, "at least one must stay"), (frozen.atoms[:1], "which is frozen")):
        keep = torch.ones(channels.num_atoms, dtype=torch.bool)
        keep[atoms] = False
        with pytest.raises(ValueError, match=problem):
            supernet.subnet(Plan(keep))
    with pytest.raises(ValueError, match=f"the plan has 3 atoms, the network {channels.num_atoms}"):
        supernet.subnet(Plan(torch.ones(3, dtype=torch.bool)))
