"""Restoration, super-resolution, inpainting, matting, segmentation: one small network of each published family."""

import math

import torch
import torch.nn.functional as F
from activated_kernels import Modulated
from over_channels import LayerNorm2d, NAFBlock, conv
from torch import Tensor, nn
from widths_in_attributes import Distilled, Gated, IBNorm


class EDSR(nn.Module):
    def __init__(self, width: int = 16, scale: int = 2) -> None:
        super().__init__()
        self.head = conv(3, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.ReLU(True), conv(width, width)) for _ in range(3)
        )
        self.body, self.tail = (
            conv(width, width),
            nn.Sequential(conv(width, scale**2 * width), nn.PixelShuffle(scale)),
        )
        self.last, self.shift = conv(width, 3), nn.Conv2d(3, 3, 1)
        self.shift.weight.data, self.shift.bias.data = torch.eye(3).view(3, 3, 1, 1), torch.full((3,), -0.4)
        self.shift.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.shift(x))
        y = x
        for block in self.blocks:
            y = y + block(y).mul(0.1)
        return self.last(self.tail(x + self.body(y)))


class Attended(nn.Module):
    """RCAN: squeeze, excite."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width))
        self.look = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv(width, width // 4, 1),
            nn.ReLU(),
            conv(width // 4, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y * self.look(y)


class RCAN(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.head, self.groups = conv(3, width), nn.ModuleList()
        for _ in range(2):
            self.groups.append(nn.Sequential(Attended(width), Attended(width), conv(width, width)))
        self.tail = nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), conv(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.head(x)
        for group in self.groups:
            y = y + group(y)
        return self.tail(x + y)


class IMDN(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.head, self.blocks = conv(3, width), nn.ModuleList([Distilled(width), Distilled(width)])
        self.join, self.tail = conv(2 * width, width, 1), nn.Sequential(conv(width, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.head(x)
        kept = []
        for block in self.blocks:
            y = block(y)
            kept.append(y)
        return self.tail(x + F.leaky_relu(self.join(torch.cat(kept, 1)), 0.05))


def srresnet(width: int = 16) -> nn.Module:
    def block() -> list[nn.Module]:
        return [
            conv(width, width),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            conv(width, width),
            nn.BatchNorm2d(width),
        ]

    up = [conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU(width)]
    return nn.Sequential(conv(3, width, 9), nn.PReLU(), *block(), *block(), *up, conv(width, 3, 9))


class WindowAttention(nn.Module):
    """Swin: one linear layer for queries, keys and values, and a table of relative positions."""

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.dim, self.num_heads, self.scale = dim, heads, (dim // heads) ** -0.5
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        weights = torch.softmax(q @ k.transpose(-2, -1) + bias.unsqueeze(0), -1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class SwinBlock(nn.Module):
    def __init__(self, dim: int, window: int = 4, shift: int = 0) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.attn, self.norm2 = (
            nn.LayerNorm(dim),
            WindowAttention(dim, window, 2),
            nn.LayerNorm(dim),
        )
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        b, _, c = x.shape
        w = self.window
        y = torch.roll(self.norm1(x).view(b, height, width, c), (-self.shift, -self.shift), (1, 2))
        y = (
            y.view(b, height // w, w, width // w, w, c)
            .permute(0, 1, 3, 2, 4, 5)
            .contiguous()
            .view(-1, w * w, c)
        )
        y = self.attn(y).view(b, height // w, width // w, w, w, c).permute(0, 1, 3, 2, 4, 5).contiguous()
        y = torch.roll(y.view(b, height, width, c), (self.shift, self.shift), (1, 2))
        x = x + y.view(b, height * width, c)
        return x + self.mlp(self.norm2(x))


class SwinIR(nn.Module):
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.first, self.blocks = conv(3, dim), nn.ModuleList([SwinBlock(dim), SwinBlock(dim, shift=2)])
        self.norm, self.after = nn.LayerNorm(dim), conv(dim, dim)
        self.up = nn.Sequential(conv(dim, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        height, width = x.shape[2:]
        y = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            y = block(y, height, width)
        y = self.norm(y).transpose(1, 2).view(x.shape[0], x.shape[1], height, width)
        return self.up(x + self.after(y))


class NAFNet(nn.Module):
    """A U of NAF blocks: strided convolutions down, pixel shuffles up, skips by addition."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.intro, self.one, self.down = conv(3, width), NAFBlock(width), nn.Conv2d(width, 2 * width, 2, 2)
        self.middle, self.two = NAFBlock(2 * width), NAFBlock(width)
        self.up = nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1, bias=False), nn.PixelShuffle(2))
        self.ending = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(self.intro(x))
        return x + self.ending(self.two(y + self.up(self.middle(self.down(y)))))


