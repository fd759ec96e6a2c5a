"""DRN-D-105 (Yu et al. 2017): the judge of Cityscapes that Pix2Pix's successors report mIoU by.

A residual network whose last levels are dilated instead of strided, so that scores come out at 1/8. Attribute names are
those of the released weights.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.metrics.iou import Segmenter, resized_ids
from ganshrink.metrics.weights import find_weights, load_judge, short_hash

FILE = "drn-d-105_ms_cityscapes.pth"
CLASSES = 19  # train ids
MEAN_RGB = (0.29010095242892997, 0.32808144844279574, 0.28696394422942517)
STD_RGB = (0.1829540508368939, 0.18656561047509476, 0.18447508988480435)
ORIGIN = (
    f"metrics.segmenter_weights names it. It is {FILE}, the multi-scale Cityscapes weights of the authors of DRN (also in "
    "GAN Compression's downloads)"
)


def conv_norm(inside: int, outside: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A bias-free "same" convolution, BatchNorm, ReLU."""
    padding = kernel // 2 * dilation
    conv = nn.Conv2d(inside, outside, kernel, stride, padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3 strided and dilated, 1x1 to four times `width`; plus the input, by 1x1 where it is not alike."""

    def __init__(self, inside: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        outside = 4 * width
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


def level(inside: int, width: int, blocks: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """So many blocks, of which the first is strided."""
    rest = [Bottleneck(4 * width, width, stride=1, dilation=dilation) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inside, width, stride=stride, dilation=dilation), *rest)


class DRN(nn.Module):
    """Normalised RGB (N, 3, H, W), sides multiples of 8, to scores (N, classes, H, W)."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.base = nn.Sequential(
            conv_norm(3, 16, 7),
            conv_norm(16, 16, 3),
            conv_norm(16, 32, 3, stride=2),
            level(32, 64, 3, stride=2),
            level(256, 128, 4, stride=2),
            level(512, 256, 23, dilation=2),
            level(1024, 512, 3, dilation=4),
            conv_norm(2048, 512, 3, dilation=2),
            conv_norm(512, 512, 3),
        )
        self.seg = nn.Conv2d(512, classes, 1)
        self.up = nn.ConvTranspose2d(classes, classes, 16, stride=8, padding=4, groups=classes, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.up(self.seg(self.base(image)))


def load_drn(path: str | Path | None = None, device: str | torch.device = "cpu") -> Segmenter:
    """The Cityscapes segmenter, from the released .pth or a safetensors file of its tensors under their own names.

    It sees pictures at their own size, and its scores are resized to the label maps: to 2048x1024 in the papers (scores or
    their log-softmax: the largest is the same, since what is subtracted is resized alike for all classes).

    Raises:
        FileNotFoundError: no such file; the message says where it comes from.
        ValueError: the file holds something else.
    """
    file = find_weights(path or FILE, origin=ORIGIN)
    network = load_judge(DRN(), file, device=device)

    def predict(pictures: Tensor, size: tuple[int, int]) -> Tensor:
        mean, std = (torch.tensor(x, device=pictures.device).view(1, 3, 1, 1) for x in (MEAN_RGB, STD_RGB))
        scores = network((pictures.float() / 255 - mean) / std)
        return resized_ids(scores, size)

    return Segmenter(
        name="drn-d-105-cityscapes",
        predict=predict,
        classes=CLASSES + 1,
        resize="none; scores bilinear to the label size",
        sha256=short_hash(file),
    )
