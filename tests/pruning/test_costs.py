"""Closed-form costs against published integers and against counters run on real networks."""

import functools

import pytest
import torch
from test_topologies import shaken
from topologies import CASES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Channels, Plan, extract
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

IMAGE = torch.zeros(1, 3, 256, 256)


@functools.cache
def traced(name: str, **options: str | int) -> tuple[nn.Module, Channels]:
    """A network of the published size, and its channels at 256 x 256."""
    model = nets.build(name, **options)
    return model, trace(model, IMAGE)


@pytest.mark.parametrize(
    ("name", "options", "params", "exact", "paper"),
    rest_exhaustive(
        [
            ("resnet9", {}, 11_378_179, 49_551_507_456, 56_799_264_768),
            ("resnet9", {"ngf": 32}, 2_850_563, 12_696_158_208, 14_508_097_536),
            ("unet256", {}, 54_413_955, 6_048_186_368, 18_140_364_800),
            ("unet256", {"ngf": 32}, 13_608_259, 1_549_795_328, 4_648_337_408),
            ("incres9", {}, 8_154_255, 36_242_644_992, 43_490_402_304),
            ("mobile_resnet9", {}, 1_987_075, 11_066_671_104, 18_314_428_416),
            ("mobile_resnet9", {"ngf": 48}, 1_130_883, 6_488_064_000, 10_564_927_488),
            ("mobile_resnet9", {"ngf": 32}, 514_307, 3_117_416_448, 4_929_355_776),
            ("cartoongan", {}, 11_129_667, 54_383_345_664, 61_631_102_976),
            ("cartoongan", {"kernel": 3}, 11_114_307, 53_376_712_704, 60_624_470_016),
            ("resnet6", {}, 7_837_699, 35_055_992_832, 42_303_750_144),
            ("unet128", {}, 41_828_995, 6_023_020_544, 18_052_284_416),
        ],
        lambda case: case[0] not in {"unet128", "resnet6"} and case[1].get("ngf") != 48,
    ),
)
def test_published_integers(name, options, params, exact, paper):
    model, channels = traced(name, **options)
    assert channels.cost().macs == exact
    assert channels.cost(convention="paper").macs == paper
    assert channels.cost().params == params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "gibi", "weights", "mebi"),
    [
        ("resnet9", {}, "52.8984", 11_372_928, "43.38"),  # printed: 52.90 G; its 43.51 MB is another count
        ("resnet9", {"ngf": 32}, "13.5117", 2_847_936, "10.86"),
        ("cartoongan", {}, "57.3984", 11_114_880, "42.40"),
        ("cartoongan", {"kernel": 3}, "56.4609", 11_099_520, "42.34"),  # printed as 56.46 G
    ],
)
def test_gan_slimming_counts_in_binary_units(name, options, gibi, weights, mebi):
    """r_s is of the paper's multiply-accumulates in 2^30, r_c of weights in 2^20 of 4 bytes each: the numbers in tensors
    of more than one axis, so no bias and no norm."""
    model, channels = traced(name, **options)
    assert f"{channels.cost(convention='paper').macs / 2**30:.4f}" == gibi
    counted = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert counted == weights
    assert f"{4 * counted / 2**20:.2f}" == mebi


@pytest.mark.parametrize(
    ("name", "options", "paper", "counted_by_cat"),
    [
        ("incres9", {}, 43_490_402_304, 43_527_405_568),
        ("mobile_resnet9", {}, 18_314_428_416, 18_365_808_640),  # printed as 18.37 G beside 18.31 G
        ("mobile_resnet9", {"ngf": 48}, 10_564_927_488, 10_603_462_656),
        ("mobile_resnet9", {"ngf": 32}, 4_929_355_776, 4_955_045_888),
    ],
)
def test_the_counter_of_cat_adds_one_per_element_of_each_norm_without_statistics(
    name, options, paper, counted_by_cat
):
    with torch.device("meta"):
        model = nets.build(name, **options)
        extra = 0

        def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            nonlocal extra
            extra += output.numel()

        for module in model.modules():
            if isinstance(module, nn.InstanceNorm2d):
                module.register_forward_hook(count)
        model(torch.empty(1, 3, 256, 256))
    assert paper + extra == counted_by_cat


