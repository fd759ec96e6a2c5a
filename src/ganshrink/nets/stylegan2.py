"""StyleGAN2 of CIFAR's size (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN").

A latent vector becomes a style, which scales the channels that each convolution reads; what comes out is divided by the size
that those scales give it. Convolutions are not fused: inputs and outputs are scaled, kernels are the same for all images. An
image is a function of its latent vector: there is no noise for each pixel, which teacher and student would draw apart.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.nets.layers import doublings_to

SLOPE, EPS, STD = 0.2, 1e-8, 0.02
MAPPING = 4  # layers from a latent vector to a style
MULTIPLES = (1, 2, 4)  # of ngf, from the largest images on; smaller ones have the last


def small_linear(inside: int, outside: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights are N(0, 0.02), as all are when a training begins, so that none is far off before it."""
    layer = nn.Linear(inside, outside, bias=bias)
    nn.init.normal_(layer.weight, std=STD)
    return layer


class Mapping(nn.Module):
    """Latent vectors (B, latent), normalised, to styles of the same size."""

    def __init__(self, latent: int, layers: int = MAPPING) -> None:
        super().__init__()
        self.layers = nn.ModuleList(small_linear(latent, latent) for _ in range(layers))
        # This keeps the size of what they make (the paper's equalised learning rate has the same effect).
        self.gain = math.sqrt(2) / (STD * math.sqrt(latent))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(1, keepdim=True) + EPS).rsqrt()
        for layer in self.layers:
            x = self.gain * F.leaky_relu(layer(x), SLOPE)
        return x


class Modulated(nn.Conv2d):
    """A convolution whose input channels are scaled by styles (B, C), and whose output, with `demodulate`, is divided by the
    length that its kernel has then (Eqs. 1 and 3)."""

    def __init__(self, inside: int, outside: int, kernel: int, *, demodulate: bool = True) -> None:
        super().__init__(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]
        y = F.conv2d(x * style[:, :, None, None], self.weight, padding=self.padding)
        if not self.demodulate:
            return y
        squares = F.linear(style.square(), self.weight.square().sum((2, 3)))
        return y * (squares + EPS).rsqrt()[:, :, None, None]


class Gain(nn.BatchNorm2d):
    """A learned factor and summand for each channel. It is a batch norm with fixed statistics, 0 and 1: demodulation undoes
    every factor before it, so that this is where masks and slimming can act, as they do on norms."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, 0.0)


class Scales(nn.Module):
    """Styles (B, latent) to the scales (B, width) of a convolution's input channels, 1 at first."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.linear = small_linear(latent, width, bias=False)
        self.start = nn.Parameter(torch.ones(width))

    def forward(self, style: Tensor) -> Tensor:
        return self.linear(style) + self.start


class Layer(nn.Module):
    """A modulated 3x3 with its scales, gain and leaky ReLU."""

    def __init__(self, inside: int, outside: int, latent: int) -> None:
        super().__init__()
        self.scales = Scales(latent, inside)
        self.conv = Modulated(inside, outside, 3)
        self.gain = Gain(outside)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y = self.conv(x, self.scales(style))
        return math.sqrt(2) * F.leaky_relu(self.gain(y), SLOPE)


class ToImage(nn.Module):
    """A modulated 1x1 to colours, which is not demodulated."""

    def __init__(self, inside: int, out_channels: int, latent: int) -> None:
        super().__init__()
        self.scales = Scales(latent, inside)
        self.conv = Modulated(inside, out_channels, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.conv(x, self.scales(style)) + self.bias[:, None, None]


class StyleGAN2(nn.Module):
    """Latent vectors (B, latent) to images (B, out_channels, size, size), about in [-1, 1], unbounded.

    Features double their size by bilinear interpolation, which is the paper's filter, before a convolution; images of all
    sizes are added up ("output skips").

    Args:
        latent: numbers in a latent vector, and in a style.
        ngf: width at the largest size; the next smaller has twice that, all others four times.
        size: of images, 8, 16, 32, ...
        mapping: layers from a latent vector to a style.

    Raises:
        ValueError: for another size.
    """

    def __init__(
        self,
        *,
        latent: int = 128,
        out_channels: int = 3,
        ngf: int = 64,
        size: int = 32,
        mapping: int = MAPPING,
    ) -> None:
        super().__init__()
        levels = doublings_to(size, least=1) + 1
        widths = [ngf * MULTIPLES[min(level, len(MULTIPLES) - 1)] for level in reversed(range(levels))]
        self.mapping = Mapping(latent, mapping)
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers, self.images = nn.ModuleList(), nn.ModuleList()
        for place, width in enumerate(widths):
            inside = widths[max(0, place - 1)]
            several = [Layer(inside, width, latent)] if place else []
            self.layers.append(nn.ModuleList([*several, Layer(width, width, latent)]))
            self.images.append(ToImage(width, out_channels, latent))

    def synthesis(self, style: Tensor) -> Tensor:
        """Images of styles (B, latent)."""
        x, image = self.const.expand(style.shape[0], -1, -1, -1), None
        for layers, to_image in zip(self.layers, self.images, strict=True):
            if image is not None:
                x, image = _doubled(x), _doubled(image)
            for layer in layers:  # type: ignore[attr-defined]
                x = layer(x, style)
            made = to_image(x, style)
            image = made if image is None else image + made
        assert image is not None
        return image

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z))


class ResidualJudge(nn.Module):
    """StyleGAN2's residual discriminator: 1x1 from colours, blocks of two 3x3 that halve the size, a 3x3, scores by a 4x4.

    Takes (B, in_channels, H, W), gives unbounded scores (B, 1, h, w): one for an image of 4 * 2**layers pixels.

    Args:
        ndf: width at full size; each block doubles it, up to four times.
        layers: blocks; three for 32 pixels.
    """

    def __init__(self, *, in_channels: int = 3, ndf: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [ndf * min(2**level, MULTIPLES[-1]) for level in range(layers + 1)]
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, ndf, 1),
            nn.LeakyReLU(SLOPE),
            *map(Halving, widths, widths[1:]),
            Spread(),
            nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(widths[-1], 1, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Halving(nn.Module):
    """Two 3x3, then half the size; the shortcut is a 1x1. Their sum is divided by the root of 2."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, inside, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(inside, outside, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.shortcut = nn.Conv2d(inside, outside, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(self.body(x), 2)
        return (half + self.shortcut(F.avg_pool2d(x, 2))) / math.sqrt(2)


class Spread(nn.Module):
    """A channel more: how much the images of a batch differ (Karras et al. 2018, "minibatch standard deviation")."""

    def forward(self, x: Tensor) -> Tensor:
        spread = (x.var(0, unbiased=False) + EPS).sqrt().mean()
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
