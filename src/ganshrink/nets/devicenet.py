"""A generator of our own, of what devices run fast alone: 3x3 convolutions padded with zeros, ReLU and pixel shuffle."""

from torch import Tensor, nn


class Unit(nn.Sequential):
    """A convolution and what follows it. It is trained as branches (see `branches`)."""

    def __init__(self, *layers: nn.Module, branched: bool) -> None:
        super().__init__(*layers)
        self.branched = branched


class DeviceNet(nn.Module):
    """`downs` strided convolutions down, a trunk of `blocks` convolutions, `downs` doublings by pixel shuffle up, tanh.

    Takes (B, in_channels, H, W) with H and W multiples of 2 ** downs, gives (B, out_channels, H, W) in [-1, 1]. No layer
    works at full size: the last doubling makes the image. There are no norms and no skips; what trains a deep chain without
    them are the branches that its convolutions have in training.

    Args:
        ngf: width at half the size; it doubles with each further halving. Multiples of 16 run fastest, after a cut too
            (`method.round_to = 16`).
        blocks: convolutions of the trunk.
        downs: halvings before the trunk: more of them make it cheaper at the same width.
        branches: train each convolution but the last as branches, each with a batch norm; else as it is.

    Raises:
        ValueError: for no halving at all.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        blocks: int = 12,
        downs: int = 2,
        branches: bool = True,
    ) -> None:
        super().__init__()
        if downs < 1:
            raise ValueError(f"downs must be 1 or more, got {downs}")
        widths = [ngf * 2**level for level in range(downs)]

        def conv(inside: int, outside: int, stride: int) -> Unit:
            return Unit(nn.Conv2d(inside, outside, 3, stride, padding=1), nn.ReLU(), branched=branches)

        def up(inside: int, outside: int) -> Unit:
            layers = (nn.Conv2d(inside, 4 * outside, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())
            return Unit(*layers, branched=branches)

        ends = zip([in_channels, *widths], widths, strict=False)
        self.down = nn.Sequential(*(conv(inside, outside, 2) for inside, outside in ends))
        self.trunk = nn.Sequential(*(conv(widths[-1], widths[-1], 1) for _ in range(blocks)))
        steps = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.Sequential(*(up(inside, outside) for inside, outside in steps))
        self.last = nn.Sequential(
            nn.Conv2d(ngf, 4 * out_channels, 3, padding=1), nn.PixelShuffle(2), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.trunk(self.down(x))))
