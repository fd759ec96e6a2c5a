"""The PatchGAN discriminator of Pix2Pix (Isola et al. 2017): a 70 x 70 receptive field at three layers."""

from torch import Tensor, nn

from ganshrink.nets.layers import needs_bias, norm_layer
from ganshrink.system.copies import copied


class PatchGAN(nn.Module):
    """4x4 convolutions, padding 1: one without a norm, `layers` - 1 strided ones, one of stride 1, one to a single channel.

    Takes (B, in_channels, H, W), gives unbounded scores (B, 1, h, w); h = 30 for H = 256.
    """

    def __init__(
        self,
        *,
        in_channels: int = 6,
        ndf: int = 64,
        layers: int = 3,
        norm: str = "batch",
        affine: bool | None = None,
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        stack: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = ndf
        for level in range(1, layers + 1):
            inside, width = width, ndf * min(2**level, 8)
            stride = 2 if level < layers else 1
            conv = nn.Conv2d(inside, width, 4, stride=stride, padding=1, bias=bias)
            stack += [conv, make_norm(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*stack, nn.Conv2d(width, 1, 4, stride=1, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def second_head(judge: nn.Module, shared: int) -> nn.Module:
    """A copy of a PatchGAN of which the first so many convolutions, and what belongs to them, are the very modules of the
    original: OMGD's partially shared discriminator (Ren et al. 2021)."""
    other = copied(judge)
    seen = 0
    for place, layer in enumerate(judge.layers):  # type: ignore[arg-type]
        seen += isinstance(layer, nn.Conv2d)
        if seen > shared:
            break
        other.layers[place] = layer  # type: ignore[index,operator]
    return other
