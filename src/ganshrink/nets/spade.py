"""GauGAN's generator (Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive Normalization").

A label map goes in, one-hot and perhaps with the edges of instances. The image grows from its smallest size, and at every
size the map, resized by nearest, says how each norm is scaled and shifted. Modules bear the names of the released code, so
that its files load as they are.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ganshrink.nets.layers import norm_layer

HIDDEN = 128  # of the layer between the map and a norm's scales and shifts
SLOPE = 0.2  # of the leaky ReLUs
MULTIPLES = (16, 16, 16, 8, 4, 2, 1)  # of ngf: the widths that blocks give
NAMES = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")

Modulation = Callable[[int], nn.Module]
"""Makes the norm of so many channels that a map scales and shifts: a module of (x, map)."""


def resized_like(labels: Tensor, x: Tensor) -> Tensor:
    """A map (B, C, H, W) at the size of x, by nearest."""
    return F.interpolate(labels, size=x.shape[2:], mode="nearest")


class SPADE(nn.Module):
    """A norm without scales of its own, then (1 + gamma) and beta at every pixel, both made from the map (Eq. 1 to 3)."""

    def __init__(self, width: int, labels: int, *, norm: str, hidden: int, separable: bool = False) -> None:
        super().__init__()
        conv = _separable if separable else partial(nn.Conv2d, kernel_size=3, padding=1)
        self.param_free_norm = norm_layer(norm, affine=False)(width)
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = conv(hidden, width)
        self.mlp_beta = conv(hidden, width)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        seen = self.mlp_shared(resized_like(labels, x))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(seen)) + self.mlp_beta(seen)


class Block(nn.Module):
    """Two times SPADE, leaky ReLU, 3x3; where the width changes, SPADE and 1x1 on the shortcut (Fig. 4a)."""

    def __init__(self, inside: int, outside: int, modulated: Modulation, *, spectral: bool) -> None:
        super().__init__()
        middle = min(inside, outside)
        wrap = spectral_norm if spectral else nn.Identity()
        self.conv_0 = wrap(nn.Conv2d(inside, middle, 3, padding=1))
        self.conv_1 = wrap(nn.Conv2d(middle, outside, 3, padding=1))
        self.norm_0 = modulated(inside)
        self.norm_1 = modulated(middle)
        if inside != outside:
            self.conv_s = wrap(nn.Conv2d(inside, outside, 1, bias=False))
            self.norm_s = modulated(inside)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, labels), SLOPE))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, labels), SLOPE))
        return y + (self.conv_s(self.norm_s(x, labels)) if hasattr(self, "conv_s") else x)


class Growing(nn.Module):
    """What GauGAN's generators share: the map at its smallest, blocks with a doubling before all but the first, an image.

    Takes (B, in_channels, H, W) with H and W multiples of 2 ** doublings, gives (B, out_channels, H, W) in [-1, 1].

    Args:
        block: makes the block of so many channels in and out: a module of (x, map).
        begin: what comes between the smallest map and the first block.

    Raises:
        ValueError: if there are not five or six doublings.
    """

    def __init__(
        self,
        begin: nn.Module,
        block: Callable[[int, int], nn.Module],
        *,
        ngf: int,
        out_channels: int,
        doublings: int,
    ) -> None:
        super().__init__()
        if doublings not in (5, 6):
            raise ValueError(f"doublings must be 5 or 6, got {doublings}")
        self.doublings = doublings
        self.fc = begin
        inside = MULTIPLES[0] * ngf
        for name, multiple in zip(NAMES, MULTIPLES, strict=True):
            self.add_module(name, block(inside, multiple * ngf))
            inside = multiple * ngf
        self.conv_img = nn.Conv2d(ngf, out_channels, 3, padding=1)
        grows = [name for place, name in enumerate(NAMES) if place and (place != 2 or doublings == 6)]
        # sequences, so that blocks can be inserted after a doubling (`extra_blocks`)
        self.doubling = nn.ModuleDict({name: nn.Sequential(nn.Upsample(scale_factor=2.0)) for name in grows})

    def forward(self, labels: Tensor) -> Tensor:
        return self.grown(self.fc(F.interpolate(labels, size=self.least(labels), mode="nearest")), labels)

    def least(self, labels: Tensor) -> tuple[int, int]:
        """(H, W) before the first doubling."""
        return labels.shape[2] // 2**self.doublings, labels.shape[3] // 2**self.doublings

    def grown(self, x: Tensor, labels: Tensor) -> Tensor:
        """The image, of features at the smallest size."""
        for name in NAMES:
            if name in self.doubling:
                x = self.doubling[name](x)
            x = self.get_submodule(name)(x, labels)
        return self.conv_img(F.leaky_relu(x, SLOPE)).tanh()


class GauGAN(Growing):
    """SPADE's generator. Shapes are those of `Growing`; with `styles` it takes (map, style).

    Args:
        norm: of what is scaled by the map: the paper's batch norm, which is one over all processes in training.
        hidden: width between the map and a norm's scales and shifts.
        doublings: six for Cityscapes ("more" in the released code), five for the paper's other data sets ("normal").
        spectral: spectral norm on the convolutions of the blocks, as in the paper. It is folded before a cut; released
            students, and teachers that GAN Compression and CAT take, have none.
        styles: numbers in a style (B, styles), normal ones or those of an encoder of photos (256 in the paper, section 3),
            of which the first features are made in place of the smallest map; 0: there is none.
        height, width: with styles, of the images, which are then of one size.

    Raises:
        ValueError: if such sides are no multiples of the smallest.
    """

    def __init__(
        self,
        *,
        in_channels: int = 36,
        out_channels: int = 3,
        ngf: int = 64,
        norm: str = "batch",
        hidden: int = HIDDEN,
        doublings: int = 6,
        spectral: bool = True,
        styles: int = 0,
        height: int = 256,
        width: int = 512,
    ) -> None:
        modulated = partial(SPADE, labels=in_channels, norm=norm, hidden=hidden)
        wide, step = MULTIPLES[0] * ngf, 2**doublings
        if styles and (height % step or width % step):
            raise ValueError(f"height and width must be multiples of {step}, got {height} and {width}")
        begin = (
            nn.Linear(styles, wide * (height // step) * (width // step))
            if styles
            else nn.Conv2d(in_channels, wide, 3, padding=1)
        )
        block = partial(Block, modulated=modulated, spectral=spectral)
        super().__init__(begin, block, ngf=ngf, out_channels=out_channels, doublings=doublings)
        self.styles = styles

    def forward(self, labels: Tensor, style: Tensor | None = None) -> Tensor:
        if (style is None) == bool(self.styles):
            raise ValueError(
                f"with styles = {self.styles} it takes a map{' and a style' * bool(self.styles)}"
            )
        if style is None:
            return super().forward(labels)
        return self.grown(self.fc(style).view(style.shape[0], -1, *self.least(labels)), labels)


class MobileGauGAN(Growing):
    """GAN Compression's (Li et al. 2020): scales and shifts by separable convolutions from 2 * ngf channels; blocks are
    dense, without spectral norm. Shapes are those of `Growing`, options those of `GauGAN`."""

    def __init__(
        self,
        *,
        in_channels: int = 36,
        out_channels: int = 3,
        ngf: int = 64,
        norm: str = "batch",
        doublings: int = 6,
    ) -> None:
        modulated = partial(SPADE, labels=in_channels, norm=norm, hidden=2 * ngf, separable=True)
        begin = nn.Conv2d(in_channels, MULTIPLES[0] * ngf, 3, padding=1)
        block = partial(Block, modulated=modulated, spectral=False)
        super().__init__(begin, block, ngf=ngf, out_channels=out_channels, doublings=doublings)


def _separable(inside: int, outside: int) -> nn.Sequential:
    """Depthwise 3x3, instance norm, 1x1, as GAN Compression's separable convolutions."""
    depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside)
    return nn.Sequential(depthwise, nn.InstanceNorm2d(inside), nn.Conv2d(inside, outside, 1))
