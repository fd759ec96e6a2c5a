"""Which layers of a network take time, of what shapes, by which names."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.latency.layers import Layer, Shape, layers_of
from ganshrink.pruning import Plan, extract
from telling import rest_exhaustive

IMAGE = torch.zeros(1, 3, 16, 24)


class EveryKind(nn.Module):
    """One of each: normed, called twice, dilated in groups, depthwise, that with a multiplier, transposed, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.normed = spectral_norm(nn.Conv2d(3, 8, 5, stride=2, padding=2))
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=4)
        self.depthwise = nn.Conv2d(16, 16, (3, 1), padding=(1, 0), groups=16)
        self.multiplied = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.transposed = weight_norm(nn.ConvTranspose2d(32, 6, 3, stride=2, padding=1, output_padding=1))
        self.linear = nn.Linear(6, 5)
        self.bare = nn.Linear(5, 3, bias=False)

    def forward(self, x):
        h = F.relu(self.normed(x))
        h = self.twice(F.relu(self.twice(h)))
        h = self.multiplied(self.depthwise(F.relu(self.grouped(h))))
        h = self.transposed(h).flatten(2).transpose(1, 2)  # (1, 384, 6), as attention has it
        return self.bare(F.relu(self.linear(h)))


def shape(kind: str, size: tuple, made: tuple, kernel: tuple, **options) -> Shape:
    plain = {"stride": (1, 1), "padding": (1, 1), "output_padding": (0, 0), "dilation": (1, 1)}
    return Shape(kind, size, made, kernel, **(plain | options))


def test_every_kind_of_layer() -> None:
    small = (8, 12)
    twice = Layer("twice.weight", shape("conv", small, small, (3, 3)), 8, 8)
    assert layers_of(EveryKind(), [IMAGE]) == [
        Layer("normed.weight", shape("conv", (16, 24), small, (5, 5), stride=(2, 2), padding=(2, 2)), 3, 8),
        twice,
        twice,
        Layer(
            "grouped.weight",
            shape("conv", small, small, (3, 3), padding=(2, 2), dilation=(2, 2), groups=4), 8, 16,
        ),
        Layer("depthwise.weight", shape("conv", small, small, (3, 1), padding=(1, 0), depthwise=True), 16, 16),
        Layer("multiplied.weight", shape("conv", small, small, (3, 3), depthwise=True), 16, 32),
        Layer(
            "transposed.weight",
            shape("conv_transpose", small, (16, 24), (3, 3), stride=(2, 2), output_padding=(1, 1)), 32, 6,
        ),
        Layer("linear.weight", Shape("linear", (384,), (384,)), 6, 5),
        Layer("bare.weight", Shape("linear", (384,), (384,)), 5, 3),
    ]  # fmt: skip


def test_names_are_those_of_the_trace() -> None:
    network = EveryKind()
    names = {layer.weight for layer in layers_of(network, [IMAGE])}
    assert names <= set(trace(network, IMAGE).axes)


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_a_transposed_layer_in_groups(groups: int) -> None:
    network = nn.ConvTranspose2d(12, 24, 4, stride=2, padding=1, groups=groups)
    found = layers_of(network, [torch.zeros(1, 12, 5, 7)])
    depthwise = groups == 12
    expected = shape(
        "conv_transpose", (5, 7), (10, 14), (4, 4), stride=(2, 2),
        groups=1 if depthwise else groups, depthwise=depthwise,
    )  # fmt: skip
    assert found == [Layer("weight", expected, 12, 24)]


def test_other_shapes_of_images() -> None:
    assert layers_of(nn.Conv1d(4, 6, 3), [torch.zeros(1, 4, 9)])[0].shape.made == (7,)
    assert layers_of(nn.Conv3d(4, 6, 3), [torch.zeros(1, 4, 9, 8, 7)])[0].shape.made == (7, 6, 5)
    flat = layers_of(nn.Linear(4, 6), [torch.zeros(2, 4)])
    assert flat == [Layer("weight", Shape("linear", (2,), (2,)), 4, 6)]


def test_weights_that_are_activations_are_no_layers() -> None:
    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Conv2d(3, 9, 1)

        def forward(self, x):
            weight = self.kernel(x).mean((0, 2, 3)).view(3, 3, 1, 1)
            return F.conv2d(x, weight)

    assert [layer.weight for layer in layers_of(Dynamic(), [IMAGE])] == ["kernel.weight"]


def test_the_network_stays_as_it_is() -> None:
    network = nn.Sequential(spectral_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    layers_of(network, [IMAGE])
    assert network.training and network[0].training and network[1].training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    rest_exhaustive(["resnet9", "mobile_resnet9", "incres9", "unet256"], "mobile_resnet9".__eq__),
)
def test_widths_follow_from_the_weights_of_a_cut(name: str) -> None:
    """What `widths` reads from a weight's first two axes is what the cut network's layers take and make."""
    network = nets.build(name, ngf=8, **({"downs": 5} if name == "unet256" else {"blocks": 1}))
    image = torch.zeros(1, 3, 32, 64)
    channels = trace(network, image)
    whole = {layer.weight: layer for layer in layers_of(network, [image])}
    student = extract(network, channels, Plan.random(channels, 0.4))
    for layer in layers_of(student, [image]):
        rows, columns = student.get_parameter(layer.weight).shape[:2]
        assert whole[layer.weight].widths(rows, columns) == (layer.inside, layer.outside)


def test_widths_of_every_kind() -> None:
    """By hand: rows and columns of a weight to the channels that its layer takes and makes."""
    kinds = {layer.weight.split(".")[0]: layer for layer in layers_of(EveryKind(), [IMAGE])}
    for name, weight, expected in (
        ("twice", (5, 6), (6, 5)),
        ("grouped", (12, 1), (4, 12)),  # four groups of one input each
        ("depthwise", (7, 1), (7, 7)),
        ("multiplied", (14, 1), (7, 14)),
        ("transposed", (9, 4), (9, 4)),
        ("linear", (4, 6), (6, 4)),
    ):
        assert kinds[name].widths(*weight) == expected, name


def test_shapes_read_like_layers() -> None:
    kinds = {layer.weight.split(".")[0]: str(layer.shape) for layer in layers_of(EveryKind(), [IMAGE])}
    assert kinds["normed"] == "5x5 convolution of stride 2 at 16x24"
    assert kinds["depthwise"] == "depthwise 3x1 convolution of stride 1 at 8x12"
    assert kinds["transposed"] == "3x3 transposed convolution of stride 2 at 8x12"
    assert kinds["linear"] == "linear layer on 384 rows"
