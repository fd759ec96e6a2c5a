"""Closed-form costs against counters run on networks of every kind; ours: nets/test_cutting.py, test_published.py."""

import pytest
import torch
from test_topologies import shaken
from topologies import CASES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract
from telling import rest_exhaustive

pytestmark = pytest.mark.slow


def counted(model: nn.Module, *inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "name",
    rest_exhaustive(
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
        {"tied weights", "grouped transposed", "flatten to a linear", "unfold", "einsum"}.__contains__,
    ),
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


@pytest.mark.parametrize("images", rest_exhaustive([1, 2, 3], (2).__eq__))
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
