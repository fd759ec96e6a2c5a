"""Image translation and synthesis: one small, faithful network of each published family (no weights, no downloads)."""

import math

import torch
import torch.nn.functional as F
from computed_weights import SpectralNorm
from over_channels import AdaLIN, FlatNorm, conv
from torch import Tensor, nn


def unit(
    inside: int, outside: int, stride: int = 1, kernel: int = 3, *, affine: bool = False
) -> nn.Sequential:
    layer = nn.Conv2d(inside, outside, kernel, stride, kernel // 2)
    return nn.Sequential(layer, nn.InstanceNorm2d(outside, affine=affine), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, width: int, norm: type[nn.Module] = nn.InstanceNorm2d) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), norm(width), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Pix2PixHD(nn.Module):
    """A global generator inside of a local enhancer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1)
        self.inner = nn.Sequential(
            unit(3, width, kernel=7), unit(width, 2 * width, 2), Residual(2 * width), Residual(2 * width), up
        )
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.down = nn.Sequential(unit(3, width, kernel=7), unit(width, width, 2))
        self.up = nn.Sequential(Residual(width), nn.ConvTranspose2d(width, width, 3, 2, 1, output_padding=1))
        self.last = nn.Sequential(nn.ReLU(), nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.down(x) + self.inner(self.pool(x))))


class StarGAN(nn.Module):
    """A label for each image, spread over the picture and laid beside it."""

    def __init__(self, width: int = 8, labels: int = 5) -> None:
        super().__init__()
        down = [nn.Conv2d(3 + labels, width, 7, padding=3, bias=False), nn.InstanceNorm2d(width, affine=True)]
        down += [nn.ReLU(True), nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)]
        down += [nn.InstanceNorm2d(2 * width, affine=True, track_running_stats=True), nn.ReLU(True)]
        up = [
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
        ]
        last = [nn.ReLU(True), nn.Conv2d(width, 3, 7, padding=3, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*down, Residual(2 * width), Residual(2 * width), *up, *last)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        c = c.view(c.size(0), c.size(1), 1, 1).repeat(1, 1, x.size(2), x.size(3))
        return self.main(torch.cat([x, c], dim=1))


class AdaptiveNorm(nn.Module):
    """StarGAN v2: scale and shift from a style code, cut apart in the middle."""

    def __init__(self, style: int, width: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.InstanceNorm2d(width, affine=False), nn.Linear(style, 2 * width)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.fc(s)
        gamma, beta = torch.chunk(h.view(h.size(0), h.size(1), 1, 1), chunks=2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class StyledBlock(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = AdaptiveNorm(8, inside), AdaptiveNorm(8, outside)
        self.conv1, self.conv2 = conv(inside, outside), conv(outside, outside)
        self.skip = nn.Conv2d(inside, outside, 1, bias=False)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        y = self.conv1(F.interpolate(F.leaky_relu(self.norm1(x, s), 0.2), scale_factor=2.0, mode="nearest"))
        y = self.conv2(F.leaky_relu(self.norm2(y, s), 0.2))
        return (self.skip(F.interpolate(x, scale_factor=2.0, mode="nearest")) + y) / math.sqrt(2)


class StarGAN2(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encode = nn.Sequential(unit(3, width, 2, affine=True), unit(width, 2 * width, 2, affine=True))
        self.decode = nn.ModuleList([StyledBlock(2 * width, width), StyledBlock(width, width // 2)])
        self.to_rgb = nn.Sequential(
            nn.InstanceNorm2d(width // 2, affine=True), nn.LeakyReLU(0.2), conv(width // 2, 3, 1)
        )

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = self.encode(x)
        for block in self.decode:
            x = block(x, s)
        return self.to_rgb(x)


class LightBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, width, bias=False), conv(width, width, bias=False)
        self.norm1, self.norm2 = AdaLIN(width), AdaLIN(width)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x), gamma, beta))
        return x + self.norm2(self.conv2(y), gamma, beta)


class UGATIT(nn.Module):
    """Light U-GAT-IT: class activation maps read their classifiers' weights; AdaLIN from an MLP; a heat map beside."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.Sequential(unit(3, width // 2, kernel=7), unit(width // 2, width, 2), Residual(width))
        self.gap_fc, self.gmp_fc = nn.Linear(width, 1, bias=False), nn.Linear(width, 1, bias=False)
        self.conv1x1 = nn.Conv2d(2 * width, width, 1)
        self.fc = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False)
        )
        self.gamma, self.beta = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.blocks = nn.ModuleList([LightBlock(width), LightBlock(width)])
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), conv(width, width // 2, bias=False))
        self.norm, self.last = FlatNorm(width // 2), conv(width // 2, 3, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.down(x)
        gap = F.adaptive_avg_pool2d(x, 1)
        gap_logit = self.gap_fc(gap.view(x.shape[0], -1))
        gap = x * next(iter(self.gap_fc.parameters())).unsqueeze(2).unsqueeze(3)
        gmp = F.adaptive_max_pool2d(x, 1)
        gmp_logit = self.gmp_fc(gmp.view(x.shape[0], -1))
        gmp = x * next(iter(self.gmp_fc.parameters())).unsqueeze(2).unsqueeze(3)
        x = F.relu(self.conv1x1(torch.cat([gap, gmp], 1)))
        heat = torch.sum(x, dim=1, keepdim=True)
        style = self.fc(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1))
        gamma, beta = self.gamma(style), self.beta(style)
        for block in self.blocks:
            x = block(x, gamma, beta)
        x = F.relu(self.norm(self.up(x)))
        return torch.tanh(self.last(x)), torch.cat([gap_logit, gmp_logit], 1), heat


class Spade(nn.Module):
    def __init__(self, width: int, labels: int = 4) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.shared = nn.Sequential(conv(labels, 8), nn.ReLU())
        self.gamma, self.beta = conv(8, width), conv(8, width)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        active = self.shared(F.interpolate(labels, size=x.size()[2:], mode="nearest"))
        return self.norm(x) * (1 + self.gamma(active)) + self.beta(active)


class SpadeBlock(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        middle = min(inside, outside)
        spectral = torch.nn.utils.spectral_norm
        self.conv_0, self.conv_1 = spectral(conv(inside, middle)), spectral(conv(middle, outside))
        self.norm_0, self.norm_1 = Spade(inside), Spade(middle)
        self.learned = inside != outside
        if self.learned:
            self.conv_s, self.norm_s = spectral(conv(inside, outside, 1, bias=False)), Spade(inside)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        skip = self.conv_s(self.norm_s(x, labels)) if self.learned else x
        y = self.conv_0(F.leaky_relu(self.norm_0(x, labels), 0.2))
        return skip + self.conv_1(F.leaky_relu(self.norm_1(y, labels), 0.2))


class SPADE(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fc = conv(4, width)
        self.blocks = nn.ModuleList([SpadeBlock(width, width), SpadeBlock(width, width // 2)])
        self.last = conv(width // 2, 3)

    def forward(self, labels: Tensor) -> Tensor:
        x = self.fc(F.interpolate(labels, scale_factor=0.25))
        for block in self.blocks:
            x = F.interpolate(block(x, labels), scale_factor=2.0)
        return torch.tanh(self.last(F.leaky_relu(x, 0.2)))


class InceptionSpadeNorm(nn.Module):
    """CAT: branches of several kernels, whose sum is cut apart by `output_dim`."""

    def __init__(self, width: int, labels: int = 4) -> None:
        super().__init__()
        self.output_dim, self.norm = width, nn.BatchNorm2d(width, affine=False)
        self.branches = nn.ModuleList(
            nn.Sequential(conv(labels, 4, k), nn.ReLU(), conv(4, 2 * width, k)) for k in (1, 3, 5)
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        labels = F.interpolate(labels, size=x.size()[2:], mode="nearest")
        made = sum(branch(labels) for branch in self.branches)
        return self.norm(x) * (1 + made[:, : self.output_dim]) + made[:, self.output_dim :]


class InceptionSpade(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fc, self.last = conv(4, width), conv(width, 3)
        self.norms = nn.ModuleList([InceptionSpadeNorm(width), InceptionSpadeNorm(width)])
        self.convs = nn.ModuleList(
            nn.ModuleList(nn.Sequential(conv(width, 6, k), nn.ReLU(), conv(6, width, k)) for k in (1, 3, 5))
            for _ in range(2)
        )

    def forward(self, labels: Tensor) -> Tensor:
        x = self.fc(F.interpolate(labels, scale_factor=0.5))
        for norm, branches in zip(self.norms, self.convs, strict=True):
            y = F.leaky_relu(norm(x, labels), 0.2)
            x = x + sum(branch(y) for branch in branches)
        return torch.tanh(self.last(F.interpolate(x, scale_factor=2.0)))


class SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(width, width // 8, 1), nn.Conv2d(width, width // 8, 1)
        self.value, self.gamma = nn.Conv2d(width, width, 1), nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, width, height = x.size()
        query = self.query(x).view(batch, -1, width * height).permute(0, 2, 1)
        attention = torch.softmax(torch.bmm(query, self.key(x).view(batch, -1, width * height)), dim=-1)
        y = torch.bmm(self.value(x).view(batch, -1, width * height), attention.permute(0, 2, 1))
        return self.gamma * y.view(batch, channels, width, height) + x, attention


class SAGAN(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = ((6, 2 * width, 4, 1), (2 * width, 2 * width, 4, 2), (2 * width, width, 4, 2))
        self.layers = nn.ModuleList(
            nn.Sequential(SpectralNorm(nn.ConvTranspose2d(i, o, k, s, s - 1)), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, k, s in sizes
        )
        self.attention, self.last = SelfAttention(width), nn.ConvTranspose2d(width, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = z.view(z.size(0), z.size(1), 1, 1)
        for layer in self.layers:
            x = layer(x)
        x, attention = self.attention(x)
        return torch.tanh(self.last(x)), attention


class ConditionalNorm(nn.Module):
    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Linear(code, width, bias=False), nn.Linear(code, width, bias=False)
        self.register_buffer("stored_mean", torch.zeros(width))
        self.register_buffer("stored_var", torch.ones(width))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = (1 + self.gain(y)).view(y.size(0), -1, 1, 1), self.bias(y).view(y.size(0), -1, 1, 1)
        return (
            F.batch_norm(x, self.stored_mean, self.stored_var, None, None, self.training, 0.1, 1e-5) * gain
            + bias
        )


class DeepBlock(nn.Module):
    """BigGAN-deep: a bottleneck whose skip drops channels by their number."""

    def __init__(self, inside: int, outside: int, code: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, hidden = inside, outside, inside // 2
        widths = (inside, hidden, hidden, hidden)
        self.norms = nn.ModuleList(ConditionalNorm(width, code) for width in widths)
        self.conv1, self.conv4 = conv(inside, hidden, 1), conv(hidden, outside, 1)
        self.conv2, self.conv3 = conv(hidden, hidden), conv(hidden, hidden)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norms[0](x, y)))
        h = F.interpolate(F.relu(self.norms[1](h, y)), scale_factor=2)
        h = self.conv3(F.relu(self.norms[2](self.conv2(h), y)))
        h = self.conv4(F.relu(self.norms[3](h, y)))
        if self.in_channels != self.out_channels:
            x = x[:, : self.out_channels]
        return h + F.interpolate(x, scale_factor=2)


class BigGANDeep(nn.Module):
    def __init__(self, width: int = 16, bottom: int = 4) -> None:
        super().__init__()
        self.bottom, self.embed = bottom, nn.Embedding(10, 6)
        self.linear = nn.Linear(12, 2 * width * bottom**2)
        self.blocks = nn.ModuleList([DeepBlock(2 * width, 2 * width, 12), DeepBlock(2 * width, width, 12)])
        self.attention = SelfAttention(width)
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv(width, 3))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        code = torch.cat([z, self.embed(label)], 1)
        x = self.linear(code)
        x = x.view(x.size(0), -1, self.bottom, self.bottom)
        for block in self.blocks:
            x = block(x, code)
        return torch.tanh(self.last(self.attention(x)[0]))


class ResnetBlock(nn.Module):
    """VQGAN and DDPM: group norms, SiLU, and a time step's code if there is one."""

    def __init__(self, inside: int, outside: int, code: int = 0, groups: int = 4) -> None:
        super().__init__()
        self.in_channels, self.out_channels = inside, outside
        self.norm1, self.conv1 = nn.GroupNorm(groups, inside, eps=1e-6), conv(inside, outside)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outside, eps=1e-6), conv(outside, outside)
        if code:
            self.temb_proj = nn.Linear(code, outside)
        if inside != outside:
            self.nin_shortcut = conv(inside, outside, 1)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if temb is not None:
            h = h + self.temb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if self.in_channels != self.out_channels else x)


class AttnBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        b, c, height, width = q.shape
        q = q.reshape(b, c, height * width).permute(0, 2, 1)
        weights = torch.bmm(q, k.reshape(b, c, height * width)) * (int(c) ** (-0.5))
        weights = F.softmax(weights, dim=2).permute(0, 2, 1)
        return x + self.proj_out(
            torch.bmm(v.reshape(b, c, height * width), weights).reshape(b, c, height, width)
        )


class VQGANDecoder(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv_in, self.attn = conv(4, 2 * width), AttnBlock(2 * width)
        self.mid = nn.ModuleList([ResnetBlock(2 * width, 2 * width), ResnetBlock(2 * width, 2 * width)])
        self.up1, self.up2 = ResnetBlock(2 * width, width), ResnetBlock(width, width)
        self.smooth1, self.smooth2 = conv(2 * width, 2 * width), conv(width, width)
        self.norm_out, self.conv_out = nn.GroupNorm(4, width, eps=1e-6), conv(width, 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid[1](self.attn(self.mid[0](self.conv_in(z))))
        h = self.up1(self.smooth1(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        h = self.up2(self.smooth2(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        return self.conv_out(F.silu(self.norm_out(h)))


class DDPM(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.ch, code = width, 2 * width
        self.dense = nn.Sequential(nn.Linear(width, code), nn.SiLU(), nn.Linear(code, code))
        self.conv_in, self.down1 = conv(3, width), ResnetBlock(width, width, code)
        self.halve, self.down2 = nn.Conv2d(width, width, 3, 2), ResnetBlock(width, 2 * width, code)
        self.attn, self.mid = AttnBlock(2 * width), ResnetBlock(2 * width, 2 * width, code)
        self.up2, self.smooth = ResnetBlock(4 * width, width, code), conv(width, width)
        self.up1, self.norm_out = ResnetBlock(2 * width, width, code), nn.GroupNorm(4, width)
        self.conv_out = conv(width, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(self.ch // 2, dtype=x.dtype) * -(math.log(10000) / (self.ch // 2 - 1)))
        angles = t.to(x.dtype)[:, None] * rates[None, :]
        temb = self.dense(torch.cat([torch.sin(angles), torch.cos(angles)], dim=1))
        one = self.down1(self.conv_in(x), temb)
        two = self.down2(self.halve(F.pad(one, (0, 1, 0, 1))), temb)
        h = self.mid(self.attn(two), temb)
        h = self.up2(torch.cat([h, two], dim=1), temb)
        h = self.smooth(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(self.up1(torch.cat([h, one], dim=1), temb))))


class AttentionGAN(nn.Module):
    """Contents and attention masks, each sliced by number; softmax over the masks."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Sequential(unit(3, width), unit(width, 2 * width, 2), Residual(2 * width))
        up = (nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1) for _ in range(2))
        self.content, self.attention = (
            nn.Sequential(layer, nn.InstanceNorm2d(width), nn.ReLU()) for layer in up
        )
        self.to_content, self.to_attention = conv(width, 6, 7), nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        images = torch.tanh(self.to_content(self.content(y)))
        masks = F.softmax(self.to_attention(self.attention(y)), dim=1)
        parts = [images[:, 0:3], images[:, 3:6], x]
        return sum(part * masks[:, i : i + 1].repeat(1, 3, 1, 1) for i, part in enumerate(parts))


class WhiteBox(nn.Module):
    """White-box cartoonisation: plain residual blocks, bilinear resizing, skips by addition."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.down = conv(3, width, 7), nn.Conv2d(width, width, 3, 2, 1)
        self.wide, self.blocks = conv(width, 2 * width), nn.Sequential(Residual(2 * width, nn.Identity))
        self.narrow, self.mix, self.last = conv(2 * width, width), conv(width, width), conv(width, 3, 7)

    def forward(self, x: Tensor) -> Tensor:
        one = F.leaky_relu(self.first(x), 0.2)
        two = F.leaky_relu(self.wide(F.leaky_relu(self.down(one), 0.2)), 0.2)
        y = F.leaky_relu(self.narrow(self.blocks(two)), 0.2)
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return self.last(F.leaky_relu(self.mix(y + one), 0.2))


class EncodesInstances(nn.Module):
    """pix2pixHD's feature encoder: means over instances, found with NumPy. Control flow that depends on data."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.model = nn.Sequential(unit(3, width), unit(width, width), conv(width, 3))

    def forward(self, x: Tensor, instances: Tensor) -> Tensor:
        outputs = self.model(x)
        mean = outputs.clone()
        for i in set(instances.cpu().numpy().astype(int).ravel().tolist()):
            at = (instances == i).nonzero()
            for j in range(3):
                mean[at[:, 0], j, at[:, 2], at[:, 3]] = outputs[at[:, 0], j, at[:, 2], at[:, 3]].mean()
        return mean


def style_transfer(width: int = 8) -> nn.Module:
    """Fast neural style: two halvings, residual blocks, nearest neighbours."""
    first = [unit(3, width, kernel=9, affine=True), unit(width, 2 * width, 2, affine=True)]
    up = [nn.Upsample(scale_factor=2), unit(2 * width, width, affine=True), conv(width, 3, 9)]
    return nn.Sequential(*first, Residual(2 * width), *up)
