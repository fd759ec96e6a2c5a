"""What hangs on a channel: against derivatives of one output, and against regressions on the channels chosen before."""

import pytest
import torch
from torch import Tensor, nn

from ganshrink.graph import trace
from ganshrink.pruning.search.effect import balanced, output_effect, pivoted


class Net(nn.Module):
    """A residual network with a norm of its own scale, whose output is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.a, self.b = nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.head = nn.Conv2d(5, 1, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        return self.head(x + self.b(self.a(x).relu()))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    nn.init.normal_(made.norm.weight)
    nn.init.normal_(made.norm.bias)
    return made.double().eval()


IMAGES = [
    (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double(),) for seed in (1, 2)
]


def test_the_effect_of_a_channel_is_the_square_of_the_slope_along_it(net):
    """Of one number all random signs give the same square. A factor on a sum's channel acts on all that is added up."""
    channels = trace(net, IMAGES[0][0][:1])
    found = output_effect(net, channels, [tuple(t[:1] for t in one) for one in IMAGES], draws=2)
    step, where = 1e-6, {}
    for group in channels.groups:
        if group.frozen is None:
            where |= {int(atom): (place, len(group)) for place, atom in enumerate(group.atoms)}
    for atom, (place, width) in where.items():
        squares = []
        for (image,) in IMAGES:
            moved = Net().double().eval()
            moved.load_state_dict(net.state_dict())
            made = [moved.a] if width == 4 else [moved.norm, moved.b]
            with torch.no_grad():
                before = moved(image[:1])
                for module in made:
                    module.weight[place] *= 1 + step
                    module.bias[place] *= 1 + step
                squares.append(float((moved(image[:1]) - before) / step) ** 2)
        assert found[atom] == pytest.approx(sum(squares) / 2, rel=1e-4)
    frozen = [group for group in channels.groups if group.frozen is not None]
    assert frozen and all(torch.isinf(found[group.atoms]).all() for group in frozen)


def test_a_chosen_channel_counts_for_what_the_ones_before_it_cannot_give(net):
    channels = trace(net, IMAGES[0][0][:1])
    effect = 1 + torch.arange(channels.num_atoms).double() / 10
    with torch.no_grad():  # the last one is nearly the first
        for tensor in (net.a.weight, net.a.bias):
            tensor[3] = -2 * tensor[0]
        net.a.weight[1] += 0.01
    found = pivoted(net, channels, IMAGES, effect, places=4000)
    [group] = [group for group in channels.groups if group.frozen is None and len(group) == 4]
    with torch.no_grad():
        rows = (
            torch.cat([net.a(net.norm(net.stem(x)).relu()) for (x,) in IMAGES]).movedim(1, -1).reshape(-1, 4)
        )
    rows = (rows - rows.mean(0)) / rows.std(0, correction=0)
    chosen: list[int] = []
    for _ in range(4):
        left = rows
        if chosen:
            basis = rows[:, chosen]
            left = rows - basis @ torch.linalg.lstsq(basis, rows).solution
        values = left.square().mean(0) * effect[group.atoms]
        values[chosen] = -1
        best = int(values.argmax())
        assert found[group.atoms[best]] == pytest.approx(
            float(values[best]), rel=0.1, abs=2e-3 * float(effect[group.atoms].max())
        )
        chosen.append(best)
    assert chosen[-1] == 0


def test_balanced_scores_have_a_mean_of_one_in_every_group(net):
    channels = trace(net, IMAGES[0][0][:1])
    scores = balanced(output_effect(net, channels, IMAGES), channels)
    for group in channels.groups:
        if group.frozen is None:
            assert scores[group.atoms].mean() == pytest.approx(1)


def test_the_network_stays_as_it_was(net):
    channels = trace(net, IMAGES[0][0][:1])
    net.train()
    before, rng = {name: t.clone() for name, t in net.state_dict().items()}, torch.get_rng_state()
    first = output_effect(net, channels, IMAGES, seed=3)
    assert torch.equal(first, output_effect(net, channels, IMAGES, seed=3))
    pivoted(net, channels, IMAGES, first)
    assert net.training and not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng) and all(p.grad is None for p in net.parameters())
