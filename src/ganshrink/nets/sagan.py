"""SAGAN's generator and discriminator (Zhang et al. 2019, "Self-Attention Generative Adversarial Networks").

A latent vector grows by transposed convolutions to an image; two self-attentions let distant places agree. Sizes and widths
are those on which DMAD reports costs.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganshrink.nets.layers import doublings_to

SLOPE = 0.1  # of the discriminator's leaky ReLUs
ATTENDING = 2  # the last so many layers before the end are followed by an attention
SHARE = 8  # by which queries and keys are narrower than what they are made of


class Attention(nn.Module):
    """Self-attention over pixels of (B, C, H, W), behind a learned scalar (Eqs. 1 to 3).

    Args:
        start: of the scalar: the paper's 0, which leaves the input as it is.
    """

    def __init__(self, width: int, *, start: float = 0.0) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(width, max(1, width // SHARE), 1) for _ in range(2))
        self.value = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        attention = (query.mT @ key).softmax(-1)
        return x + self.gamma * (value @ attention.mT).view_as(x)


class SAGAN(nn.Module):
    """Latent vectors (B, latent) to images (B, out_channels, size, size) in [-1, 1].

    Spectral norm, which folds exactly before a cut, on all layers but the last and those of attention.

    Args:
        latent: numbers in a latent vector.
        ngf: width of the last layer but one; each one before it has twice that of the next.
        size: of images, 16, 32, 64, ...
        spectral: spectral norm as in the paper.

    Raises:
        ValueError: for another size.
    """

    def __init__(
        self,
        *,
        latent: int = 128,
        out_channels: int = 3,
        ngf: int = 64,
        size: int = 64,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        levels = doublings_to(size, least=2)
        widths = [latent, *(ngf * 2**level for level in reversed(range(levels)))]
        wrap = spectral_norm if spectral else nn.Identity()
        self.ups = nn.ModuleList()
        for place, (inside, outside) in enumerate(zip(widths, widths[1:], strict=False)):
            stride, padding = (2, 1) if place else (1, 0)
            conv = wrap(nn.ConvTranspose2d(inside, outside, 4, stride, padding))
            self.ups.append(nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU()))
        self.attention = nn.ModuleList(Attention(width) for width in widths[-ATTENDING:])
        self.head = nn.ConvTranspose2d(ngf, out_channels, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        x, plain = z[:, :, None, None], len(self.ups) - ATTENDING
        for place, up in enumerate(self.ups):
            x = up(x)
            if place >= plain:
                x = self.attention[place - plain](x)
        return self.head(x).tanh()


class SAGANJudge(nn.Module):
    """SAGAN's discriminator: strided 4x4 convolutions with spectral norm, attention after the last two, scores by a 4x4.

    Takes (B, in_channels, H, W), gives unbounded scores (B, 1, h, w): one for an image of 4 * 2**layers pixels.

    Args:
        layers: strided convolutions; four for 64 pixels.
    """

    def __init__(self, *, in_channels: int = 3, ndf: int = 64, layers: int = 4) -> None:
        super().__init__()
        widths = [in_channels, *(ndf * 2**level for level in range(layers))]
        stack: list[nn.Module] = []
        for place, (inside, outside) in enumerate(zip(widths, widths[1:], strict=False)):
            conv = spectral_norm(nn.Conv2d(inside, outside, 4, stride=2, padding=1))
            stack += [conv, nn.LeakyReLU(SLOPE)]
            if place >= layers - ATTENDING:
                stack.append(Attention(outside))
        self.layers = nn.Sequential(*stack, nn.Conv2d(widths[-1], 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]
