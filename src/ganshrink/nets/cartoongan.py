"""The generator of CartoonGAN (Chen et al. 2018), the network of GAN Slimming's cartoon results."""

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from ganshrink.nets.layers import Norm, doubling, padded_conv, residual_block

# The norm of the released weights: its epsilon is far below torch's, so dead channels are blown up, not damped.
INSTANCE: Norm = partial(nn.InstanceNorm2d, affine=True, eps=1e-9)

# Modules of the released weights that stand outside the residual blocks, and ours.
RELEASED = {
    "conv01_1": "down.1",
    "in01_1": "down.2",
    "conv02_1": "down.4",
    "conv02_2": "down.5",
    "in02_1": "down.6",
    "conv03_1": "down.8",
    "conv03_2": "down.9",
    "in03_1": "down.10",
    "deconv01_1": "up.0",
    "deconv01_2": "up.1",
    "in12_1": "up.2",
    "deconv02_1": "up.4",
    "deconv02_2": "up.5",
    "in13_1": "up.6",
    "deconv03_1": "up.9",
}


def half(width: int) -> list[nn.Module]:
    """Halve the size, double the channels: a strided convolution and a plain one, with no norm between them."""
    down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
    return [down, nn.Conv2d(2 * width, 2 * width, 3, padding=1), INSTANCE(2 * width), nn.ReLU()]


def double(width: int, upsample: str, padding: str) -> list[nn.Module]:
    """Double the size, halve the channels (see `doubling`), and a plain convolution, with no norm between them."""
    up = doubling(width, width // 2, upsample, padding=padding)
    return [*up, nn.Conv2d(width // 2, width // 2, 3, padding=1), INSTANCE(width // 2), nn.ReLU()]


class CartoonGAN(nn.Module):
    """Stem, two halvings of two convolutions each, `blocks` residual blocks, two doublings alike, tanh.

    Takes (B, in_channels, H, W), RGB in [-1, 1], with H and W multiples of 4, gives (B, out_channels, H, W) alike.

    Args:
        kernel: of the first and the last convolution. The released weights have 7; GAN Slimming's published cost is
            that of 3.
        upsample, padding: as in `ResNet`.

    Raises:
        ValueError: if `kernel` is even, or upsample or padding is unknown.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        blocks: int = 8,
        kernel: int = 7,
        upsample: str = "transposed",
        padding: str = "reflect",
    ) -> None:
        super().__init__()
        first = padded_conv(in_channels, ngf, kernel, padding=padding)
        self.down = nn.Sequential(*first, INSTANCE(ngf), nn.ReLU(), *half(ngf), *half(2 * ngf))
        self.blocks = nn.Sequential(
            *(residual_block(4 * ngf, INSTANCE, bias=True, padding=padding) for _ in range(blocks))
        )
        ups = [*double(4 * ngf, upsample, padding), *double(2 * ngf, upsample, padding)]
        self.up = nn.Sequential(*ups, *padded_conv(ngf, out_channels, kernel, padding=padding), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.blocks(self.down(x)))


def from_release(tensors: Mapping[str, Tensor], network: CartoonGAN) -> dict[str, Tensor]:
    """The tensors of the authors' release under our names, and for RGB; names of other origin stay.

    The release takes and gives BGR, so the first convolution's inputs and the last one's outputs are reversed.
    """
    state = {released_name(name): tensor for name, tensor in tensors.items()}
    if "conv01_1.weight" in tensors:
        state["down.1.weight"] = state["down.1.weight"].flip(1)
    for name in ("weight", "bias"):
        if f"deconv03_1.{name}" in tensors:
            state[f"up.9.{name}"] = state[f"up.9.{name}"].flip(0)
    return state


def released_name(name: str) -> str:
    """Our name for a tensor of the release: `in05_2.scale` is `blocks.1.body.6.weight`."""
    module, _, tensor = name.rpartition(".")
    if module.startswith("in"):
        tensor = {"scale": "weight", "shift": "bias"}.get(tensor, tensor)
    if found := re.fullmatch(r"(conv|in)(04|05|06|07|08|09|10|11)_([12])", module):
        kind, number, half_ = found.groups()
        index = (1 if kind == "conv" else 2) + 4 * (int(half_) - 1)
        return f"blocks.{int(number) - 4}.body.{index}.{tensor}"
    return f"{RELEASED[module]}.{tensor}" if module in RELEASED else name
