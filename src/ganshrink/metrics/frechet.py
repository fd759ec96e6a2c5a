"""Frechet distance between two sets of features, each taken as a Gaussian (Dowson and Landau 1982; Heusel
et al. 2017, section 2), streaming: the state is a sum and a second moment in float64, whatever the count.

torchmetrics' FID is the oracle of our tests, not the engine: it owns its network, so a batch's features could
not be shared with the kernel distance, and it does not make the product symmetric (measured, version 1.9,
512-d, one core: 1.7 times slower, and off by 1e-6 where there are fewer images than dimensions).
"""

import torch
from torch import Tensor

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.value import AGAINST, Against, Pictures, Seen, Value


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared Frechet distance of N(mean1, cov1) and N(mean2, cov2): means (d,), covariances (d, d); float64.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)); the last trace by the eigenvalues of the symmetric
    C1^(1/2) C2 C1^(1/2), which are those of C1 C2 and which rank-deficient covariances do not disturb.
    """
    mean1, cov1, mean2, cov2 = (x.double() for x in (mean1, cov1, mean2, cov2))
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp_min(0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(distance.item(), 0.0)  # rounding may leave equal sets at -1e-12


class Moments:
    """Running count, sum and sum of outer products of feature vectors, in float64."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.sum = torch.zeros(dim, dtype=torch.float64)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features (N, dim)."""
        x = features.double().cpu()  # not every accelerator has float64
        self.count += len(x)
        self.sum += x.sum(dim=0)
        self.outer += x.T @ x

    def mean(self) -> Tensor:
        """Mean (dim,)."""
        return self.sum / self.count

    def covariance(self) -> Tensor:
        """Unbiased covariance (dim, dim); needs two vectors."""
        mean = self.mean()
        return (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1)


class FrechetDistance:
    """Frechet distance between generated pictures and targets (or the teacher's outputs) over a feature network.

    Lower is better. With no more images than feature dimensions the covariances cannot have full rank and the distance is
    biased upward: the protocol then says `rank-deficient`, and the kernel distance is the one to compare by.
    """

    def __init__(
        self, name: str, network: FeatureNetwork, *, split: str, against: Against = "target"
    ) -> None:
        self.name = name
        self.against: Against = against
        self.needs: frozenset[str] = frozenset({against})
        self.network = network
        self.split = split
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.fake = Moments(self.network.dim)
        self.target = Moments(self.network.dim)

    def update(self, batch: Pictures) -> None:
        if batch.fake is not None:
            self.fake.add(self.network.of(batch, "fake"))
        if getattr(batch, self.against) is not None:
            self.target.add(self.network.of(batch, self.against))
        self.seen.add_batch(batch, self.against)

    def compute(self) -> Value:
        protocol = self.seen.protocol(self.name, least=2) | self.network.protocol()
        fewest = min(self.fake.count, self.target.count)
        protocol["rank"] = "full" if fewest > self.network.dim else "rank-deficient"
        protocol["against"] = AGAINST[self.against]
        distance = frechet_distance(
            self.fake.mean(), self.fake.covariance(), self.target.mean(), self.target.covariance()
        )
        return Value(distance, "lower", protocol)
