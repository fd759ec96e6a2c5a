"""What has no rule keeps its channels, with the user's line; what cannot be exported is refused, with a way out."""

import re

import pytest
import torch
import torch.nn.functional as F
from test_topologies import difference, shaken
from topologies import Net, conv
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.graph.rules.pointwise import same
from ganshrink.pruning import Plan, extract, zeroed


class Cube(nn.Module):
    def forward(self, x):
        return torch.kron(x, torch.ones(1, 1, 2, 2))


class Moody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv(8, 8), conv(8, 8)

    def forward(self, x):
        return self.one(x) if x.sum() > 0 else self.two(x)


def line_of(text: str) -> int:
    with open(__file__) as file:  # noqa: PTH123
        return next(number for number, line in enumerate(file, 1) if text in line)


def checked(model, *example, **options):
    channels = trace(model, *example, **options)
    plan = Plan.random(channels, 0.5)
    student, reference = extract(model, channels, plan), zeroed(model, channels, plan)
    with torch.no_grad():
        assert difference(student(*example), reference(*example)) < 1e-5
    return channels


def test_an_operator_without_a_rule_keeps_the_channels_that_touch_it():
    model = nn.Sequential(conv(3, 6), conv(6, 8), Cube(), conv(8, 6), conv(6, 3))
    frozen = {g.name: g.frozen for g in checked(model, torch.randn(1, 3, 8, 8)).groups}
    reason = "aten.kron.default has no rule, so that all its channels stay: kron"
    assert frozen["1"].startswith(reason)
    assert f"test_trace.py:{line_of('torch.kron(x')}" in frozen["1"]
    assert "\n" not in frozen["1"]
    assert frozen["0"] is None
    assert frozen["3"] is None


class Quantized(nn.Module):
    def forward(self, x):
        return torch.fake_quantize_per_tensor_affine(x, 0.01, 0, -128, 127)


@pytest.mark.slow
def test_first_way_out_a_rule():
    model = nn.Sequential(conv(3, 8), nn.ReLU(), Quantized(), conv(8, 3))
    x = torch.randn(1, 3, 8, 8)
    name = "fake_quantize_per_tensor_affine"
    assert f"aten.{name}.default has no rule" in checked(model, x).groups[0].frozen
    for key in (name, f"aten.{name}", f"aten.{name}.default"):
        assert checked(model, x, rules={key: same}).prunable == 8


def test_second_way_out_a_frozen_submodule():
    model = nn.Sequential(conv(3, 8), conv(8, 6), Cube(), conv(6, 3))
    channels = checked(model, torch.randn(1, 3, 8, 8), freeze=["2"])
    groups = {g.name: g for g in channels.groups}
    assert groups["0"].frozen is None
    assert "submodule 2 is frozen on request" in groups["1"].frozen


@pytest.mark.slow
def test_data_dependent_control_flow_freezes_its_submodule():
    model = nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 8), Moody(), conv(8, 6), conv(6, 3))
    x = torch.randn(1, 3, 8, 8)
    for freeze in ([], ["3"]):
        channels = checked(model, x, freeze=freeze)
        groups = {g.name: g for g in channels.groups}
        assert groups["0"].frozen is None
        assert groups["4"].frozen is None
        place = f"test_trace.py:{line_of('if x.sum() > 0')}"
        cannot = rf"submodule 3 cannot be exported: .*{place}"
        assert re.search("frozen on request" if freeze else cannot, groups["2"].frozen)
        pixels = 8 * 8
        assert channels.cost().macs == 9 * pixels * (3 * 6 + 6 * 8 + 8 * 8 + 8 * 6 + 6 * 3)
        assert channels.cost().params == sum(p.numel() for p in model.parameters())


