"""The PatchGAN discriminator of Pix2Pix (Isola et al. 2017): a 70 x 70 receptive field at three layers; and several of
them, each at half the size of the one before, as pix2pixHD (Wang et al. 2018) and GauGAN (Park et al. 2019) use."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ganshrink.nets.layers import needs_bias, norm_layer
from ganshrink.system.copies import copied


class PatchGAN(nn.Module):
    """4x4 convolutions: one without a norm, `layers` - 1 strided ones, one of stride 1, one to a single channel.

    Takes (B, in_channels, H, W), gives unbounded scores (B, 1, h, w); h = 30 for H = 256.

    Args:
        pad: of every convolution; two in pix2pixHD and GauGAN.
        spectral: spectral norm on the convolutions that a norm follows.
    """

    def __init__(
        self,
        *,
        in_channels: int = 6,
        ndf: int = 64,
        layers: int = 3,
        norm: str = "batch",
        affine: bool | None = None,
        pad: int = 1,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        stack: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, stride=2, padding=pad), nn.LeakyReLU(0.2)]
        width = ndf
        for level in range(1, layers + 1):
            inside, width = width, ndf * min(2**level, 8)
            stride = 2 if level < layers else 1
            conv = nn.Conv2d(inside, width, 4, stride=stride, padding=pad, bias=bias)
            stack += [spectral_norm(conv) if spectral else conv, make_norm(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*stack, nn.Conv2d(width, 1, 4, stride=1, padding=pad))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def features(self, x: Tensor) -> list[Tensor]:
        """What each activation gives, and the scores at last."""
        found = []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU) or place == len(self.layers) - 1:
                found.append(x)
        return found


class MultiScale(nn.Module):
    """`scales` PatchGANs, the first at full size, each next one at half of it.

    Takes (B, in_channels, H, W), gives for each scale what `PatchGAN.features` gives.
    """

    def __init__(self, scales: int, **options: Any) -> None:
        super().__init__()
        self.judges = nn.ModuleList(PatchGAN(**options) for _ in range(scales))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        found: list[list[Tensor]] = []
        for judge in self.judges:
            if found:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            found.append(judge.features(x))  # type: ignore[operator]
        return found


def second_head(judge: nn.Module, shared: int) -> nn.Module:
    """A copy of a PatchGAN, or of each of several, of which the first so many convolutions, and what belongs to them, are
    the very modules of the original: OMGD's partially shared discriminator (Ren et al. 2021)."""
    other = copied(judge)
    if isinstance(judge, MultiScale):
        other.judges = nn.ModuleList(second_head(one, shared) for one in judge.judges)
        return other
    seen = 0
    for place, layer in enumerate(judge.layers):  # type: ignore[arg-type]
        seen += isinstance(layer, nn.Conv2d)
        if seen > shared:
            break
        other.layers[place] = layer  # type: ignore[index,operator]
    return other