def counted(model: nn.Module, *inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("resnet9", {"ngf": 8, "blocks": 2}, (16, 24)),
        ("unet256", {"ngf": 8, "downs": 5}, (32, 64)),
        pytest.param("incres9", {"ngf": 12, "blocks": 2}, (16, 24), marks=pytest.mark.exhaustive),
        ("incres9", {"ngf": 12, "blocks": 2, "norm": "batch"}, (16, 24)),
        ("unet128", {"ngf": 8, "downs": 6}, (64, 64)),
        ("mobile_resnet9", {"ngf": 8, "blocks": 2}, (16, 24)),
        ("mobile_resnet9", {"ngf": 8, "blocks": 2, "norm": "batch"}, (16, 24)),
        ("cartoongan", {"ngf": 8, "blocks": 2}, (16, 24)),
        ("patchgan", {"ndf": 8, "in_channels": 3}, (32, 48)),
    ],
)
def test_costs_of_plans_are_those_of_the_extracted_networks(name, options, size):
    torch.manual_seed(0)
    model = shaken(nets.build(name, **options))
    x = torch.randn(1, 3, *size)
    channels = trace(model, x)
    assert channels.cost().macs == counted(model, x)
    for seed in range(4):
        plan = Plan.random(channels, 0.2 + 0.2 * seed, seed=seed)
        student = extract(model, channels, plan)
        cost = channels.cost(plan)
        assert cost.macs == counted(student, x)
        assert cost.params == sum(p.numel() for p in student.parameters())
        assert cost.bytes == sum(t.nbytes for t in student.state_dict().values())


@pytest.mark.parametrize(
    "name",
    [
        "shared convolution called twice",
        "tied weights",
        "grouped",
        "grouped transposed",
        "depthwise with a multiplier",
        "depthwise transposed",
        "flatten to a linear",
        "channels last inside",
        "unfold",
        "einsum",
        "three-dimensional",
        "pixel shuffle in the middle",
    ],
)
def test_macs_of_unusual_layers(name):
    torch.manual_seed(0)
    case = CASES[name]
    model = case.make().eval()
    example = [torch.randn(shape) for shape in case.shapes]
    channels = trace(model, *example)
    images = example[0].shape[0]
    plan = Plan.random(channels, 0.5)
    assert channels.cost().macs * images == counted(model, *example)
    assert channels.cost(plan).macs * images == counted(extract(model, channels, plan), *example)


class Timed(nn.Module):
    """A time step and a label, vectors of one number per image, and a learned map that there is once for all images."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.label = (
            nn.Sequential(nn.Linear(6, 10), nn.SiLU(), nn.Linear(10, 8)),
            nn.Embedding(5, 8),
        )
        self.place, self.map = nn.Parameter(torch.randn(1, 4, 8, 12)), nn.Conv2d(4, 8, 1)
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, t, y):
        waves = torch.sin(t.float()[:, None] * torch.arange(1, 7))
        style = self.time(waves) + self.label(y)
        place = self.map(self.place.expand(len(x), -1, -1, -1)) + self.map(self.place)
        return self.two(torch.relu(self.one(x) + place + style[:, :, None, None]))


@pytest.mark.parametrize("images", [1, 2, 3])
def test_vectors_count_once_per_image_and_constants_once(images):
    torch.manual_seed(0)
    model = shaken(Timed()).eval()
    example = torch.randn(images, 3, 8, 12), torch.arange(images), torch.arange(images)
    channels = trace(model, *example)
    for seed in range(2):
        plan = Plan.random(channels, 0.5, seed=seed)
        student = extract(model, channels, plan)
        student.requires_grad_(
            False
        )  # torch's counter takes no leaf that wants a gradient as a module's input
        assert channels.cost(plan).macs == counted(student, *example) // images


def test_a_label_alone_counts_once_per_image():
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 6), nn.Linear(6, 2))
    for images in (1, 2):
        assert trace(model, torch.zeros(images).long()).cost().macs == 8 * 6 + 6 * 2


def test_costs_are_per_image():
    model = nets.build("resnet9", ngf=4, blocks=1)
    one, three = (trace(model, torch.randn(n, 3, 16, 16)).cost() for n in (1, 3))
    assert one == three


def test_attention_products_are_listed_apart():
    case = CASES["self-attention with sizes from x.shape"]
    model = case.make().eval()
    x = torch.randn(1, 3, 6, 8)
    channels = trace(model, x)
    tokens = 6 * 8
    assert channels.attention_macs == tokens * tokens * (4 + 8)
    assert channels.cost().macs + channels.attention_macs == counted(model, x)


def test_an_unknown_convention_is_refused():
    channels = trace(nn.Conv2d(3, 3, 1), torch.randn(1, 3, 4, 4))
    with pytest.raises(ValueError, match="exact or paper, got 'flops'"):
        channels.cost(convention="flops")
