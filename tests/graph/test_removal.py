"""Whole branches may go: where their output was zero stands a Zero, and nothing renumbers."""

import pytest
import torch
import torch.nn.functional as F
from test_topologies import difference, shaken
from topologies import Net, conv
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from ganshrink.pruning.extract import Identity, Zero


def emptied(channels, *names: str) -> Plan:
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in channels.groups:
        if group.name in names:
            assert group.removable, group.name
            keep[group.atoms] = False
    return Plan(keep)


def checked(model, channels, plan) -> nn.Module:
    student, reference = extract(model, channels, plan), zeroed(model, channels, plan)
    example = channels.example
    with torch.no_grad():
        assert difference(student(*example), reference(*example)) < 1e-5
    assert channels.cost(plan).params == sum(p.numel() for p in student.parameters())
    assert not any(0 in t.shape for t in student.parameters())
    return student


@pytest.fixture(scope="module")
def incres():
    torch.manual_seed(0)
    model = shaken(nets.build("incres9", ngf=12, blocks=2))
    return model, trace(model, torch.randn(1, 3, 16, 24))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_dead_branch_becomes_zero(incres):
    model, channels = incres
    student = checked(model, channels, emptied(channels, "blocks.0.body.0.branches.4.0"))
    assert isinstance(student.blocks[0].body[0].branches[4], Zero)
    assert isinstance(student.blocks[0].body[0].branches[5], nn.Sequential)


@pytest.mark.slow
def test_a_dead_body_becomes_zero_and_takes_its_norm_along(incres):
    model, channels = incres
    names = [g.name for g in channels.groups if g.name.startswith("blocks.1.")]
    assert len(names) == 6
    student = checked(model, channels, emptied(channels, *names))
    assert isinstance(student.blocks[1].body, Zero)
    x = torch.randn(1, 48, 4, 4)
    assert torch.equal(student.blocks[1](x), x)
    reference = zeroed(model, channels, emptied(channels, *names))
    post_sum_norm = reference.blocks[1].body[1]
    assert not post_sum_norm.weight.any()
    assert not post_sum_norm.bias.any()


@pytest.mark.slow
def test_all_branches_at_once(incres):
    model, channels = incres
    names = [g.name for g in channels.groups if g.removable]
    assert len(names) == 12
    student = checked(model, channels, emptied(channels, *names))
    assert {n for n, _ in student.named_parameters() if n.startswith("blocks")} == set()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_any_mixture_of_empty_branches(incres):
    model, channels = incres
    generator = torch.Generator().manual_seed(0)
    for seed in range(6):
        keep = Plan.random(channels, 0.5, seed=seed).keep
        for group in channels.groups:
            if group.removable and torch.rand((), generator=generator) < 0.6:
                keep[group.atoms] = False
        checked(model, channels, Plan(keep))


@pytest.mark.slow
def test_the_macs_of_removed_branches_are_not_counted(incres):
    model, channels = incres
    names = [g.name for g in channels.groups if g.name.startswith("blocks.0.")]
    plan = emptied(channels, *names)
    one_block = channels.cost().macs - channels.cost(plan).macs
    width, hidden, pixels = 48, 8, 4 * 6
    dense = sum(2 * width * hidden * k * k for k in (1, 3, 5))
    depthwise = sum(2 * width * hidden + hidden * k * k for k in (1, 3, 5))
    assert one_block == pixels * (dense + depthwise)


class Block(nn.Module):
    """A residual block whose sum is its own last line."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.norm, self.two = conv(width, 6), nn.BatchNorm2d(6), conv(6, width)

    def forward(self, x):
        return x + self.two(F.relu(self.norm(self.one(x))))


def test_a_block_that_adds_by_itself_becomes_an_identity():
    torch.manual_seed(0)
    model = shaken(nn.Sequential(conv(3, 8), Block(8), Block(8), conv(8, 3)))
    channels = trace(model, torch.randn(1, 3, 8, 12))
    student = checked(model, channels, emptied(channels, "1.one"))
    assert isinstance(student[1], Identity)
    assert isinstance(student[2], Block)


def test_the_last_branch_of_a_sum_stays_where_the_sum_may_not_go():
    model = Net(
        lambda s, x: s.c(s.one(x) + s.two(x)),
        one=nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 8)),
        two=nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 8)),
        c=conv(8, 3),
    )
    channels = trace(model, torch.randn(1, 3, 8, 12))
    removable = {g.name for g in channels.groups if g.removable}
    assert removable == {"one.0"}
    checked(model, channels, emptied(channels, "one.0"))


def test_groups_on_the_only_road_cannot_be_removed():
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))
    channels = trace(model, torch.randn(1, 3, 8, 12))
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    keep[channels.groups[0].atoms] = False
    assert not channels.groups[0].removable
    with pytest.raises(ValueError, match="no channel of 0; at least one must stay"):
        extract(model, channels, Plan(keep))


def test_a_sum_into_a_dead_tensor_in_place_is_not_removable():
    def run(s, x):
        h = s.branch(x)
        h += x
        return s.c(h)

    model = Net(run, branch=nn.Sequential(conv(3, 6), conv(6, 3)), c=conv(3, 3))
    channels = trace(model, torch.randn(1, 3, 8, 12))
    group = next(g for g in channels.groups if g.name == "branch.0")
    assert not group.removable
    assert group.frozen is None


def test_a_concatenated_branch_is_not_removable():
    model = Net(
        lambda s, x: s.c(torch.cat([x, s.branch(x)], 1)),
        branch=nn.Sequential(conv(3, 6), conv(6, 4)),
        c=conv(7, 3),
    )
    channels = trace(model, torch.randn(1, 3, 8, 12))
    assert not any(g.removable for g in channels.groups)


def test_a_branch_whose_layer_is_used_elsewhere_too_is_not_removable():
    shared = conv(8, 8)
    model = Net(
        lambda s, x: s.c((h := s.a(x)) + s.branch(h) + s.other(h)),
        a=conv(3, 8),
        branch=nn.Sequential(conv(8, 6), conv(6, 8), shared),
        other=nn.Sequential(shared),
        c=conv(8, 3),
    )
    channels = trace(model, torch.randn(1, 3, 8, 12))
    group = next(g for g in channels.groups if g.name == "branch.0")
    assert not group.removable


def test_a_branch_that_another_name_holds_too_is_not_removable():
    model = Net(lambda s, x: s.c(x + s.branch(x)), branch=nn.Sequential(conv(3, 6), conv(6, 3)), c=conv(3, 3))
    model.alias = model.branch[0]
    channels = trace(model, torch.randn(1, 3, 8, 12))
    assert not any(g.removable for g in channels.groups)


def test_branches_that_go_apart_are_asked_once_each_and_the_answer_is_the_same(monkeypatch):
    net, example = nets.build("resnet6", ngf=4, affine=True), torch.randn(1, 3, 32, 32)
    channels = trace(net, example)
    monkeypatch.setattr("ganshrink.graph.assembly._go_apart", lambda together, each: False)
    more = trace(net, example)
    assert sum(group.removable for group in channels.groups) == 6
    assert [g.removable for g in channels.groups] == [g.removable for g in more.groups]
    assert len(more.removals.known) == len(channels.removals.known) + 6  # all branches but one


def test_branches_whose_sum_goes_with_the_last_of_them_are_asked_without_one_of_them_too(incres):
    _, channels = incres
    chosen = [group for group in channels.groups if group.removable]
    assert len(channels.removals.known) >= 2 * len(chosen) + 1
