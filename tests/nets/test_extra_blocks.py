"""Residual blocks inserted after every resampling stage: where they go, what they cost, and that they begin as nothing."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.nets.extra_blocks import begin_as_identity, extra_sites, find_stages, with_extra_blocks
from ganshrink.pruning import Plan, extract, initialise
from telling import rest_exhaustive

SMALL = {
    "resnet9": ({"ngf": 8, "blocks": 1}, (16, 24)),
    "resnet6": ({"ngf": 8, "blocks": 1, "norm": "batch"}, (16, 24)),
    "mobile_resnet9": ({"ngf": 8, "blocks": 1, "affine": True}, (16, 24)),
    "unet256": ({"ngf": 8, "downs": 5}, (64, 32)),
    "unet128": ({"ngf": 8, "downs": 6, "norm": "instance", "dropout": 0.5}, (128, 64)),
    "incres9": ({"ngf": 12, "blocks": 1}, (16, 24)),
    "cartoongan": ({"ngf": 8, "blocks": 1}, (16, 24)),
    "gaugan": ({"in_channels": 3, "ngf": 2, "hidden": 4, "doublings": 5, "spectral": False}, (64, 64)),
}


def conv(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride, 1)


def sites_of(network: nn.Module, size: int = 16, count: int = 1) -> list[list[str]]:
    return extra_sites(with_extra_blocks(network, (torch.randn(1, 3, size, size),), count))


def small(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    options, size = SMALL[name]
    return nets.build(name, **options), torch.randn(2, 3, *size)


def macs_of(network: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    return counter.get_total_flops() // 2


def added(name: str, count: int) -> tuple[int, int, int, int]:
    """Sites, and what blocks add at base width 8, 256 x 256: MACs, weights of convolutions, scales and shifts of norms."""
    plain = nets.build(name, ngf=8, **({} if name.startswith("unet") else {"blocks": 1}))
    x = torch.randn(1, 3, 256, 256)
    grown = with_extra_blocks(plain, (x,), count)
    new = [p for key, p in grown.named_parameters() if "_extra." in key]
    weights, others = (sum(p.numel() for p in new if (p.ndim == 4) == kernel) for kernel in (True, False))
    return len(extra_sites(grown)), macs_of(grown, x) - macs_of(plain, x), weights, others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "sites", "published"),
    rest_exhaustive(
        [
            ("unet256", 2, 14, ("20.9", "81.7")),
            ("unet256", 3, 14, ("31.4", "122.5")),
            ("mobile_resnet9", 3, 4, ("58.0", "5.5")),
            ("resnet9", 3, 4, ("58.0", "5.5")),
        ],
        lambda case: case[:2] in [("unet256", 3), ("resnet9", 3)],
    ),
)
def test_the_published_cost_of_the_blocks(name, count, sites, published):
    """At base width 64. Cost is quadratic in the base width, so that an eighth of it has a 64th. No block holds a
    transposed convolution: both conventions agree."""
    halves = [
        (64, 128),
        (128, 64),
        (256, 32),
        (512, 16),
        (512, 8),
        (512, 4),
        (512, 2),
    ]  # width, pixels a side
    stages = 2 * halves if name == "unet256" else [(128, 128), (256, 64), (128, 128), (64, 256)]
    macs = sum(count * 2 * 9 * width**2 * side**2 for width, side in stages)
    weights = sum(count * 2 * 9 * width**2 for width, _ in stages)
    scales = sum(count * 2 * 2 * width for width, _ in stages)
    assert (f"{macs / 1e9:.1f}", f"{weights / 1e6:.1f}") == published
    assert len(stages) == sites
    assert added(name, count) == (sites, macs // 64, weights // 64, scales // 8)


def test_at_base_width_64_the_parameters_are_the_published_ones():
    plain = nets.build("resnet9", blocks=1)
    grown = with_extra_blocks(plain, (torch.randn(1, 3, 32, 32),), 3)
    before, after = (sum(p.numel() for p in net.parameters()) for net in (plain, grown))
    assert after - before == 54 * 102_400 + 12 * 576  # 5.5 M, and scales and shifts


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(SMALL, "unet256".__eq__))
def test_they_begin_as_the_identity(name):
    """Bit for bit, freshly inserted and after an initialisation, in training too; no name of the original changes."""
    plain, x = small(name)
    grown = with_extra_blocks(plain, (x,), 2)
    assert len(extra_sites(grown)) == len(find_stages(plain, (x,))) > 0
    names = list(plain.state_dict())
    kept = [key for key in grown.state_dict() if "_extra." not in key]
    assert kept == names  # and in the same order
    begin_as_identity(initialise(grown))
    again = copy.deepcopy(plain)
    again.load_state_dict({key: grown.state_dict()[key] for key in names})
    for before, after in ((plain, with_extra_blocks(plain, (x,), 1)), (again, grown)):
        for training in (True, False):
            images = []
            for net in (before, after):
                torch.manual_seed(1)  # of dropout
                images.append(copy.deepcopy(net).train(training)(x))
            assert torch.equal(*images)


def test_the_last_scale_alone_is_zero_so_that_blocks_can_learn():
    plain, x = small("resnet6")
    grown = with_extra_blocks(plain, (x,), 1)
    grown(x).square().mean().backward()
    for [path] in extra_sites(grown):
        body = grown.get_submodule(path).body
        assert not body[-1].weight.any() and body[2].weight.all()
        assert body[-1].weight.grad.any()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("resnet6", nn.BatchNorm2d), ("resnet9", nn.InstanceNorm2d), ("unet256", nn.BatchNorm2d)],
)
def test_norms_are_of_the_networks_kind_with_a_scale(name, kind):
    plain, x = small(name)
    grown = with_extra_blocks(plain.double().eval(), (x.double(),), 1)
    for [path] in extra_sites(grown):
        block = grown.get_submodule(path)
        norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]
        assert len(norms) == 2
        assert all(type(norm) is kind and norm.affine for norm in norms)
        assert all(p.dtype == torch.float64 for p in block.parameters())
        assert not any(m.training for m in block.modules())


def test_the_original_is_not_touched():
    plain, x = small("unet128")
    plain.up[0].eval()
    before = {key: tensor.clone() for key, tensor in plain.state_dict().items()}
    flags = [m.training for m in plain.modules()]
    same = with_extra_blocks(plain, (x,), 0)
    with_extra_blocks(plain, (x,), 2)
    assert extra_sites(same) == []
    assert all(torch.equal(tensor, before[key]) for key, tensor in plain.state_dict().items())
    assert list(plain.state_dict()) == list(same.state_dict()) == list(before)
    assert [m.training for m in plain.modules()] == flags == [m.training for m in same.modules()]
    assert not any(m._forward_hooks for net in (plain, same) for m in net.modules())


def test_where_they_go_in_a_u_net():
    """After every level's norm; not behind the innermost one, whose map is a single pixel, nor at the image."""
    plain = nets.build("unet256", ngf=2, downs=5)
    assert sites_of(plain, 32) == [
        [f"{place}_extra.0"]
        for place in ("down.0.0", "down.1.2", "down.2.2", "down.3.2", "up.0.2", "up.1.2", "up.2.2", "up.3.2")
    ]
    assert len(sites_of(plain, 64)) == 9  # now the innermost map has four pixels
    grown = with_extra_blocks(plain, (torch.randn(1, 3, 32, 32),), 1)
    assert [type(layer).__name__ for layer in grown.down[1]] == [
        "LeakyReLU",
        "Conv2d",
        "BatchNorm2d",
        "Sequential",
    ]


