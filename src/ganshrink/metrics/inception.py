"""Inception v3 (Szegedy et al. 2016) as FID knows it (Heusel et al. 2017): the network of TensorFlow's release of
2015-12-05 with its weights ported to torch, up to the last average pool ("pool3", 2048-d). The features of `fid`, `kid`.

It is not torchvision's Inception v3, whose tensors have the same names: other weights, 1000 classes instead of 1008,
an auxiliary classifier, and other pools. Average pools here do not count their padding, and the last block
has a max pool where the paper has an average pool.

Attribute names are those of the released weights.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance, load_statistics
from ganshrink.metrics.kernel import KernelDistance, distance_of
from ganshrink.metrics.value import Listed, Protocolled, Setup, Value
from ganshrink.metrics.weights import file_hash, find_weights, load_judge

SIDE = 299
DIM = 2048
CLASSES = 1008
RELEASED_NAME = "pt_inception-2015-12-05-6726825d.pth"
RELEASE = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{RELEASED_NAME}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
ORIGIN = (
    f"metrics.inception names it: `ganshrink fetch inception` downloads and checks it. It is {RELEASE} (96 MB, SHA-256 "
    f"{SHA256})"
)
NOT_TORCHVISION = (
    "fid and kid are defined on TensorFlow's weights of 2015-12-05; torchvision's inception_v3 names its tensors alike "
    "but is another network with other distances"
)
STANDARD_KID = (
    "averages 100 subsets of 100 or 1000 images, drawn apart for each side, every pair in the cross term; "
    "kernel, subsets and subset_size say what was done here"
)

_average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
_shrink = partial(F.max_pool2d, kernel_size=3, stride=2)


class ConvNorm(nn.Module):
    """A bias-free convolution ("same" unless `padded` is false), BatchNorm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], *, stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class BlockA(nn.Module):
    """At 35x35: 1x1, 5x5, two 3x3 and a pool side by side; 224 + `pooled` channels."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(inputs, 64, (1, 1))
        self.branch5x5_1 = ConvNorm(inputs, 48, (1, 1))
        self.branch5x5_2 = ConvNorm(48, 64, (5, 5))
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, (1, 1))
        self.branch3x3dbl_2 = ConvNorm(64, 96, (3, 3))
        self.branch3x3dbl_3 = ConvNorm(96, 96, (3, 3))
        self.branch_pool = ConvNorm(inputs, pooled, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], dim=1)


class BlockB(nn.Module):
    """From 35x35 to 17x17; 480 channels more."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(inputs, 384, (3, 3), stride=2, padded=False)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, (1, 1))
        self.branch3x3dbl_2 = ConvNorm(64, 96, (3, 3))
        self.branch3x3dbl_3 = ConvNorm(96, 96, (3, 3), stride=2, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, _shrink(x)], dim=1)


class BlockC(nn.Module):
    """At 17x17: 7x7 convolutions as rows and columns, `narrow` channels wide inside; 768 channels."""

    def __init__(self, inputs: int, narrow: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = ConvNorm(inputs, 192, (1, 1))
        self.branch7x7_1 = ConvNorm(inputs, narrow, (1, 1))
        self.branch7x7_2 = ConvNorm(narrow, narrow, row)
        self.branch7x7_3 = ConvNorm(narrow, 192, column)
        self.branch7x7dbl_1 = ConvNorm(inputs, narrow, (1, 1))
        self.branch7x7dbl_2 = ConvNorm(narrow, narrow, column)
        self.branch7x7dbl_3 = ConvNorm(narrow, narrow, row)
        self.branch7x7dbl_4 = ConvNorm(narrow, narrow, column)
        self.branch7x7dbl_5 = ConvNorm(narrow, 192, row)
        self.branch_pool = ConvNorm(inputs, 192, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], dim=1)


