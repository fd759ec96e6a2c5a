"""Small networks of the families whose norms run over channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inside: int, outside: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, **options)


class Normed(nn.Sequential):
    """AnimeGANv2: a group norm of one group after every layer."""

    def __init__(self, inside: int, outside: int, kernel: int = 3, groups: int = 1) -> None:
        layer = nn.Conv2d(inside, outside, kernel, groups=groups, bias=False)
        pad = nn.ReflectionPad2d(kernel // 2)
        super().__init__(pad, layer, nn.GroupNorm(1, outside), nn.LeakyReLU(0.2, inplace=True))


class Inverted(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        wide, self.same = 2 * inside, inside == outside
        expand, depthwise = Normed(inside, wide, 1), Normed(wide, wide, groups=wide)
        self.layers = nn.Sequential(expand, depthwise, nn.Conv2d(wide, outside, 1), nn.GroupNorm(1, outside))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.same else self.layers(x)


def anime() -> nn.Module:
    trunk = [Inverted(8, 16), Inverted(16, 16)]
    return nn.Sequential(Normed(3, 8), *trunk, Normed(16, 8), nn.Conv2d(8, 3, 1), nn.Tanh())


class LayerNorm2d(nn.Module):
    """Written by hand, over the channels of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        y = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * y + self.bias.view(1, -1, 1, 1)


class NAFBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.wide = LayerNorm2d(width), conv(width, 2 * width, 1)
        self.depthwise = conv(2 * width, 2 * width, groups=2 * width)
        self.attend, self.narrow = (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(width, width, 1)),
            conv(width, width, 1),
        )
        self.beta = nn.Parameter(torch.full((1, width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.depthwise(self.wide(self.norm(x))).chunk(2, 1)
        gated = one * two
        return x + self.beta * self.narrow(gated * self.attend(gated))


class NAFNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.intro, self.blocks = conv(3, width), nn.Sequential(NAFBlock(width))
        self.ending = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ending(self.blocks(self.intro(x)))


class AdaLIN(nn.Module):
    """U-GAT-IT: instance and layer statistics, mixed, scaled and shifted by what an MLP says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), 0.6))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        by_map = (x - x.mean((2, 3), True)) / torch.sqrt(x.var((2, 3), keepdim=True) + 1e-5)
        by_image = (x - x.mean((1, 2, 3), True)) / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5)
        rho = self.rho.expand(x.shape[0], -1, -1, -1)
        return (rho * by_map + (1 - rho) * by_image) * gamma[:, :, None, None] + beta[:, :, None, None]


class UGATIT(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down, self.mix, self.up = conv(3, width), conv(width, width), conv(width, 3)
        self.mlp = nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU())
        self.gamma, self.beta = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.norm = AdaLIN(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.down(x))
        style = self.mlp(F.adaptive_avg_pool2d(x, 1).flatten(1))
        x = x + F.relu(self.norm(self.mix(x), self.gamma(style), self.beta(style)))
        return torch.tanh(self.up(x))


class RMSNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale


class Mixer(nn.Module):
    """A residual block on tokens (B, N, C)."""

    def __init__(self, width: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.norm, self.up, self.down = norm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Tokens(nn.Module):
    def __init__(self, norm: type[nn.Module], width: int = 16) -> None:
        super().__init__()
        self.first, self.last, self.norm = conv(3, width), conv(width, 3), norm(width)
        self.blocks = nn.Sequential(Mixer(width, norm))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(x)
        y = self.norm(self.blocks(maps.flatten(2).transpose(1, 2)))
        return self.last(y.transpose(1, 2).reshape(maps.shape))


class ChannelsFirst(nn.Module):
    """ConvNeXt: one class for both layouts, its width a tuple."""

    def __init__(self, width: int, first: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.first, self.normalized_shape = first, (width,)

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-6)
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (
            self.weight[:, None, None] * (x - mean) / torch.sqrt(variance + 1e-6) + self.bias[:, None, None]
        )


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, width), ChannelsFirst(width, True)
        self.depthwise, self.inner = conv(width, width, 7, groups=width), ChannelsFirst(width, False)
        self.up, self.down, self.last = nn.Linear(width, 64), nn.Linear(64, width), conv(width, 3)
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        y = self.down(F.gelu(self.up(self.inner(self.depthwise(x).permute(0, 2, 3, 1)))))
        return self.last(x + (self.gamma * y).permute(0, 3, 1, 2))


class GroupUNet(nn.Module):
    """Group norms of two groups, with a skip connection."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.down, self.up = conv(3, width), conv(width, width, stride=2), conv(width, width)
        self.norms = nn.ModuleList(
            [nn.GroupNorm(2, width), nn.GroupNorm(2, width), nn.GroupNorm(2, 2 * width)]
        )
        self.last = conv(2 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norms[0](self.first(x)))
        y = F.interpolate(F.silu(self.norms[1](self.down(x))), size=x.shape[2:])
        return self.last(F.silu(self.norms[2](torch.cat([x, self.up(y)], 1))))


class CBAM(nn.Module):
    """Attention over space by the mean and the largest of all channels; PixelNorm before it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.look, self.last = conv(3, width), conv(2, 1), conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)
        seen = torch.cat([torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)], 1)
        return self.last(F.relu(x * torch.sigmoid(self.look(seen))))


class FlatNorm(nn.Module):
    """MUNIT's layer norm: over all positions of an image, written differently for a single one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) == 1:
            mean, std = x.view(-1).mean().view(1, 1, 1, 1), x.view(-1).std().view(1, 1, 1, 1)
        else:
            flat = x.view(x.size(0), -1)
            mean, std = flat.mean(1).view(-1, 1, 1, 1), flat.std(1).view(-1, 1, 1, 1)
        x = (x - mean) / (std + 1e-5)
        return x * self.gamma.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)


class AdaIN(nn.Module):
    """MUNIT: instance norm as the batch norm of all images' channels side by side, scaled by another network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features, self.weight, self.bias = width, None, None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        images, channels, *size = x.shape
        mean, variance = self.running_mean.repeat(images), self.running_var.repeat(images)
        flat = x.contiguous().view(1, images * channels, *size)
        y = F.batch_norm(flat, mean, variance, self.weight, self.bias, True, 0.1, 1e-5)
        return y.view(images, channels, *size)


class MUNIT(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.last = conv(3, width), conv(width // 2, 3)
        self.convs = nn.ModuleList([conv(width, width), conv(width, width)])
        self.norms = nn.ModuleList([AdaIN(width), AdaIN(width)])
        self.up = nn.Sequential(conv(width, width // 2), FlatNorm(width // 2), nn.ReLU())
        self.mlp = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4 * width))

    def forward(self, x: Tensor) -> Tensor:
        parameters = self.mlp(x.mean((2, 3)))
        x = self.first(x)
        for layer, norm in zip(self.convs, self.norms, strict=True):
            count = norm.num_features
            norm.bias = parameters[:, :count].contiguous().view(-1)
            norm.weight = parameters[:, count : 2 * count].contiguous().view(-1)
            parameters = parameters[:, 2 * count :]
            x = x + F.relu(norm(layer(x)))
        return self.last(self.up(x))


NETWORKS = {
    "MUNIT": MUNIT,
    "AnimeGANv2": anime,
    "NAFNet": NAFNet,
    "U-GAT-IT": UGATIT,
    "Swin's MLPs": lambda: Tokens(nn.LayerNorm),
    "RMSNorm by hand": lambda: Tokens(RMSNorm),
    "torch's RMSNorm": lambda: Tokens(nn.RMSNorm),
    "ConvNeXt": ConvNeXt,
    "group norms of two groups": GroupUNet,
    "CBAM and PixelNorm": CBAM,
}