@pytest.mark.parametrize(("doublings", "places"), [(5, 5), (6, 6)])
def test_where_they_go_in_gaugan(doublings, places):
    """After every doubling, before the block that reads it."""
    plain = nets.build("gaugan", in_channels=3, ngf=2, hidden=4, doublings=doublings, spectral=False)
    names = ("G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")
    doubled = [name for name in names if doublings == 6 or name != "G_middle_1"]
    assert sites_of(plain, 128) == [[f"doubling.{name}.0_extra.0"] for name in doubled]
    assert len(doubled) == places


class Called(nn.Module):
    """A network that says itself what it does with its parts."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.run(self, *inputs)


def test_a_layer_that_runs_twice_has_none():
    twice = Called(
        lambda s, x: s.up(s.down(s.down(s.stem(x)))),
        stem=conv(3, 8),
        down=nn.Sequential(conv(8, 8, 2), nn.ReLU()),
        up=nn.Sequential(nn.Upsample(scale_factor=2), conv(8, 8), nn.ReLU(), nn.Upsample(scale_factor=2), conv(8, 3)),
    )  # fmt: skip
    assert sites_of(twice) == [["up.2_extra.0"]]


@pytest.mark.parametrize(
    "resize",
    [nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.AvgPool2d(2), nn.MaxPool2d(2)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_resizing_layer_and_its_convolution_are_one_stage(resize):
    wide = 8 // 4 if isinstance(resize, nn.PixelShuffle) else 8
    stem = (conv(3, 8), nn.BatchNorm2d(8))
    stage = (resize, nn.ReflectionPad2d(1), nn.Conv2d(wide, 6, 3), nn.InstanceNorm2d(6), nn.ReLU())
    net = nn.Sequential(*stem, *stage, conv(6, 6), nn.ReLU(), conv(6, 3))
    assert sites_of(net) == [["6_extra.0"]]
    [found] = find_stages(net, (torch.randn(1, 3, 16, 16),))
    assert (found.parent, found.last, found.width, found.norm) == ("", "6", 6, net[5])


def test_a_pool_before_a_strided_convolution_makes_one_stage():
    net = nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 8, 2), nn.ReLU(), conv(8, 3))
    assert sites_of(net, count=3) == [["3_extra.0", "3_extra.1", "3_extra.2"]]


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3)),
        Called(lambda s, x: s.b(F.interpolate(s.a(x), scale_factor=2)), a=conv(3, 8, 2), b=conv(8, 3)),
        nn.Sequential(nn.Sequential(conv(3, 8), nn.AvgPool2d(2)), nn.Sequential(conv(8, 8)), conv(8, 3)),
    ],
    ids=("no resampling", "outside of any sequence", "its convolution is in another sequence"),
)
def test_networks_without_a_place_stay_as_they_are(network):
    x = torch.randn(1, 3, 16, 16)
    grown = with_extra_blocks(network, (x,), 2)
    assert extra_sites(grown) == []
    assert torch.equal(grown(x), network(x))
    assert list(grown.state_dict()) == list(network.state_dict())


def layers() -> nn.Sequential:
    return nn.Sequential(conv(3, 8, 2), nn.ReLU(), conv(8, 8), nn.Upsample(scale_factor=2), conv(8, 3))


def one_by_one(s, x):
    for number in range(5):
        x = s.m[number](x)
    return x


def with_a_skip(s, x):
    """A position that gets another tensor than the layer before made."""
    h = s.m[1](s.m[0](x))
    return s.m[4](s.m[3](s.m[2](torch.cat([h, h], 1))))


def joined() -> nn.Sequential:
    net = layers()
    net[2] = conv(16, 8)
    return net


@pytest.mark.parametrize(
    ("run", "make"),
    [
        (one_by_one, layers),
        (lambda s, x: s.m[3:](F.relu(s.m[:3](x))), layers),
        (with_a_skip, joined),
    ],
    ids=("one by one", "in slices", "with a skip"),
)  # fmt: skip
def test_networks_that_pick_layers_by_position_are_refused(run, make):
    network = Called(run, m=make())
    with pytest.raises(
        ValueError, match="picks layers by their position; set method.extra_blocks = 0"
    ) as caught:
        sites_of(network)
    assert "\n" not in str(caught.value)


def test_a_network_that_draws_noise_is_not_taken_for_one_that_picks_layers():
    assert len(sites_of(Called(lambda s, x: s.m(x + torch.randn_like(x)), m=layers()))) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_a_users_own_sequence_may_be_called_extra(count):
    network = Called(
        lambda s, x: s.m(s.head_extra(x)), head_extra=nn.Sequential(conv(3, 3), nn.ReLU()), m=layers()
    )
    assert sites_of(network, count=count) == [["m.1_extra.0"]][:count]


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet6", pytest.param("unet256", marks=pytest.mark.exhaustive)])
def test_at_depth_d_the_first_d_blocks_of_a_site_run(name):
    """Without the inner channels of a block nothing of it is left, and the network is the one without it."""
    plain, x = small(name)
    grown = with_extra_blocks(plain, (x,), 2).eval()
    for parameter in grown.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    channels, weights = trace(grown, x), grown.state_dict()
    groups = {group.name: group for group in channels.groups}
    for depth in (0, 1, 2):
        late = [groups[f"{path}.body.1"] for site in extra_sites(grown) for path in site[depth:]]
        assert all(group.removable and group.frozen is None for group in late)
        keep = torch.ones(channels.num_atoms, dtype=torch.bool)
        for group in late:
            keep[group.atoms] = False
        cut = extract(grown, channels, Plan(keep))
        expected = with_extra_blocks(plain, (x,), depth).eval()
        expected.load_state_dict({key: weights[key] for key in expected.state_dict()})
        assert cut.state_dict().keys() == expected.state_dict().keys()
        with torch.no_grad():
            assert torch.equal(cut(x), expected(x))
            assert depth == 2 or not torch.allclose(cut(x), grown(x), atol=1e-3)
        assert channels.cost(Plan(keep)).macs == macs_of(expected, x[:1])
