"""Other ways to double the size and to pad: shapes, names of the default, cuts, blocks, files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganshrink import nets
from ganshrink.exporters import export_onnx, open_session
from ganshrink.graph import trace
from ganshrink.nets.extra_blocks import extra_sites, with_extra_blocks
from ganshrink.nets.layers import doubling
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

TINY = {
    "resnet9": {"ngf": 4, "blocks": 1},
    "mobile_resnet9": {"ngf": 4, "blocks": 1},
    "incres9": {"ngf": 4, "blocks": 1},
    "cartoongan": {"ngf": 4, "blocks": 1, "kernel": 3},
    "unet256": {"ngf": 4, "downs": 5, "norm": "instance"},
}
CASES = [
    (name, {"upsample": upsample} | ({} if name == "unet256" else {"padding": padding}))
    for name in TINY
    for upsample, padding in (("resize", "reflect"), ("shuffle", "zeros"), ("transposed", "zeros"))
    if name != "unet256" or upsample != "transposed"
]
TOLD = [("resnet9", "shuffle")]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "options"), rest_exhaustive(CASES, lambda case: (case[0], case[1]["upsample"]) in TOLD), ids=str
)
@torch.no_grad()
def test_it_is_cut_and_exported_as_any_other(name, options, tmp_path: Path):
    torch.manual_seed(0)
    network = nets.build(name, **TINY[name], **options).eval()
    x = torch.randn(2, 3, 32, 64)
    assert network(x).shape == x.shape
    channels = trace(network, x[:1])
    plan = Plan.random(channels, 0.4, seed=0)
    student = extract(network, channels, plan)
    torch.testing.assert_close(student(x), zeroed(network, channels, plan)(x), atol=1e-5, rtol=1e-4)
    assert channels.cost(plan).macs < channels.cost().macs

    export_onnx(student, x[:1], path := tmp_path / "net.onnx", dynamic_size=True)
    session = open_session(path, threads=1)
    for size in ((32, 64), (96, 32)):
        image = torch.rand(1, 3, *size) * 2 - 1
        [made] = session.run(["image"], {"input": image.numpy()})
        assert np.abs(made - student(image).numpy()).max() < 1e-4


@torch.no_grad()
def test_reflecting_and_zeros_have_the_same_names_and_differ_at_the_border_alone():
    """So that weights go from one to the other; inside, what zeros reach no more, they compute the same."""
    for name in ("resnet9", "mobile_resnet9", "incres9", "cartoongan"):
        one, other = (nets.build(name, **TINY[name], padding=padding) for padding in ("reflect", "zeros"))
        assert one.state_dict().keys() == other.state_dict().keys()
    plain = {"ngf": 4, "blocks": 1, "norm": "none"}  # a norm over the image sees its border
    one, other = (nets.build("resnet9", **plain, padding=padding).eval() for padding in ("reflect", "zeros"))
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 3, 64, 64)
    difference = (one(x) - other(x)).abs().amax(1)[0]
    assert float(difference[28:36, 28:36].max()) < 1e-6 < float(difference[0].max())


def test_each_way_doubles_as_it_is_named():
    torch.manual_seed(0)
    x = torch.randn(1, 8, 3, 5)
    for upsample, naive in {
        "resize": lambda conv, x: conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
        "shuffle": lambda conv, x: F.pixel_shuffle(conv(x), 2),
    }.items():
        layers = doubling(8, 4, upsample, padding="zeros")
        [conv] = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        torch.testing.assert_close(nn.Sequential(*layers)(x), naive(conv, x))


@pytest.mark.parametrize("upsample", ["transposed", "resize", "shuffle"])
def test_blocks_go_in_at_the_same_places_whatever_doubles_the_size(upsample):
    network = nets.build("resnet9", ngf=4, blocks=1, upsample=upsample)
    grown = with_extra_blocks(network, (torch.randn(1, 3, 16, 16),), 1)
    sites = extra_sites(grown)
    assert len(sites) == 4
    layers = [grown.get_submodule(site[0].rpartition(".")[0].removesuffix("_extra")) for site in sites]
    assert all(isinstance(layer, nn.ReLU) for layer in layers)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet9",
            {"upsample": "bilinear"},
            "upsample must be transposed, resize or shuffle, got 'bilinear'",
        ),
        ("incres9", {"padding": "zero"}, "padding must be reflect or zeros, got 'zero'"),
        ("unet256", {"padding": "zeros"}, "unet256 has no option 'padding'"),
        ("resnet9", {"antialias": True, "upsample": "resize"}, "antialias doubles the size by blurs"),
    ],
)
def test_what_is_not_there_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        nets.build(name, **options)
