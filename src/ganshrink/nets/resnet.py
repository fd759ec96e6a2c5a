"""The residual generator of CycleGAN (Johnson et al. 2016, Zhu et al. 2017), with any number of blocks."""

from typing import Any

from torch import Tensor, nn

from ganshrink.nets.layers import head, needs_bias, norm_layer, residual_block, stem


class ResNet(nn.Module):
    """Stem and `halvings` strided convolutions down, `blocks` residual blocks, as many transposed ones up, tanh.

    Takes (B, in_channels, H, W) with H and W multiples of 2 ** halvings, gives (B, out_channels, H, W) in [-1, 1].

    Args:
        halvings: two in CycleGAN, four in the global generator of pix2pixHD (Wang et al. 2018).
        antialias: halve and double the size by blurs, as CUT does (Park et al. 2020).
        upsample: how the size doubles: transposed, resize or shuffle (see `doubling`).
        padding: of convolutions that keep the size: reflect, or zeros; with zeros too, halvings and blurs stay as they are.

    Raises:
        ValueError: for an unknown norm, upsample or padding, or antialias with another upsample than the default.
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
        halvings: int = 2,
        antialias: bool = False,
        upsample: str = "transposed",
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        wide = ngf * 2**halvings
        ends: dict[str, Any] = {
            "halvings": halvings,
            "antialias": antialias,
            "padding": padding,
            "bias": bias,
        }
        self.down = nn.Sequential(*stem(in_channels, ngf, make_norm, **ends))
        self.blocks = nn.Sequential(
            *(residual_block(wide, make_norm, bias=bias, padding=padding) for _ in range(blocks))
        )
        self.up = nn.Sequential(*head(ngf, out_channels, make_norm, upsample=upsample, **ends))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x)))
