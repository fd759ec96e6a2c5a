"""DECIG's Stage I: Eqs. 1 and 2 against loops over layers and channels."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.methods.decig.decig import channel_factors, layer_factors, magnitudes, penalty
from telling import rest_exhaustive

SHAPES = {
    "uniform": lambda j: 1.0,
    "linear": lambda j: float(j),
    "exponential": lambda j: math.exp(0.01 * j),
}


class Gated(nn.Module):
    """A GLU, a grouped convolution, a layer called twice, a linear layer behind a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.r, self.l = nn.Conv2d(12, 12, 1), nn.Linear(12 * 4 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.g(F.glu(self.a(x), 1))
        return self.l(torch.flatten(h + self.r(torch.relu(self.r(h))), 1))


NETS = {
    "unet": (lambda: nets.build("unet128", ngf=4, downs=5), (32, 64)),
    "resnet": (lambda: nets.build("resnet9", ngf=4, blocks=2), (16, 24)),
    "mobile": (lambda: nets.build("mobile_resnet9", ngf=4, blocks=2), (16, 24)),
    "incres": (lambda: nets.build("incres9", ngf=6, blocks=1), (16, 24)),
    "gated": (Gated, (4, 6)),
}


@pytest.fixture(scope="module", params=rest_exhaustive(NETS, {"unet", "gated"}.__contains__))
def traced(request):
    torch.manual_seed(0)
    make, size = NETS[request.param]
    model = make().double()
    return model, trace(model, torch.randn(1, 3, *size, dtype=torch.float64))


def slices(model, channels, consumers):
    """Per atom, the (parameter, axis, position) of every slice that makes it, and of those that read it."""
    found = {atom: [] for atom in range(channels.num_atoms)}
    for path, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        name, weight = f"{path}.weight", module.weight
        made = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        depthwise = getattr(module, "groups", 1) == weight.shape[0] > 1
        for axis in (0,) if depthwise else (made, 1 - made) if consumers else (made,):
            for position, atom in enumerate(channels.axes[name][axis]):
                if atom >= 0:
                    found[int(atom)].append((weight, axis, position))
    return found


def looped(model, channels, consumers):
    """(num_atoms,) magnitudes, one slice after the other."""
    return {
        atom: sum(float(weight.detach().select(axis, position).abs().sum()) for weight, axis, position in its)
        for atom, its in slices(model, channels, consumers).items()
    }


def free(channels):
    return [group for group in channels.groups if group.frozen is None]


@pytest.mark.slow
@pytest.mark.parametrize("importance", rest_exhaustive(["own", "own_plus_consumer"], "own".__eq__))
def test_magnitudes_are_those_of_loops(traced, importance):
    model, channels = traced
    wanted = looped(model, channels, importance == "own_plus_consumer")
    values = magnitudes(model, channels, importance)
    assert list(values) == [group.name for group in free(channels)]
    for group in free(channels):
        expected = torch.tensor([wanted[int(atom)] for atom in group.atoms], dtype=torch.float64)
        assert torch.allclose(values[group.name], expected, rtol=1e-12), group.name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("importance", ["own", "own_plus_consumer"])
def test_the_penalty_and_its_gradient_are_those_of_loops(traced, shape, importance):
    model, channels = traced
    factors = {group.name: 0.5 + number for number, group in enumerate(free(channels))}
    model.zero_grad()
    loss = penalty(model, channels, factors=factors, shape=shape, importance=importance)
    loss.backward()

    where = slices(model, channels, importance == "own_plus_consumer")
    values = looped(model, channels, importance == "own_plus_consumer")
    expected, gradients = 0.0, {p: torch.zeros_like(p) for p in model.parameters()}
    for group in free(channels):
        falling = sorted(group.atoms.tolist(), key=lambda atom: -values[atom])
        for rank, atom in enumerate(falling, start=1):
            factor = factors[group.name] * SHAPES[shape](rank)
            expected += factor * values[atom]
            for weight, axis, position in where[atom]:
                gradients[weight].select(axis, position).add_(
                    factor * weight.detach().select(axis, position).sign()
                )
    assert loss.item() == pytest.approx(expected, rel=1e-6)  # f is made in float32
    for parameter, gradient in gradients.items():
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(got, gradient, rtol=1e-6)


def test_biases_and_norms_do_not_count():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 3, 3))
    channels = trace(model, torch.randn(1, 3, 8, 8))
    before = magnitudes(model, channels, "own_plus_consumer")["0"]
    with torch.no_grad():
        for tensor in (model[0].bias, model[1].weight, model[1].bias, model[1].running_mean, model[2].weight):
            tensor.fill_(100)
    assert torch.equal(magnitudes(model, channels, "own_plus_consumer")["0"], before)


