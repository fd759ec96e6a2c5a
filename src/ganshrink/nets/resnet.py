"""The residual generator of CycleGAN (Johnson et al. 2016, Zhu et al. 2017), with any number of blocks."""

from torch import Tensor, nn

from ganshrink.nets.layers import head, needs_bias, norm_layer, residual_block, stem


class ResNet(nn.Module):
    """Stem and two strided convolutions down, `blocks` residual blocks, two transposed convolutions up, tanh.

    Takes (B, in_channels, H, W) with H and W multiples of 4, gives (B, out_channels, H, W) in [-1, 1].
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
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        self.down = nn.Sequential(*stem(in_channels, ngf, make_norm, bias=bias))
        self.blocks = nn.Sequential(*(residual_block(4 * ngf, make_norm, bias=bias) for _ in range(blocks)))
        self.up = nn.Sequential(*head(ngf, out_channels, make_norm, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x)))
