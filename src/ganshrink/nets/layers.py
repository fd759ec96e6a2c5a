"""The few layers that several generators share."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def norm_layer(norm: str, *, affine: bool | None = None) -> Norm:
    """A norm by the field's names: `instance` (no running statistics), `batch`, or `none`.

    `affine=None` takes each norm's own habit: batch norms have a scale and a shift, instance norms have none.
    """
    if norm == "instance":
        return partial(nn.InstanceNorm2d, affine=bool(affine), track_running_stats=False)
    if norm == "batch":
        return partial(nn.BatchNorm2d, affine=affine is not False)
    if norm == "none":
        return lambda channels: nn.Identity()
    raise ValueError(f"norm must be instance, batch or none, got {norm!r}")


def needs_bias(norm: str) -> bool:
    """The field's habit: convs before a batch norm carry no bias, those before an instance norm do."""
    return norm != "batch"


class Residual(nn.Module):
    """`x + body(x)`. The sum is the block's only job, so a dead body leaves a plain identity."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def residual_block(width: int, norm: Norm, *, bias: bool) -> Residual:
    """Two reflect-padded 3x3 convolutions; a plain sum, with no activation after it."""
    return Residual(
        nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            norm(width),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            norm(width),
        )
    )


def stem(in_channels: int, ngf: int, norm: Norm, *, bias: bool) -> list[nn.Module]:
    """Reflect-padded 7x7 convolution to `ngf` channels, then two strided ones to `4 * ngf` (a quarter of the size)."""
    layers: list[nn.Module] = [
        nn.ReflectionPad2d(3),
        nn.Conv2d(in_channels, ngf, 7, bias=bias),
        norm(ngf),
        nn.ReLU(),
    ]
    for width in (ngf, 2 * ngf):
        layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias), norm(2 * width), nn.ReLU()]
    return layers


def head(ngf: int, out_channels: int, norm: Norm, *, bias: bool) -> list[nn.Module]:
    """Two transposed convolutions back to full size, then a reflect-padded 7x7 convolution and tanh."""
    layers: list[nn.Module] = []
    for width in (4 * ngf, 2 * ngf):
        up = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)
        layers += [up, norm(width // 2), nn.ReLU()]
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, out_channels, 7), nn.Tanh()]
