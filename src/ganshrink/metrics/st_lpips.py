"""ST-LPIPS (Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric"): a learned distance that a shift by
a pixel hardly moves. It is not LPIPS (Zhang et al. 2018), whose heads weigh another AlexNet.

Weights are the release's, as the package stlpips-pytorch has them; its code, which needs torchvision, is not imported.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.metrics.mean import MeanOverImages, compared
from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import Against, Listed, Pictures, Setup
from ganshrink.metrics.weights import find_weights, load_judge, short_hash, weights_path

ST_LPIPS_FILE, PACKAGE, IN_PACKAGE = (
    "stlpips_alex_shift_tolerant.pth",
    "stlpips-pytorch",
    "alex_shift_tolerant.pth",
)
ORIGIN = (
    f'metrics.st_lpips names it: `pip install "ganshrink[perceptual]"` brings the package {PACKAGE}, whose file '
    f"{IN_PACKAGE} is found without importing it; or copy that file here"
)
LEAST_SIDE = 24  # below it a reflected border is wider than what it reflects


class Blur(nn.Module):
    """Halves sides after a binomial filter (3x3) over each channel, the border reflected."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2,) * 4, mode="reflect"), self.filt, stride=2, groups=len(self.filt))


class STLPIPS(nn.Module):
    """The distance (N,) of RGB pictures (N, 3, H, W) in [-1, 1]; modules are named as the release's tensors are."""

    def __init__(self) -> None:
        super().__init__()
        self.scaling_layer = nn.Module()
        for name in ("shift", "scale"):
            self.scaling_layer.register_buffer(name, torch.zeros(1, 3, 1, 1))
        layers: dict[str, dict[str, nn.Module]] = {
            "slice1": {"0": nn.Conv2d(3, 64, 11, padding=2), "1": Blur(64)},
            "slice2": {"4": Blur(64), "5": nn.Conv2d(64, 192, 5, padding=2)},
            "slice3": {"8": Blur(192), "9": nn.Conv2d(192, 384, 3, padding=1)},
            "slice4": {"11": nn.Conv2d(384, 256, 3, padding=1)},
            "slice5": {"13": nn.Conv2d(256, 256, 3, padding=1)},
        }
        self.net = nn.ModuleDict({name: nn.ModuleDict(modules) for name, modules in layers.items()})
        for place, width in enumerate((64, 192, 384, 256, 256)):
            head = nn.ModuleDict({"1": nn.Conv2d(width, 1, 1, bias=False)})
            self.add_module(f"lin{place}", nn.ModuleDict({"model": head}))

    def features(self, images: Tensor) -> list[Tensor]:
        """Of its five layers, of images in [-1, 1]."""
        x = (images - self.scaling_layer.shift) / self.scaling_layer.scale  # type: ignore[operator]
        found = []
        for name, layers in self.net.items():
            if name in ("slice2", "slice3"):
                x = F.max_pool2d(x, 3, stride=1)
            for layer in cast(nn.ModuleDict, layers).values():
                x = layer(x)
            x = F.relu(x)
            found.append(x)
        return found

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Distances (N,); ValueError for pictures of under 24 pixels."""
        if min(images.shape[-2:]) < LEAST_SIDE:
            height, width = images.shape[-2:]
            raise ValueError(
                f"ST-LPIPS needs pictures of at least {LEAST_SIDE}x{LEAST_SIDE}, got {width}x{height}"
            )
        total = images.new_zeros(len(images))
        for place, pair in enumerate(zip(self.features(images), self.features(others), strict=True)):
            ours, theirs = (F.normalize(one, dim=1, eps=1e-10) for one in pair)
            head = self.get_submodule(f"lin{place}.model.1")
            total = total + head((ours - theirs).square()).mean(dim=(1, 2, 3))
        return total


def find_st_lpips(path: Path) -> Path:
    """The weights file at `path`, or that of the installed package where there is none at the default one."""
    if path == Path(ST_LPIPS_FILE) and not weights_path(path).is_file():
        try:
            inside = [file for file in files(PACKAGE) or () if file.name == IN_PACKAGE]
        except PackageNotFoundError:
            inside = []
        if inside:
            return Path(str(inside[0].locate()))
    return find_weights(path, origin=ORIGIN)


def load_st_lpips(path: Path, device: str | torch.device = "cpu") -> tuple[STLPIPS, str]:
    """The network, and the start of its weights' hash.

    Raises:
        FileNotFoundError: there is no such file; the message says where it comes from.
        ValueError: the file holds something else.
    """
    file = find_st_lpips(path)
    return cast(STLPIPS, load_judge(STLPIPS(), file, device=device)), short_hash(file)


def _listed(against: Against, about: str) -> Listed:
    name = "st_lpips" if against == "target" else "st_lpips_teacher"

    def make(setup: Setup) -> MeanOverImages:
        network, sha256 = setup.network(load_st_lpips, setup.config.st_lpips)

        def measure(fakes: Tensor, others: Tensor) -> Tensor:
            return network(fakes / 127.5 - 1, others / 127.5 - 1)

        return MeanOverImages(
            name,
            compared(measure, against, Pictures.rgb),
            against=against,
            better="lower",
            split=setup.split,
            details={"network": "ST-LPIPS, AlexNet", "weights_sha256": sha256},
        )

    return Listed(make, "lower", "pairs" if against == "target" else "teacher", about, mean_of)


ST_LPIPS = _listed("target", "shift-tolerant learned perceptual distance (ST-LPIPS); not LPIPS")
ST_LPIPS_TEACHER = _listed("teacher", "ST-LPIPS to the teacher's picture")
