"""The residual generator of CycleGAN (Johnson et al. 2016, Zhu et al. 2017), with any number of blocks."""

import re
from collections.abc import Mapping

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


def from_release(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of pytorch-CycleGAN-and-pix2pix's `latest_net_G.pth` under our names; names of other origin stay.

    There, one sequence holds everything, and a dropout in a block, if any, takes a number.

    Args:
        network: a residual generator with `down`, `blocks` and `up`.
    """
    stem, blocks = (len(list(network.get_submodule(part).children())) for part in ("down", "blocks"))
    dropout = not any(
        ".conv_block.5." in name for name in tensors
    )  # number 5 is the second convolution, or padding

    def ours(name: str) -> str:
        match = re.fullmatch(r"model\.(\d+)\.(?:conv_block\.(\d+)\.)?(.+)", name)
        if not match:
            return name
        at, inside, rest = int(match[1]), match[2], match[3]
        if inside is not None:
            position = int(inside) - (dropout and int(inside) > 4)
            return f"blocks.{at - stem}.body.{position}.{rest}"
        return f"down.{at}.{rest}" if at < stem else f"up.{at - stem - blocks}.{rest}"

    return {ours(name): tensor for name, tensor in tensors.items()}
