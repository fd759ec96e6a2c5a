"""The separable residual generator of GAN Compression (Li et al. 2020), CycleGAN's with cheaper residual blocks."""

from typing import Any

from torch import Tensor, nn

from ganshrink.nets.layers import Norm, Residual, head, needs_bias, norm_layer, padded_conv, stem


def separable(width: int, inner: Norm, padding: str) -> list[nn.Module]:
    """Padded depthwise 3x3, norm, 1x1."""
    *pad, depthwise = padded_conv(width, width, 3, padding=padding, groups=width)
    return [*pad, nn.Sequential(depthwise, inner(width), nn.Conv2d(width, width, 1))]


def separable_block(width: int, norm: Norm, inner: Norm, padding: str) -> Residual:
    """Two separable convolutions; a plain sum, with no activation after it."""
    return Residual(
        nn.Sequential(
            *separable(width, inner, padding),
            norm(width),
            nn.ReLU(),
            *separable(width, inner, padding),
            norm(width),
        )
    )


class MobileResNet(nn.Module):
    """`ResNet` with separable convolutions in the residual blocks alone; stem, halvings, doublings and head are dense.

    Shapes, `upsample` and `padding` are those of `ResNet`. As in the original, the norm inside a separable convolution is an
    instance norm and its convolutions have a bias, whatever `norm` is.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        affine: bool | None = None,
        upsample: str = "transposed",
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        inner = norm_layer("instance", affine=affine)
        same: dict[str, Any] = {"bias": bias, "padding": padding}
        self.down = nn.Sequential(*stem(in_channels, ngf, make_norm, **same))
        self.blocks = nn.Sequential(
            *(separable_block(4 * ngf, make_norm, inner, padding) for _ in range(blocks))
        )
        self.up = nn.Sequential(*head(ngf, out_channels, make_norm, upsample=upsample, **same))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x)))
