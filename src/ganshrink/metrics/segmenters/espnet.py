"""ESPNet (Mehta et al. 2018) with p = 2, q = 8 for CamVid: the judge of label -> photo generators.

Attribute names are those of the released weights. Every conv is bias-free with "same" padding.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.metrics.iou import Segmenter, resized_ids
from ganshrink.metrics.weights import find_weights, load_judge, short_hash

FILE = "espnet_camvid.safetensors"
CLASSES = 12  # the last one is void
HEIGHT, WIDTH = 360, 480
MEAN_BGR = (110.331, 108.409, 105.033)
STD_BGR = (72.126, 72.691, 69.904)
ORIGIN = (
    "metrics.segmenter_weights names it. ESPNet(p=2, q=8), 12 classes: "
    "take the authors' public CamVid release and save its state dict "
    "with safetensors under its own names"
)


class Conv(nn.Module):
    """A bias-free "same" convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class NormAct(nn.Module):
    """BatchNorm and per-channel PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class ConvNormAct(NormAct):
    """A convolution, BatchNorm and PReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__(outputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """The pyramid of dilated convs (section 3.1): reduce, five dilations side by side, hierarchical sums."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        narrow = outputs // 5
        self.c1 = Conv(inputs, narrow, kernel, stride=stride)
        self.d1 = Conv(narrow, outputs - 4 * narrow, 3)
        self.d2 = Conv(narrow, narrow, 3, dilation=2)
        self.d4 = Conv(narrow, narrow, 3, dilation=4)
        self.d8 = Conv(narrow, narrow, 3, dilation=8)
        self.d16 = Conv(narrow, narrow, 3, dilation=16)

    def pyramid(self, x: Tensor) -> Tensor:
        """All branches concatenated, before norm and activation."""
        x = self.c1(x)
        sums = [self.d2(x)]
        for branch in (self.d4, self.d8, self.d16):
            sums.append(sums[-1] + branch(x))
        return torch.cat([self.d1(x), *sums], dim=1)


class DownBlock(Pyramid):
    """A pyramid at half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=3, stride=2)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.pyramid(x)))


class ESPBlock(Pyramid):
    """A pyramid at the same resolution, with or without a residual."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool = True) -> None:
        super().__init__(inputs, outputs, kernel=1, stride=1)
        self.bn = NormAct(outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.pyramid(x)
        return self.bn(x + y if self.residual else y)


class Encoder(nn.Module):
    """Three levels, at 1/2, 1/4 and 1/8; the shrunk image joins the first two."""

    def __init__(self, classes: int, *, p: int, q: int) -> None:
        super().__init__()
        self.level1 = ConvNormAct(3, 16, stride=2)
        self.b1 = NormAct(19)
        self.level2_0 = DownBlock(19, 64)
        self.level2 = nn.Sequential(*(ESPBlock(64, 64) for _ in range(p)))
        self.b2 = NormAct(131)
        self.level3_0 = DownBlock(131, 128)
        self.level3 = nn.Sequential(*(ESPBlock(128, 128) for _ in range(q)))
        self.b3 = NormAct(256)
        self.classifier = Conv(256, classes, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, 19, H/2, W/2) and (N, 131, H/4, W/4), class scores (N, classes, H/8, W/8)."""
        half = F.avg_pool2d(image, 3, 2, 1)
        quarter = F.avg_pool2d(half, 3, 2, 1)
        one = self.b1(torch.cat([self.level1(image), half], dim=1))
        start = self.level2_0(one)
        two = self.b2(torch.cat([self.level2(start), start, quarter], dim=1))
        start = self.level3_0(two)
        three = self.b3(torch.cat([start, self.level3(start)], dim=1))
        return one, two, self.classifier(three)


class ESPNet(nn.Module):
    """Encoder and decoder: normalised BGR (N, 3, H, W), sides multiples of 8, to scores (N, 12, H, W)."""

    def __init__(self, classes: int = CLASSES, *, p: int = 2, q: int = 8) -> None:
        super().__init__()
        self.encoder = Encoder(classes, p=p, q=q)
        self.br = nn.BatchNorm2d(classes, eps=1e-3)
        self.up_l3 = nn.Sequential(nn.ConvTranspose2d(classes, classes, 2, 2, bias=False))
        self.level3_C = Conv(131, classes, 1)
        self.combine_l2_l3 = nn.Sequential(
            NormAct(2 * classes), ESPBlock(2 * classes, classes, residual=False)
        )
        self.up_l2 = nn.Sequential(nn.ConvTranspose2d(classes, classes, 2, 2, bias=False), NormAct(classes))
        self.conv = ConvNormAct(classes + 19, classes)
        self.classifier = nn.ConvTranspose2d(classes, classes, 2, 2, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        one, two, scores = self.encoder(image)
        coarse = self.up_l3(self.br(scores))
        middle = self.up_l2(self.combine_l2_l3(torch.cat([self.level3_C(two), coarse], dim=1)))
        return self.classifier(self.conv(torch.cat([middle, one], dim=1)))


def preprocess(pictures: Tensor) -> Tensor:
    """uint8 RGB pictures (N, 3, H, W) to what the network knows: 480x360, BGR, (x - mean) / std / 255."""
    mean, std = (torch.tensor(x, device=pictures.device).view(1, 3, 1, 1) for x in (MEAN_BGR, STD_BGR))
    x = F.interpolate(pictures.float(), size=(HEIGHT, WIDTH), mode="bilinear", antialias=True)
    return (x.flip(1) - mean) / std / 255


def load_espnet(path: str | Path | None = None, device: str | torch.device = "cpu") -> Segmenter:
    """The CamVid segmenter from a safetensors file of exactly its tensors.

    Raises:
        FileNotFoundError: no such file; the message says where it comes from.
        ValueError: the file holds something else.
    """
    file = find_weights(path or FILE, origin=ORIGIN)
    network = load_judge(ESPNet(), file, device=device)

    def predict(pictures: Tensor, size: tuple[int, int]) -> Tensor:
        return resized_ids(network(preprocess(pictures)), size)

    return Segmenter(
        name="espnet-camvid",
        predict=predict,
        classes=CLASSES,
        resize=f"bilinear to {WIDTH}x{HEIGHT}; scores bilinear to the label size",
        sha256=short_hash(file),
    )