class BlockD(nn.Module):
    """From 17x17 to 8x8; 512 channels more."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(inputs, 192, (1, 1))
        self.branch3x3_2 = ConvNorm(192, 320, (3, 3), stride=2, padded=False)
        self.branch7x7x3_1 = ConvNorm(inputs, 192, (1, 1))
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvNorm(192, 192, (3, 3), stride=2, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, _shrink(x)], dim=1)


class BlockE(nn.Module):
    """At 8x8: rows and columns of 3x3 convolutions side by side, and `pool`; 2048 channels."""

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = ConvNorm(inputs, 320, (1, 1))
        self.branch3x3_1 = ConvNorm(inputs, 384, (1, 1))
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1))
        self.branch3x3dbl_1 = ConvNorm(inputs, 448, (1, 1))
        self.branch3x3dbl_2 = ConvNorm(448, 384, (3, 3))
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1))
        self.branch_pool = ConvNorm(inputs, 192, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        wide = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        wide += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *wide, self.branch_pool(self.pool(x))], dim=1)


class Inception(nn.Module):
    """RGB uint8 pictures (N, 3, H, W) of any size in, features (N, 2048) out."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, (3, 3), stride=2, padded=False)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, (3, 3), padded=False)
        self.Mixed_5b = BlockA(192, pooled=32)
        self.Mixed_5c = BlockA(256, pooled=64)
        self.Mixed_5d = BlockA(288, pooled=64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, narrow=128)
        self.Mixed_6c = BlockC(768, narrow=160)
        self.Mixed_6d = BlockC(768, narrow=160)
        self.Mixed_6e = BlockC(768, narrow=192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, pool=_average)
        self.Mixed_7c = BlockE(2048, pool=_maximum)
        # No feature passes through it, but its 1008 rows tell the released weights from those of 1000 classes.
        self.fc = nn.Linear(DIM, CLASSES)

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) to float (N, 3, 299, 299) in [-1, 1].

        As pytorch-fid does it, without antialiasing: a choice that moves distances and is therefore the protocol's.
        """
        x = images.float() / 255
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return 2 * x - 1

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 2048): the mean over space after Mixed_7c."""
        x = self.Conv2d_1a_3x3(self.preprocess(images))
        x = _shrink(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(x)))
        x = _shrink(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))


def load_inception(path: str | Path = RELEASED_NAME, device: str | torch.device = "cpu") -> FeatureNetwork:
    """The feature network from the released .pth, or a safetensors file of its tensors under their own names.

    Any file of these names and shapes is taken; one that is not the release, byte for byte, is called so in the
    network's name, and with it in every protocol.

    Raises:
        FileNotFoundError: no such file; the message says where it comes from.
        ValueError: the file holds something else, such as torchvision's Inception v3.
    """
    file = find_weights(path, origin=ORIGIN)
    try:
        module = load_judge(Inception(), file, device=device)
    except ValueError as error:
        raise ValueError(f"{error}. {NOT_TORCHVISION}") from error
    sha256 = file_hash(file)
    name = "inception-2015-12-05 pool3"
    return FeatureNetwork(
        name=name if sha256 == SHA256 else f"{name}, weights not verified: not the released file",
        module=module,
        dim=DIM,
        resize=f"bilinear, not antialiased, to {SIDE}x{SIDE}",
        sha256=sha256[:12],
    )


class KernelInceptionDistance(KernelDistance):
    """`kid`: KID's kernel and features under our estimator, and in the protocol what the usual KID does instead."""

    def compute(self) -> Value:
        value = super().compute()
        said: dict[str, Protocolled] = {} if self.usual else {"usual_kid": STANDARD_KID}
        return Value(value.value, value.better, value.protocol | said)


def _frechet(setup: Setup) -> FrechetDistance:
    network = setup.network(load_inception, setup.config.inception)
    path = setup.config.fid_statistics
    statistics = None if path is None else load_statistics(path, network.dim)
    reals = setup.config.reals
    return FrechetDistance("fid", network, split=setup.split, reals=reals, statistics=statistics)


def _kernel(setup: Setup) -> KernelInceptionDistance:
    network = setup.network(load_inception, setup.config.inception)
    options: dict[str, Any] = {"seed": setup.config.seed, "reals": setup.config.reals}
    if setup.config.kid_subsets is not None:
        count, size = setup.config.kid_subsets
        options |= {"usual": True, "subsets": count, "size": size}
    return KernelInceptionDistance("kid", network, split=setup.split, **options)


FID = Listed(_frechet, "lower", "target", "Frechet inception distance (2048-d)")
KID = Listed(_kernel, "lower", "target", "kernel inception distance of the same features", distance_of)
