"""What a channel does to the output, against derivatives by finite differences."""

import copy

import pytest
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.pruning.effect import output_effect, over_mean


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
    means = [over_mean(scores, channels)[group.atoms].mean() for group in free]
    torch.testing.assert_close(torch.stack(means), torch.ones(2, dtype=torch.float64))
