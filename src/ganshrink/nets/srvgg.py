"""Real-ESRGAN's compact generator: plain convolutions at the size of the input, and one pixel shuffle at the end."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ganshrink.nets.layers import check_scale


class SRVGG(nn.Module):
    """`convs` + 2 3x3 convolutions with PReLUs of a slope per channel, pixel shuffle, plus the enlarged input.

    Takes (B, channels, H, W), RGB in [0, 1], gives (B, channels, scale * H, scale * W) alike, without a bound. Modules
    bear BasicSR's names, so that its files load as they are.

    Raises:
        ValueError: if `scale` is not 1 to 4, or the channels differ.
    """

    value_range: ClassVar[tuple[float, float]] = (0, 1)

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        ngf: int = 64,
        convs: int = 16,
        scale: int = 4,
    ) -> None:
        super().__init__()
        check_scale(scale, (1, 2, 3, 4))
        if in_channels != out_channels:
            raise ValueError(f"srvgg adds its input: {in_channels} channels cannot become {out_channels}")
        self.scale = scale
        layers: list[nn.Module] = []
        for inside in (in_channels, *[ngf] * convs):
            layers += [nn.Conv2d(inside, ngf, 3, padding=1), nn.PReLU(ngf)]
        self.body = nn.Sequential(*layers, nn.Conv2d(ngf, out_channels * scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        enlarged = F.interpolate(x, scale_factor=float(self.scale), mode="nearest")
        return F.pixel_shuffle(self.body(x), self.scale) + enlarged