class Transposed(nn.Module):
    """Restormer: attention of channels to channels, a temperature for each head."""

    def __init__(self, dim: int, heads: int = 2) -> None:
        super().__init__()
        self.num_heads, self.temperature = heads, nn.Parameter(torch.ones(heads, 1, 1))
        self.norm, self.qkv = LayerNorm2d(dim), conv(dim, 3 * dim, 1, bias=False)
        self.depthwise = conv(3 * dim, 3 * dim, groups=3 * dim, bias=False)
        self.project = conv(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        parts = self.depthwise(self.qkv(self.norm(x))).chunk(3, dim=1)
        q, k, v = (t.reshape(b, self.num_heads, c // self.num_heads, height * width) for t in parts)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return x + self.project((weights @ v).reshape(b, c, height, width))


class GatedMLP(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = LayerNorm2d(dim), conv(dim, 4 * dim, 1), conv(2 * dim, dim, 1)
        self.depthwise = conv(4 * dim, 4 * dim, groups=4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.depthwise(self.up(self.norm(x))).chunk(2, dim=1)
        return x + self.down(F.gelu(one) * two)


class Restormer(nn.Module):
    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.embed, self.one = conv(3, dim), nn.Sequential(Transposed(dim), GatedMLP(dim))
        self.down = nn.Sequential(conv(dim, dim // 2, bias=False), nn.PixelUnshuffle(2))
        self.two = nn.Sequential(Transposed(2 * dim), GatedMLP(2 * dim))
        self.up = nn.Sequential(conv(2 * dim, 4 * dim, bias=False), nn.PixelShuffle(2))
        self.reduce, self.last = conv(2 * dim, dim, 1), conv(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.embed(x))
        return x + self.last(self.reduce(torch.cat([self.up(self.two(self.down(one))), one], 1)))


def ffdnet(width: int = 16) -> nn.Module:
    """On quarters of the picture."""
    trunk = [
        conv(12, width),
        nn.ReLU(),
        conv(width, width),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        conv(width, 12),
    ]
    return nn.Sequential(nn.PixelUnshuffle(2), *trunk, nn.PixelShuffle(2))


class ZeroDCE(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            conv(i, o)
            for i, o in ((3, width), (width, width), (width, width), (2 * width, width), (2 * width, 24))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one = F.relu(self.convs[0](x))
        two = F.relu(self.convs[1](one))
        three = F.relu(self.convs[2](two))
        four = F.relu(self.convs[3](torch.cat([two, three], 1)))
        curves = torch.tanh(self.convs[4](torch.cat([one, four], 1)))
        for curve in torch.split(curves, 3, dim=1):
            x = x + curve * (x.pow(2) - x)
        return x, curves


class ContextualAttention(nn.Module):
    """DeepFill v2: patches of the picture are the kernels of a convolution over it."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        outputs = []
        small = F.interpolate(x, scale_factor=0.5)
        patches = F.unfold(small, 3, padding=1).transpose(1, 2).reshape(x.shape[0], -1, x.shape[1], 3, 3)
        pasted = F.unfold(x, 4, stride=2, padding=1).transpose(1, 2).reshape(x.shape[0], -1, x.shape[1], 4, 4)
        valid = (F.interpolate(1 - mask, size=small.shape[2:]).flatten(1).mean(0) > 0.5).to(x.dtype)
        for image, kernel, paste in zip(small.split(1), patches, pasted, strict=True):
            kernel = kernel / kernel.pow(2).sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-4)
            scores = F.conv2d(image, kernel, padding=1) * valid[None, :, None, None]
            weights = F.softmax(scores * 10, dim=1) * valid[None, :, None, None]
            outputs.append(F.conv_transpose2d(weights, paste, stride=2, padding=1) / 4)
        return torch.cat(outputs)


class DeepFill(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.coarse = nn.Sequential(Gated(4, width), Gated(width, width), conv(width, 3))
        self.down = nn.Sequential(Gated(4, width), nn.AvgPool2d(2), Gated(width, width))
        self.attend, self.merge = ContextualAttention(), Gated(2 * width, width)
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), Gated(width, width), conv(width, 3))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        coarse = torch.tanh(self.coarse(torch.cat([x * (1 - mask), mask], 1)))
        y = self.down(torch.cat([x * (1 - mask) + coarse * mask, mask], 1))
        y = self.merge(torch.cat([y, self.attend(y, mask)], 1))
        return coarse, torch.tanh(self.up(y))


class AOT(nn.Module):
    """AOT-GAN: dilated branches, joined, and a gate by statistics over the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.ReflectionPad2d(r), nn.Conv2d(width, width // 4, 3, dilation=r), nn.ReLU())
            for r in (1, 2, 4, 8)
        )
        self.fuse, self.gate = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y, mask = self.fuse(torch.cat([branch(x) for branch in self.branches], 1)), self.gate(x)
        mean, std = mask.mean((2, 3), keepdim=True), mask.std((2, 3), keepdim=True) + 1e-9
        mask = torch.sigmoid(5 * (2 * (mask - mean) / std - 1))
        return x * (1 - mask) + y * mask


class FourierUnit(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * inside, 2 * outside, 1, bias=False), nn.BatchNorm2d(2 * outside), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, size = x.shape[0], x.shape[-2:]
        y = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        y = torch.stack((y.real, y.imag), dim=-1).permute(0, 1, 4, 2, 3).contiguous()
        y = self.layers(y.view((batch, -1, *y.size()[3:])))
        y = y.view((batch, -1, 2, *y.size()[2:])).permute(0, 1, 3, 4, 2).contiguous()
        return torch.fft.irfftn(torch.complex(y[..., 0], y[..., 1]), s=size, dim=(-2, -1), norm="ortho")


class LaMa(nn.Module):
    """Fast Fourier convolutions: a local and a global part, each of which reads both."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        near, far = width // 3, width - width // 3
        self.near, self.far = conv(4, near, stride=2), conv(4, far, stride=2)
        self.l2l, self.l2g, self.g2l = conv(near, near), conv(near, far), conv(far, near)
        self.reduce = nn.Sequential(
            nn.Conv2d(far, far // 2, 1, bias=False), nn.BatchNorm2d(far // 2), nn.ReLU()
        )
        self.fourier, self.widen = FourierUnit(far // 2, far // 2), nn.Conv2d(far // 2, far, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(near), nn.BatchNorm2d(far)])
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, width, 3, 2, 1, output_padding=1), nn.ReLU(), conv(width, 3, 7)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([x * (1 - mask), mask], 1)
        near, far = self.near(x), self.far(x)
        small = self.reduce(far)
        one = F.relu(self.norms[0](self.l2l(near) + self.g2l(far)))
        two = F.relu(self.norms[1](self.l2g(near) + self.widen(small + self.fourier(small))))
        return torch.sigmoid(self.up(torch.cat([near + one, far + two], 1)))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(width, width // 2, bias=False), nn.ReLU(), nn.Linear(width // 2, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * torch.sigmoid(self.fc(self.pool(x).view(b, c))).view(b, c, 1, 1).expand_as(x)


class MODNet(nn.Module):
    """Portrait matting: semantics, details and their fusion, each an output."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def layer(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(conv(inside, outside, stride=stride), IBNorm(outside), nn.ReLU())

        self.enc1, self.enc2, self.enc3 = (
            layer(3, width, 2),
            layer(width, width, 2),
            layer(width, 2 * width, 2),
        )
        self.se, self.low = (
            SqueezeExcite(2 * width),
            nn.Sequential(layer(2 * width, width), layer(width, width)),
        )
        self.to_semantic = conv(width, 1)
        self.detail = nn.Sequential(layer(2 * width + 3, width), layer(width, width), conv(width, 1))
        self.fuse = nn.Sequential(layer(width + 4, width), conv(width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = self.enc1(x)
        two = self.enc2(one)
        low = self.low(F.interpolate(self.se(self.enc3(two)), scale_factor=2, mode="bilinear"))
        semantic = torch.sigmoid(self.to_semantic(low))
        wide = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        half = F.interpolate(x, size=wide.shape[2:], mode="bilinear", align_corners=False)
        detail = torch.sigmoid(self.detail(torch.cat([wide, one, half], 1)))
        detail = F.interpolate(detail, scale_factor=2, mode="bilinear", align_corners=False)
        wide = F.interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)
        return semantic, detail, torch.sigmoid(self.fuse(torch.cat([wide, detail, x], 1)))


class DeepLab(nn.Module):
    """DeepLab v3+: atrous pyramid with the picture's mean, and a skip of few channels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def layer(inside: int, outside: int, kernel: int = 3, **options: int) -> nn.Sequential:
            made = nn.Conv2d(inside, outside, kernel, bias=False, **options)
            return nn.Sequential(made, nn.BatchNorm2d(outside), nn.ReLU())

        self.low, self.high = (
            layer(3, width, stride=2, padding=1),
            layer(width, 2 * width, stride=2, padding=1),
        )
        rates = [layer(2 * width, width, dilation=r, padding=r) for r in (2, 4)]
        self.pyramid = nn.ModuleList([layer(2 * width, width, 1), *rates])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), layer(2 * width, width, 1))
        self.project, self.skip = layer(4 * width, width, 1), layer(width, 6, 1)
        self.last = nn.Sequential(layer(width + 6, width, padding=1), conv(width, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        high = self.high(low)
        pooled = F.interpolate(self.pool(high), size=high.shape[-2:], mode="bilinear", align_corners=False)
        y = self.project(torch.cat([*(branch(high) for branch in self.pyramid), pooled], 1))
        y = F.interpolate(y, size=low.shape[2:], mode="bilinear", align_corners=False)
        y = self.last(torch.cat([self.skip(low), y], 1))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class FPN(nn.Module):
    """DeblurGAN v2: a feature pyramid, heads of one kind, and the picture added."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (3, width, width, 2 * width)
        self.down = nn.ModuleList(
            nn.Sequential(
                conv(widths[i], widths[i + 1], stride=2, bias=False),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU6(),
            )
            for i in range(3)
        )
        self.lateral = nn.ModuleList(conv(size, width, 1, bias=False) for size in widths[1:])
        self.top = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.InstanceNorm2d(width), nn.ReLU()) for _ in range(2)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(conv(width, width // 2, bias=False), nn.ReLU(), conv(width // 2, width // 2))
            for _ in range(3)
        )
        self.smooth = nn.Sequential(conv(3 * width // 2, width), nn.BatchNorm2d(width), nn.ReLU())
        self.last = conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps, y = [], x
        for down, lateral in zip(self.down, self.lateral, strict=True):
            y = down(y)
            maps.append(lateral(y))
        maps[1] = self.top[0](maps[1] + F.interpolate(maps[2], scale_factor=2, mode="nearest"))
        maps[0] = self.top[1](maps[0] + F.interpolate(maps[1], scale_factor=2, mode="nearest"))
        made = [
            F.interpolate(head(m), scale_factor=2**i)
            for i, (head, m) in enumerate(zip(self.heads, maps, strict=True))
        ]
        y = F.interpolate(self.smooth(torch.cat(made, 1)), scale_factor=2, mode="nearest")
        return torch.clamp(torch.tanh(self.last(y)) + x, min=-1, max=1)


class U2Net(nn.Module):
    """A U inside of each stage, dilated at its bottom, and a side output of every depth."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()

        def layer(inside: int, outside: int, rate: int = 1) -> nn.Sequential:
            made = nn.Conv2d(inside, outside, 3, padding=rate, dilation=rate)
            return nn.Sequential(made, nn.BatchNorm2d(outside), nn.ReLU())

        self.stages = nn.ModuleList(
            nn.ModuleList([layer(i, 16), layer(16, width), layer(width, width, 2), layer(2 * width, 16)])
            for i in (3, 16, 32)
        )
        self.sides, self.out = nn.ModuleList([conv(16, 1), conv(16, 1)]), nn.Conv2d(2, 1, 1)

    def stage(self, i: int, x: Tensor) -> Tensor:
        first, down, bottom, up = self.stages[i]
        x = first(x)
        y = down(F.max_pool2d(x, 2, stride=2, ceil_mode=True))
        y = F.interpolate(torch.cat([bottom(y), y], 1), size=x.shape[2:], mode="bilinear")
        return up(y) + x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = self.stage(0, x)
        two = self.stage(1, F.max_pool2d(one, 2, stride=2, ceil_mode=True))
        y = self.stage(2, torch.cat([F.interpolate(two, size=one.shape[2:], mode="bilinear"), one], 1))
        side = F.interpolate(self.sides[1](two), size=x.shape[2:], mode="bilinear")
        sides = [self.sides[0](y), side]
        return torch.sigmoid(self.out(torch.cat(sides, 1))), torch.sigmoid(sides[0]), torch.sigmoid(side)


class FlowWarp(nn.Module):
    """RIFE: two pictures, a flow between them, both warped by it and blended."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(
            conv(6, width, stride=2), nn.PReLU(width), conv(width, width), nn.PReLU(width)
        )
        self.up = nn.ConvTranspose2d(width, 5, 4, 2, 1)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        made = self.up(self.down(torch.cat([one, two], 1)))
        flow, mask = made[:, :4], torch.sigmoid(made[:, 4:5])
        height, width = one.shape[2:]
        across = (
            torch.linspace(-1, 1, width, dtype=one.dtype)
            .view(1, 1, 1, width)
            .expand(one.shape[0], -1, height, -1)
        )
        along = (
            torch.linspace(-1, 1, height, dtype=one.dtype)
            .view(1, 1, height, 1)
            .expand(one.shape[0], -1, -1, width)
        )
        grid = torch.cat([across, along], 1)
        warped = [
            F.grid_sample(
                image,
                (grid + part / (width / 2)).permute(0, 2, 3, 1),
                padding_mode="border",
                align_corners=True,
            )
            for image, part in zip((one, two), (flow[:, :2], flow[:, 2:4]), strict=True)
        ]
        return warped[0] * mask + warped[1] * (1 - mask)


class LiteAttention(nn.Module):
    """EfficientViT: linear attention, heads of eight channels each."""

    def __init__(self, width: int = 16, dim: int = 8) -> None:
        super().__init__()
        self.dim, self.qkv, self.proj = (
            dim,
            nn.Conv2d(width, 3 * width, 1, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
        )
        self.norm, self.first, self.last = nn.BatchNorm2d(width), conv(3, width, stride=2), conv(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        b, _, height, width = x.size()
        qkv = self.qkv(x).reshape(b, -1, 3 * self.dim, height * width)
        q, k, v = (qkv[:, :, i * self.dim : (i + 1) * self.dim] for i in range(3))
        q, k = F.relu(q), F.relu(k)
        v = F.pad(v, (0, 0, 0, 1), mode="constant", value=1)
        y = torch.matmul(torch.matmul(v, k.transpose(-1, -2)), q)
        y = (y[:, :, :-1] / (y[:, :, -1:] + 1e-3)).reshape(b, -1, height, width)
        return F.pixel_shuffle(self.last(x + self.norm(self.proj(y))), 2)


class GFPGAN(nn.Module):
    """A U-Net's style code drives modulated convolutions; its maps scale and shift half of their channels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(
            conv(3, width, stride=2), nn.LeakyReLU(0.2), conv(width, width), nn.LeakyReLU(0.2)
        )
        self.code, self.half = nn.Linear(width, 8), width // 2
        self.constant, self.one = nn.Parameter(torch.randn(1, width, 16, 16)), Modulated(width, width, 3)
        self.scale, self.shift = conv(width, width // 2), conv(width, width // 2)
        self.two, self.to_rgb = Modulated(width, width, 3, up=True), Modulated(width, 3, 1, demodulate=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.down(x)
        style = self.code(maps.mean((2, 3)))
        y = F.leaky_relu(self.one(self.constant.repeat(x.shape[0], 1, 1, 1), style), 0.2)
        same, moved = torch.split(y, int(y.size(1) // 2), dim=1)
        y = torch.cat([same, moved * self.scale(maps) + self.shift(maps)], 1)
        return self.to_rgb(F.leaky_relu(self.two(y, style), 0.2), style)


class RepVGG(nn.Module):
    """Branches with batch norms, summed; the identity among them."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.wide = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width))
        self.point, self.same = (
            nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.last(F.relu(self.wide(x) + self.point(x) + self.same(x)))


class DataDependent(nn.Module):
    """Robust video matting's deep guided filter asks the numbers which way to go."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.one, self.last = conv(3, width), conv(width, width), conv(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        if y.mean() > math.pi:
            y = self.one(y)
        return self.last(y)
