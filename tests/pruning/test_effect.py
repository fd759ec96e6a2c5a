"""What a channel does to the output, against derivatives by finite differences."""

import copy

import pytest
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.pruning.effect import output_effect, pivoted


class Trunk(nn.Module):
    """A residual sum, a norm with scales, and a layer without."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.InstanceNorm2d(3, affine=True)
        self.inner, self.outer = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1, bias=False)
        self.head = nn.Conv2d(3, 1, 1)

    def forward(self, x):
        x = self.norm(self.stem(x)).tanh()
        return self.head(x + self.outer(self.inner(x).tanh())).tanh()


GATES = {
    "stem": ["norm.weight", "norm.bias", "outer.weight"],  # two layers add up to these
    "inner": ["inner.weight", "inner.bias"],
}


def test_it_is_the_squared_derivative_by_a_gate_on_all_that_makes_an_atom():
    torch.manual_seed(0)
    net = Trunk().double().eval()
    nn.init.normal_(net.norm.weight)
    nn.init.normal_(net.norm.bias)
    inputs = [torch.randn(1, 2, 5, 5).double() for _ in range(3)]
    channels = trace(net, inputs[0])
    scores = output_effect(net, channels, inputs, seed=3)
    drawn = torch.Generator().manual_seed(3)
    signs = torch.cat([torch.where(torch.rand(1, 1, 5, 5, generator=drawn) < 0.5, 1.0, -1.0) for _ in inputs])
    free = [group for group in channels.groups if group.frozen is None]
    assert [group.name for group in free] == ["stem", "inner"]
    for group in free:
        for number, atom in enumerate(group.atoms.tolist()):
            sums = []
            for gate in (1 - 1e-5, 1 + 1e-5):
                gated = copy.deepcopy(net)
                with torch.no_grad():
                    for name in GATES[group.name]:
                        gated.get_parameter(name)[number] *= gate
                    sums.append((gated(torch.cat(inputs)) * signs).flatten(1).sum(1))
            slopes = (sums[1] - sums[0]) / 2e-5
            assert scores[atom] == pytest.approx(float(slopes.square().mean()), rel=1e-5)
    assert bool(torch.isinf(scores[torch.cat([g.atoms for g in channels.groups if g.frozen])]).all())


def test_of_channels_that_say_the_same_one_is_chosen():
    """Against a transcription that regresses each channel on those chosen before it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Conv2d(5, 1, 1)).double().eval()
    with torch.no_grad():
        for tensor in (net[0].weight, net[0].bias):
            tensor[3] = -tensor[1]
    images = torch.randn(8, 2, 6, 6).double()
    channels = trace(net, images[:1])
    [group] = [group for group in channels.groups if group.frozen is None]
    effects = torch.full((channels.num_atoms,), torch.inf, dtype=torch.float64)
    effects[group.atoms] = torch.tensor([1.0, 4.0, 2.0, 3.0, 0.5]).double()
    with torch.no_grad():
        seen = net[:2](images).movedim(1, -1).flatten(0, 2)
    seen = (seen - seen.mean(0)) / seen.std(0, correction=0)
    seen = seen * effects[group.atoms].sqrt()
    chosen, wanted = [], torch.zeros(5).double()
    for _ in range(5):
        rest = seen.clone()
        if chosen:
            rest -= seen[:, chosen] @ torch.linalg.lstsq(seen[:, chosen], seen).solution
        left = rest.square().mean(0)
        left[chosen] = -1
        chosen.append(int(left.argmax()))
        wanted[chosen[-1]] = left.max()
    found = pivoted(net, channels, images, effects, rows=10**5)[group.atoms]
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    assert found.argmax() == 1
    assert found[3] < 1e-6
