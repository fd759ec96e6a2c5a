"""Frechet and kernel distance of pairs of pictures beside torchmetrics, both over the same feature network.

Run on Linux, with torchmetrics: `python benchmarks/evaluation.py [PICTURES]`. torchmetrics' two metrics own a network each,
so that features are made twice there; the last rows leave the network out, on features that are there.
"""

import sys
from pathlib import Path

import torch
from interleaved import interleaved
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from ganshrink.metrics import Pictures
from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.frechet import FrechetDistance
from ganshrink.metrics.kernel import KernelDistance

DIM, SIDE, BATCH = 768, 64, 50


class Features(nn.Module):
    """uint8 pictures (N, 3, H, W) to features (N, DIM), by convolutions of random weights; or of pictures of DIM values
    these values."""

    num_features = DIM  # torchmetrics asks for it

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        convs = [nn.Conv2d(a, b, 3, 2, 1) for a, b in ((3, 64), (64, 128), (128, 256), (256, DIM))]
        self.layers = nn.Sequential(*(part for conv in convs for part in (conv, nn.ReLU())))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if pictures[0].numel() == DIM:
            return pictures.flatten(1) / 255
        return self.layers(pictures / 127.5 - 1).mean(dim=(2, 3))


@torch.no_grad()
def ours(fake: torch.Tensor, real: torch.Tensor, network: Features) -> list[float]:
    features = FeatureNetwork("random", network, DIM, "none", "0")
    judges = FrechetDistance("fd", features, split="test"), KernelDistance("kd", features, split="test")
    for one, other in zip(fake.split(BATCH), real.split(BATCH), strict=True):
        batch = Pictures(*(part / 127.5 - 1 for part in (one, other)))
        for judge in judges:
            judge.update(batch)
    return [judge.compute().value for judge in judges]


@torch.no_grad()
def theirs(fake: torch.Tensor, real: torch.Tensor, network: Features) -> list[float]:
    kernel = KernelInceptionDistance(feature=network, subsets=100, subset_size=min(1000, len(fake)))
    judges = FrechetInceptionDistance(feature=network, input_img_size=fake.shape[1:]), kernel
    for one, other in zip(fake.split(BATCH), real.split(BATCH), strict=True):
        for judge in judges:
            judge.update(other, real=True)
            judge.update(one, real=False)
    distance, (kernel_mean, _) = judges[0].compute(), judges[1].compute()
    return [float(distance), float(kernel_mean)]


def main(count: int = 5000) -> None:
    network = Features().eval()
    generator = torch.Generator().manual_seed(0)
    for what, shape in (("pictures", (3, SIDE, SIDE)), ("features", (3, 16, 16))):
        real = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
        fake = (real.float() * 0.9).to(torch.uint8)
        runs = {
            f"{name}, {what}": lambda way=way, given=(fake, real): way(*given, network)
            for name, way in (("torchmetrics", theirs), ("ganshrink", ours))
        }
        interleaved(runs, rounds=3, warmup=0)
        for name, run in runs.items():
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
            before, values = _resident("VmRSS"), run()
            print(f"{name}: {values}, {_resident('VmHWM') - before:.0f} MB at most")


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