@pytest.mark.slow
def test_channels_of_a_unet_are_read_where_the_concat_puts_them():
    torch.manual_seed(0)
    model = nets.build("unet128", ngf=4, downs=5)
    channels = trace(model, torch.randn(1, 3, 32, 64))
    own, both = (magnitudes(model, channels, i) for i in ("own", "own_plus_consumer"))
    down, inner, head = model.down[0][0].weight, model.down[1][1].weight, model.head[1].weight
    l1 = lambda w, *dims: w.abs().sum(dims)  # noqa: E731
    assert torch.allclose(own["down.0.0"], l1(down, 1, 2, 3))
    assert torch.allclose(both["down.0.0"], l1(down, 1, 2, 3) + l1(inner, 0, 2, 3) + l1(head[:4], 1, 2, 3))
    last = max((name for name in own if name.startswith("up.")), key=lambda n: int(n.split(".")[1]))
    up = model.get_submodule(last).weight  # (in, out, 4, 4)
    assert torch.allclose(own[last], l1(up, 0, 2, 3))
    assert torch.allclose(both[last], l1(up, 0, 2, 3) + l1(head[4:], 1, 2, 3))


def test_small_channels_are_pulled_hardest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([3.0, 1, 8, 2, 6, 4, 7, 5]).reshape(8, 1, 1, 1).expand(8, 3, 1, 1))
    channels = trace(model, torch.randn(1, 3, 4, 4))
    penalty(model, channels, factors={"0": 1.0}, shape="linear", importance="own").backward()
    assert model[0].weight.grad[:, 0, 0, 0].tolist() == [6, 8, 1, 7, 3, 5, 2, 4]


@pytest.mark.parametrize("shape", SHAPES)
def test_factors_are_those_printed(shape):
    expected = [SHAPES[shape](j) for j in range(1, 513)]
    assert channel_factors(512, shape).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_layer_is_weighed_by_its_exact_macs():
    model = nets.build("unet128", ngf=4, downs=5)
    channels = trace(model, torch.randn(1, 3, 32, 64))
    costs = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and path != "head.1":

            def count(module, inputs, output, path=path):
                side = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
                costs[path] = module.weight.numel() * side.shape[2] * side.shape[3]

            module.register_forward_hook(count)
    model.eval()(torch.randn(1, 3, 32, 64))
    mean = sum(costs.values()) / len(costs)
    assert layer_factors(channels) == pytest.approx({path: cost / mean for path, cost in costs.items()})


def test_a_trunk_counts_as_one_of_its_layers_on_average_and_every_call_counts():
    class Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
            self.d, self.e = nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.e(self.d(self.c(h + self.b(torch.relu(self.b(h))))))

    channels = trace(Trunk(), torch.randn(1, 3, 5, 7))
    trunk, narrow = (3 * 8 + 2 * 9 * 8 * 8) / 2, 8 * 4 + 4  # per pixel
    mean = (trunk + narrow) / 2
    assert layer_factors(channels) == pytest.approx({"a": trunk / mean, "c": narrow / mean})


def test_skips_that_are_added_make_no_difference_to_who_made_them():
    """A convolution down and a transposed one up stand between the same two groups."""

    class Hourglass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 10, 3, padding=1)
            self.c, self.d = nn.ConvTranspose2d(10, 6, 1), nn.Conv2d(6, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.d(h + self.c(torch.relu(self.b(h))))

    channels = trace(Hourglass(), torch.randn(1, 3, 5, 7))
    outer, inner = (3 * 6 + 10 * 6) / 2, 9 * 6 * 10
    mean = (outer + inner) / 2
    assert layer_factors(channels) == pytest.approx({"a": outer / mean, "b": inner / mean})


def test_nothing_to_condense_is_said():
    model = nn.Conv2d(3, 3, 1)
    channels = trace(model, torch.randn(1, 3, 4, 4))
    with pytest.raises(ValueError, match="nothing to condense"):
        penalty(model, channels, factors={}, shape="linear", importance="own")