def test_control_flow_of_the_network_s_own_forward_is_refused(capfd):
    model = Net(lambda s, x: s.a(x) if x.mean() > 0 else -s.a(x), a=conv(3, 8))
    with pytest.raises(ValueError) as caught:
        trace(model, torch.randn(1, 3, 8, 8))
    place = rf"test_trace.py:{line_of('if x.mean() > 0')}"
    assert re.search(rf"cannot be exported: .*{place}; freeze the submodule", str(caught.value))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # torch prints the graph so far


class Numpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = conv(8, 8)

    def forward(self, x):
        return self.layer(x) * float(self.layer.weight.detach().numpy().std())


class Power(nn.Module):
    """A spectral norm by hand, which assigns `.data` in every forward (Miyato et al. 2018, as often written)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = conv(8, 8)
        self.u = nn.Parameter(torch.randn(8), requires_grad=False)

    def forward(self, x):
        weight = self.layer.weight.flatten(1)
        self.u.data = F.normalize(weight.data @ F.normalize(weight.data.T @ self.u.data, dim=0), dim=0)
        return self.layer(x) / (self.u @ weight).norm()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("inner", [Numpy, Power, Moody])
def test_two_submodules_that_cannot_be_exported_are_frozen_alone(inner):
    torch.manual_seed(0)
    model = nn.Sequential(
        conv(3, 6), conv(6, 8), inner(), conv(8, 6), conv(6, 8), inner(), conv(8, 6), conv(6, 3)
    )
    model = shaken(model).eval()
    frozen = {g.name: g.frozen for g in checked(model, torch.randn(1, 3, 8, 8)).groups}
    assert [frozen[name] for name in "0367"[:3]] == [None] * 3
    assert "the submodule 2 cannot be exported" in frozen["1"]
    assert "the submodule 5 cannot be exported" in frozen["4"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_frozen_submodule_that_exports_is_counted_and_kept():
    model = shaken(nets.build("resnet9", ngf=8, blocks=2))
    x = torch.randn(1, 3, 16, 16)
    channels = checked(model, x, freeze=["blocks.0"])
    assert channels.cost().macs == trace(model, x).cost().macs
    groups = {g.name: g for g in channels.groups}
    assert "blocks.0 is frozen" in groups["blocks.0.body.1"].frozen
    assert "blocks.0 is frozen" in groups["down.7"].frozen
    assert groups["blocks.1.body.1"].frozen is None


def test_freezing_what_is_not_there():
    with pytest.raises(ValueError, match="freeze names 'middle', but the model has no such submodule"):
        trace(conv(3, 3), torch.randn(1, 3, 8, 8), freeze=["middle"])


def test_a_weight_that_is_an_activation_keeps_its_channels_and_counts():
    model = Net(lambda s, x, w: F.conv2d(s.b(s.a(x)), w), a=conv(3, 6), b=conv(6, 8))
    channels = checked(model, torch.randn(1, 3, 8, 8), torch.randn(4, 8, 3, 3))
    frozen = {g.name: g.frozen for g in channels.groups}
    assert frozen["a"] is None
    assert frozen["b"] == "it meets the model's input"
    assert channels.cost().macs == 9 * 64 * (3 * 6 + 6 * 8) + 9 * 36 * 8 * 4


def test_an_example_is_needed():
    with pytest.raises(ValueError, match="at least one example tensor"):
        trace(conv(3, 3))


def test_a_width_that_user_code_insists_on_freezes_the_group():
    def run(s, x):
        h = s.a(x)
        assert h.shape[1] == 8, "eight channels please"
        return s.c(s.b(h))

    channels = checked(Net(run, a=conv(3, 8), b=conv(8, 6), c=conv(6, 3)), torch.randn(1, 3, 8, 8))
    groups = {g.name: g for g in channels.groups}
    assert "eight channels please" in groups["a"].frozen
    assert groups["b"].frozen is None


def test_a_number_computed_from_a_width_freezes_the_group():
    model = Net(lambda s, x: s.b((h := s.a(x)) / h.shape[1]), a=conv(3, 8), b=conv(8, 3))
    channels = checked(model, torch.randn(1, 3, 8, 8))
    assert "when cut, its output is off by" in channels.groups[0].frozen


def test_an_activation_that_a_product_undoes_is_not_blamed():
    model = Net(lambda s, x: s.b(F.elu(h := s.a(x)) * torch.sigmoid(h) + 1), a=conv(3, 8), b=conv(8, 3))
    groups = {g.name: g for g in checked(model, torch.randn(1, 3, 8, 8)).groups}
    assert "not zero after add" in groups["a"].frozen


def test_in_place_operators_change_all_names_of_a_tensor():
    def run(s, x):
        h = s.a(x)
        g = s.c(x)
        torch.sigmoid_(h[:, :, 1:3])
        g += s.d(g)
        return s.b(h) + s.e(F.relu_(g))

    model = Net(run, a=conv(3, 8), b=conv(8, 3), c=conv(3, 6), d=conv(6, 6), e=conv(6, 3))
    groups = {g.name: g for g in checked(model, torch.randn(1, 3, 8, 8)).groups}
    assert "not zero after sigmoid_" in groups["a"].frozen
    assert groups["c"].frozen is None


@pytest.mark.exhaustive
@pytest.mark.slow
def test_producers_are_kept_from_before_the_union():
    channels = trace(nets.build("incres9", ngf=12, blocks=2), torch.randn(1, 3, 16, 16))
    [trunk] = [g for g in channels.groups if g.name == "down.7"]
    expected = ["down.7"]
    for block in range(2):
        expected += [
            f"blocks.{block}.body.0.branches.{b}.{last}" for b, last in enumerate((3, 5, 5, 6, 7, 7))
        ]
    assert [p.module for p in trunk.producers] == expected
    assert {p.indices for p in trunk.producers} == {tuple(range(48))}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_constant_examples_and_odd_batches():
    torch.manual_seed(0)
    model = shaken(nets.build("resnet9", ngf=4, blocks=1))
    for example in (torch.zeros(1, 3, 16, 16), torch.ones(3, 3, 16, 24)):
        assert checked(model, example).prunable == 4 + 8 + 16 + 16 + 8 + 4


def test_a_given_rule_that_fails_is_named():
    def failing(ctx, node, *arguments):
        raise KeyError("what is this")

    with pytest.raises(ValueError, match="the given rule for aten.relu.default fails, at .*what is this"):
        trace(nn.Sequential(conv(3, 8), nn.ReLU()), torch.randn(1, 3, 8, 8), rules={"relu": failing})


@pytest.mark.exhaustive
@pytest.mark.slow
def test_recurrent_layers_stay_whole():
    model = Net(
        lambda s, x: s.o(s.m(s.b(F.relu(s.a(x))).flatten(2).transpose(1, 2))[0]),
        a=conv(3, 6),
        b=conv(6, 8),
        m=nn.LSTM(8, 4, batch_first=True),
        o=nn.Linear(4, 2),
    )
    x = torch.randn(1, 3, 4, 6)
    groups = {g.name: g for g in checked(model, x).groups}
    assert groups["a"].frozen is None
    assert "lstm.input has no rule" in groups["b"].frozen
    groups = {g.name: g for g in checked(model, x, freeze=["m"]).groups}
    assert groups["a"].frozen is None
    assert "frozen on request" in groups["b"].frozen


def test_a_network_without_parameters():
    channels = trace(nn.ReLU(), torch.randn(1, 3, 4, 4))
    assert channels.num_atoms == 0
    assert (channels.cost().macs, channels.cost().params) == (0, 0)
    assert isinstance(extract(nn.ReLU(), channels, Plan.full(channels)), nn.ReLU)


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    checked(nn.Sequential(conv(3, 8), conv(8, 3)), torch.randn(1, 3, 8, 8))
    assert torch.get_num_threads() == before
