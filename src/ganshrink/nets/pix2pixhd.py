"""Pix2pixHD's generator for double resolution (Wang et al. 2018, section 3.1): local enhancers around the global one."""

from functools import partial

from torch import Tensor, nn

from ganshrink.nets.layers import head, needs_bias, norm_layer, residual_block, stem
from ganshrink.nets.resnet import ResNet

IMAGE = 3  # modules that make an image at the end of a generator: what pads, a convolution, tanh


class Enhancer(nn.Module):
    """Halves its input, adds what a generator of half the size came to, and doubles the sum through residual blocks.

    Takes (B, in_channels, H, W) and (B, 2 * ngf, H / 2, W / 2), gives (B, ngf, H, W); the outermost one, which has
    `out_channels`, gives the image, in [-1, 1].
    """

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        out_channels: int | None,
        *,
        blocks: int,
        norm: str,
        affine: bool | None,
        upsample: str,
        padding: str,
    ) -> None:
        super().__init__()
        make_norm, bias = norm_layer(norm, affine=affine), needs_bias(norm)
        self.down = nn.Sequential(*stem(in_channels, ngf, make_norm, bias=bias, halvings=1, padding=padding))
        block = partial(residual_block, 2 * ngf, make_norm, bias=bias, padding=padding)
        self.blocks = nn.Sequential(*(block() for _ in range(blocks)))
        up = head(
            ngf, out_channels or ngf, make_norm, bias=bias, halvings=1, upsample=upsample, padding=padding
        )
        self.up = nn.Sequential(*(up if out_channels else up[:-IMAGE]))

    def forward(self, x: Tensor, coarse: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x) + coarse))


class LocalEnhancer(nn.Module):
    """A global generator, which sees its input at half the size and ends before its image, and a local enhancer around it.

    Takes (B, in_channels, H, W) with H and W multiples of 2 ** (halvings + enhancers), gives (B, out_channels, H, W) in
    [-1, 1]. The part `coarse` is that of a global generator: `coarse.load_state_dict(its state, strict=False)`.

    Args:
        ngf: width at full size; the global generator's is twice that, or four times with two enhancers.
        blocks: of the global generator.
        local_blocks: of each enhancer.
        enhancers: how often the size doubles; once in the paper.
        halvings: of the global generator.
        norm, affine, upsample, padding: as in `ResNet`.

    Raises:
        ValueError: as `ResNet`, or without an enhancer.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 32,
        blocks: int = 9,
        local_blocks: int = 3,
        enhancers: int = 1,
        norm: str = "instance",
        affine: bool | None = None,
        halvings: int = 4,
        upsample: str = "transposed",
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        if enhancers < 1:
            raise ValueError("enhancers must be at least 1: without one this is pix2pixhd")
        self.coarse = ResNet(
            in_channels=in_channels,
            out_channels=out_channels,
            ngf=ngf * 2**enhancers,
            blocks=blocks,
            norm=norm,
            affine=affine,
            halvings=halvings,
            upsample=upsample,
            padding=padding,
        )
        self.coarse.up = nn.Sequential(*list(self.coarse.up)[:-IMAGE])
        self.enhancers = nn.ModuleList(
            Enhancer(
                in_channels,
                ngf * 2**level,
                None if level else out_channels,
                blocks=local_blocks,
                norm=norm,
                affine=affine,
                upsample=upsample,
                padding=padding,
            )
            for level in reversed(range(enhancers))
        )
        self.halve = nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x]
        for _ in self.enhancers:
            inputs.append(self.halve(inputs[-1]))
        y = self.coarse(inputs.pop())
        for enhancer in self.enhancers:
            y = enhancer(inputs.pop(), y)
        return y
