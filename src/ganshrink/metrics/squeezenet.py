"""SqueezeNet 1.1 (Iandola et al. 2016) up to its last fire module: the feature space of `fd_squeezenet`,
`kd_squeezenet` and `swd_squeezenet`. It stands in where Inception weights cannot be had; its distances are never called FID.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance
from ganshrink.metrics.kernel import KernelDistance, distance_of
from ganshrink.metrics.sliced import SlicedWasserstein
from ganshrink.metrics.value import Against, Listed, Setup
from ganshrink.metrics.weights import find_weights, load_judge, short_hash

SIDE = 227
DIM = 512
MEAN_BGR = (104.0, 117.0, 123.0)
FILE = "squeezenet11_features.safetensors"
ORIGIN = (
    "metrics.squeezenet names it: `ganshrink fetch squeezenet` makes it of torchvision's squeezenet1_1. Without a network, "
    "convert that state dict with ganshrink.metrics.squeezenet.convert_torchvision, or name the tensors of the Caffe "
    "release (BGR, OIHW) features.N.* as torchvision does; save with safetensors"
)


class Fire(nn.Module):
    """Squeeze to few channels, expand by a 1x1 and a 3x3 conv side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(nn.Module):
    """The trunk, with Caffe's preprocessing inside: RGB pictures in, one 512-d feature per picture out."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """RGB (N, 3, H, W), uint8 or float in [-1, 1], to BGR minus the mean, 227x227."""
        x = images.float() if images.dtype == torch.uint8 else images.float().add(1).mul(127.5)
        # Antialiased: else a large picture is judged by the few pixels that the sampling grid happens to hit.
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return x.flip(1) - self.mean

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 512): the mean over space after features.12."""
        return self.features(self.preprocess(images)).mean(dim=(2, 3))


def load_squeezenet(path: str | Path, device: str | torch.device = "cpu") -> FeatureNetwork:
    """The feature network from a safetensors file of exactly its 50 tensors.

    Raises:
        FileNotFoundError: no such file; the message says where it comes from.
        ValueError: the file holds something else.
    """
    file = find_weights(path, origin=ORIGIN)
    return FeatureNetwork(
        name="squeezenet1.1 features.12, mean-pooled",
        module=load_judge(SqueezeNet(), file, device=device),
        dim=DIM,
        resize=f"bilinear, antialiased, to {SIDE}x{SIDE}",
        sha256=short_hash(file),
    )


def convert_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's `squeezenet1_1` state dict as this file wants it: no classifier, BGR minus the mean.

    torchvision feeds (rgb / 255 - m) / s. The first conv has no padding, so that this folds into it exactly.
    """
    mean = torch.tensor((0.485, 0.456, 0.406), dtype=torch.float64)
    std = torch.tensor((0.229, 0.224, 0.225), dtype=torch.float64)
    ours = {name: value.clone() for name, value in state.items() if name.startswith("features.")}
    weight = state["features.0.weight"].double()
    shift = (torch.tensor(MEAN_BGR, dtype=torch.float64).flip(0) / 255 - mean) / std
    bias = state["features.0.bias"].double() + (weight * shift.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    ours["features.0.weight"] = (weight / (255 * std).view(1, 3, 1, 1)).flip(1).float().contiguous()
    ours["features.0.bias"] = bias.float()
    return ours


def _frechet(against: Against, about: str) -> Listed:
    name = "fd_squeezenet" if against == "target" else "fd_squeezenet_teacher"

    def make(setup: Setup) -> FrechetDistance:
        network = setup.network(load_squeezenet, setup.config.squeezenet)
        reals = setup.config.reals
        return FrechetDistance(name, network, split=setup.split, against=against, reals=reals)

    return Listed(make, "lower", against, about)


def _kernel(against: Against, about: str) -> Listed:
    name = "kd_squeezenet" if against == "target" else "kd_squeezenet_teacher"

    def make(setup: Setup) -> KernelDistance:
        network = setup.network(load_squeezenet, setup.config.squeezenet)
        config = setup.config
        options: dict[str, Any] = {"against": against, "seed": config.seed, "reals": config.reals}
        return KernelDistance(name, network, split=setup.split, **options)

    return Listed(make, "lower", against, about, distance_of)


def _sliced(setup: Setup) -> SlicedWasserstein:
    network = setup.network(load_squeezenet, setup.config.squeezenet)
    options: dict[str, Any] = {"seed": setup.config.seed, "reals": setup.config.reals}
    return SlicedWasserstein("swd_squeezenet", network, split=setup.split, **options)


FD_SQUEEZENET = _frechet("target", "Frechet distance of SqueezeNet features (512-d); not an FID")
KD_SQUEEZENET = _kernel("target", "kernel distance of the same features; sound with few images")
SWD_SQUEEZENET = Listed(
    _sliced, "lower", "target", "sliced Wasserstein distance of the same features, by 1000 directions"
)
FD_SQUEEZENET_TEACHER = _frechet("teacher", "Frechet distance to the teacher's pictures")
KD_SQUEEZENET_TEACHER = _kernel("teacher", "kernel distance to the teacher's pictures")
