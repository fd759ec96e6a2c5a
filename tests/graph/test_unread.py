"""What only a removed module reads goes with it: it is not computed, not paid for, and nothing is trained in vain."""

import pytest
import torch
import torch.nn.functional as F
from test_topologies import difference, shaken
from topologies import Net, conv
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganshrink.graph import trace
from ganshrink.pruning import Plan, allocate, extract, scores, zeroed
from telling import rest_exhaustive


class Spade(nn.Module):
    """A norm whose scale and shift are computed from a map."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.shared = nn.Sequential(conv(maps, 6), nn.ReLU())
        self.scale, self.shift = conv(6, width), conv(6, width)

    def forward(self, x, y):
        hidden = self.shared(y)
        return self.norm(x) * (1 + self.scale(hidden)) + self.shift(hidden)


def branch(width: int, kernel: int) -> nn.Sequential:
    layers = nn.Conv2d(width, 5, kernel, padding=kernel // 2), nn.BatchNorm2d(5), nn.ReLU(), conv(5, width)
    return nn.Sequential(*layers)


def branches(width: int) -> nn.ModuleList:
    return nn.ModuleList(branch(width, kernel) for kernel in (1, 3))


class Block(nn.Module):
    """Branches behind one norm, beside a shortcut."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.spade, self.ops, self.short = Spade(width, maps), branches(width), nn.Conv2d(width, width, 1)

    def forward(self, x, y):
        hidden = F.leaky_relu(self.spade(x, y), 0.2)
        return sum(op(hidden) for op in self.ops) + self.short(x)


class Bare(Block):
    """The same without a shortcut, the norm written into its forward."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__(width, maps)
        del self.short

    def forward(self, x, y):
        s = self.spade
        maps = s.shared(F.interpolate(y, size=x.shape[2:], mode="nearest"))
        hidden = F.relu(s.norm(x) * (1 + s.scale(maps)) + s.shift(maps))
        return x + sum(op(hidden) for op in self.ops)


class Styled(nn.Module):
    """A style becomes scale and shift of the norm before the branches, by two linear layers that return a pair."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.norm, self.ops = nn.InstanceNorm2d(width), branches(width)
        self.style = Pair(maps, width)

    def forward(self, x, y):
        scale, shift = self.style(y.mean((2, 3)))
        hidden = self.norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        return x + sum(op(torch.relu(hidden)) for op in self.ops)


class Pair(nn.Module):
    def __init__(self, maps: int, width: int) -> None:
        super().__init__()
        self.hidden, self.scale, self.shift = nn.Linear(maps, 7), nn.Linear(7, width), nn.Linear(7, width)

    def forward(self, y):
        hidden = torch.relu(self.hidden(y))
        return self.scale(hidden), self.shift(hidden)


class Nested(nn.Module):
    """A branch that itself ends in a block of branches, behind a layer that both of its parts read."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.first, self.inner, self.ops = conv(width, width), Block(width, maps), branches(width)

    def forward(self, x, y):
        hidden = F.dropout(torch.relu(self.first(x)), 0.5, self.training)
        return x + sum(op(hidden) for op in self.ops) + self.inner(hidden, y)


class Forked(nn.Module):
    """Two layers read the norm: where one stays, the norm stays."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.spade, self.ops, self.last = Spade(width, maps), branches(width), conv(width, width)

    def forward(self, x, y):
        hidden = self.spade(x, y)
        return x + sum(op(hidden) for op in self.ops) + self.last(hidden)


class Resized(nn.Module):
    """Between the norm and its branches stands what a scalar cannot pass."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.spade, self.ops = Spade(width, maps), branches(width)

    def forward(self, x, y):
        hidden = F.interpolate(self.spade(x, y), scale_factor=0.5)
        return x + sum(F.interpolate(op(hidden), scale_factor=2) for op in self.ops)


class Joined(nn.Module):
    """Two norms are joined before the branches read them."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__()
        self.one, self.two, self.ops = Spade(width, maps), Spade(width, maps), branches(2 * width)
        self.back = nn.ModuleList(nn.Conv2d(2 * width, width, 1, bias=False) for _ in self.ops)

    def forward(self, x, y):
        hidden = torch.cat([self.one(x, y), self.two(x, y)], 1)
        return x + sum(b(op(hidden)) for b, op in zip(self.back, self.ops, strict=True))


BLOCKS = [Block, Bare, Styled, Nested, Forked, Resized, Joined]


def network(block: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    parts = {"first": conv(4, 8), "a": block(8, 4), "b": block(8, 4), "last": conv(8, 3)}
    model = Net(lambda s, y: torch.tanh(s.last(F.relu(s.b(s.a(s.first(y), y), y)))), **parts)
    return shaken(model).eval()


def counted(model: nn.Module, x: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2 // len(x)


def unused(model: nn.Module, x: torch.Tensor) -> list[str]:
    model.train()(x).square().mean().backward()
    return [name for name, p in model.named_parameters() if p.grad is None]


def plans(channels):
    """One branch emptied, every other one, all; and what a budget makes of random scores."""
    branches = [group for group in channels.groups if group.removable]
    for some in (branches[:1], branches[1::2], branches):
        yield emptied(channels, some)
    drawn = torch.rand(channels.num_atoms, generator=torch.Generator().manual_seed(0))
    yield allocate.bisect_threshold(channels, drawn, "macs=25%")


def emptied(channels, groups) -> Plan:
    keep = torch.ones(channels.num_atoms, dtype=torch.bool)
    for group in groups:
        keep[group.atoms] = False
    return Plan(keep)


@pytest.mark.slow
@pytest.mark.parametrize("block", rest_exhaustive(BLOCKS, {Block}.__contains__))
def test_nothing_is_computed_or_trained_in_vain(block):
    model, x = network(block), torch.randn(2, 4, 8, 12)
    channels = trace(model, x)
    for plan in plans(channels):
        student = extract(model, channels, plan)
        with torch.no_grad():
            assert difference(student(x), zeroed(model, channels, plan)(x)) < 1e-5
        cost = channels.cost(plan)
        assert cost.macs == counted(student, x)
        assert cost.params == sum(p.numel() for p in student.parameters())
        assert not unused(student, x)


LEFT = {
    Block: ["a.short", "b.short"],
    Bare: [],
    Nested: [f"{block}.{layer}" for block in "ab" for layer in ("first", "inner.short")],
}


@pytest.mark.slow
@pytest.mark.parametrize("block", rest_exhaustive(LEFT, {Block}.__contains__))
def test_a_block_without_branches_is_what_stands_beside_them(block):
    model, x = network(block), torch.randn(1, 4, 8, 12)
    channels = trace(model, x)
    plan = emptied(channels, [g for g in channels.groups if g.removable])
    names = {name.rpartition(".")[0] for name, _ in extract(model, channels, plan).named_parameters()}
    assert names == {"first", "last", *LEFT[block]}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_scores_of_a_branch_s_norm_follow_the_budget():
    model, x = network(Block), torch.randn(1, 4, 8, 12)
    channels = trace(model, x)
    plan = allocate.bisect_threshold(channels, scores.norm_scale(model, channels), "macs=20%")
    student = extract(model, channels, plan)
    assert counted(student, x) == channels.cost(plan).macs <= 0.2 * channels.cost().macs
