"""Small networks whose modules keep a width in an attribute and split, slice, view or check by it."""

import torch
import torch.nn.functional as F
from over_channels import conv
from torch import Tensor, nn


class Gated(nn.Module):
    """DeepFill v2: half of the channels gate the others."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.cnum_out, self.conv = outside, conv(inside, 2 * outside)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = torch.split(self.conv(x), self.cnum_out, dim=1)
        return F.elu(x) * torch.sigmoid(gate)


class IBNorm(nn.Module):
    """MODNet: some channels by batch norm, the others by instance norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = width // 2 + 1
        self.bnorm, self.inorm = nn.BatchNorm2d(self.first), nn.InstanceNorm2d(width - self.first)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.bnorm(x[:, : self.first]), self.inorm(x[:, self.first :].contiguous())], 1)


class Spade(nn.Module):
    """CAT's Inception SPADE: scales and shifts cut apart by `output_dim`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.output_dim, self.norm = width, nn.BatchNorm2d(width, affine=False)
        self.makes = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 2 * width))

    def forward(self, x: Tensor, segments: Tensor) -> Tensor:
        made = self.makes(F.interpolate(segments, size=x.shape[2:]))
        return self.norm(x) * (1 + made[:, : self.output_dim]) + made[:, self.output_dim :]


class Spaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.spade, self.last = conv(3, 16), Spade(16), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.spade(self.first(x), x)))


class Down(nn.Module):
    """diffusers: a width that is asserted, on both sides."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.channels, self.out_channels, self.conv = inside, outside, conv(inside, outside, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.channels
        x = self.conv(x)
        if x.shape[1] != self.out_channels:
            raise ValueError(f"{x.shape[1]} channels")
        return x


class Distilled(nn.Module):
    """IMDN: two unequal parts, one of which goes on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kept, self.passed = width // 4, width - width // 4
        self.one, self.two = conv(width, width), conv(self.passed, width - self.kept)
        self.join = conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, passed = torch.split(F.relu(self.one(x)), (self.kept, self.passed), dim=1)
        return x + self.join(torch.cat([kept, F.relu(self.two(passed))], 1))


class PartialConv(nn.Module):
    """FasterNet: only the first channels are filtered."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dim, self.conv = width // 4, conv(width // 4, width // 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x.narrow(1, 0, self.dim)), x[:, self.dim :]], 1)


class Viewed(nn.Module):
    """Channels in a view by their number, as attention over them has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.scale = width, nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        means = x.view(x.shape[0], self.width, -1).mean(2)
        return x * torch.sigmoid(self.scale(means)).view(-1, self.width, 1, 1)


def between(*parts: nn.Module, out: int = 16) -> nn.Module:
    return nn.Sequential(conv(3, 16), nn.ReLU(), *parts, conv(out, 3))


NETWORKS = {
    "DeepFill v2": lambda: nn.Sequential(Gated(3, 16), Gated(16, 16), Gated(16, 8), conv(8, 3)),
    "MODNet": lambda: between(IBNorm(16), conv(16, 16), IBNorm(16), nn.ReLU()),
    "CAT's Inception SPADE": Spaded,
    "diffusers": lambda: nn.Sequential(conv(3, 16), Down(16, 16), nn.SiLU(), Down(16, 24), conv(24, 3)),
    "IMDN": lambda: between(Distilled(16), Distilled(16)),
    "FasterNet": lambda: between(PartialConv(16), conv(16, 16, 1), nn.ReLU()),
    "views": lambda: between(Viewed(16), conv(16, 24), Viewed(24), out=24),
}
