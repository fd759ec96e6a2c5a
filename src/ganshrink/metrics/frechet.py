"""Frechet distance between two sets of features, each taken as a Gaussian (Dowson and Landau 1982; Heusel
et al. 2017, section 2), streaming: the state is a sum and a second moment in float64, whatever the count.

torchmetrics' FID is the oracle of our tests, not the engine: it owns its network, so a batch's features could
not be shared with the kernel distance, and it does not make the product symmetric (measured, version 1.9,
512-d, one core: 1.7 times slower, and off by 1e-6 where there are fewer images than dimensions).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.value import AGAINST, REALS, Against, Pictures, Reals, Seen, Value
from ganshrink.metrics.weights import find_weights, short_hash


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


@dataclass(frozen=True)
class Statistics:
    """Mean (d,) and covariance (d, d) of features that somebody else has counted, and how protocols call them."""

    mu: Tensor
    sigma: Tensor
    said: str

    def mean(self) -> Tensor:
        return self.mu

    def covariance(self) -> Tensor:
        return self.sigma


def load_statistics(path: str | Path, dim: int) -> Statistics:
    """Statistics from an .npz file with `mu` and `sigma`, as pytorch-fid writes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or holds statistics of another feature network.
    """
    file = find_weights(
        path, origin="metrics.fid_statistics names it: an .npz file with mu and sigma, as of pytorch-fid"
    )
    try:
        with np.load(file, allow_pickle=False) as arrays:
            mean, covariance = (
                torch.from_numpy(np.array(arrays[key], np.float64)) for key in ("mu", "sigma")
            )
    except Exception as error:  # a damaged archive raises anything
        raise ValueError(f"{file} is no .npz file with mu and sigma: {str(error).splitlines()[0]}") from error
    if mean.shape != (dim,) or covariance.shape != (dim, dim):
        raise ValueError(
            f"{file} holds mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}, not of {dim} features"
        )
    return Statistics(mean, covariance, f"{file.name}, sha256 {short_hash(file)}")


class FrechetDistance:
    """Frechet distance between generated pictures and targets (or the teacher's outputs) over a feature network.

    Lower is better. With no more images than feature dimensions the covariances cannot have full rank and the distance is
    biased upward: the protocol then says `rank-deficient`, and the kernel distance is the one to compare by.

    Args:
        reals: which targets it compares with: of the images scored, or those that `add_reals` is given, which stay.
        statistics: instead of targets.
    """

    def __init__(
        self,
        name: str,
        network: FeatureNetwork,
        *,
        split: str,
        against: Against = "target",
        reals: Reals = "scored",
        statistics: Statistics | None = None,
    ) -> None:
        self.name = name
        self.against: Against = against
        self.needs: frozenset[str] = frozenset({against} if statistics is None else ())
        self.network = network
        self.split = split
        self.statistics = statistics
        self.reals: Reals = reals if against == "target" and statistics is None else "scored"
        self.given = Moments(network.dim)
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.fake = Moments(self.network.dim)
        self.target = Moments(self.network.dim)

    def add_reals(self, batch: Pictures) -> None:
        """Take in targets to compare with."""
        self.given.add(self.network.of(batch, "target"))

    def update(self, batch: Pictures) -> None:
        if batch.fake is not None:
            self.fake.add(self.network.of(batch, "fake"))
        own = self.reals == "scored" and self.statistics is None
        if own and getattr(batch, self.against) is not None:
            self.target.add(self.network.of(batch, self.against))
        self.seen.add_batch(batch, self.against if own else None)

    def compute(self) -> Value:
        target = self.target
        if self.reals != "scored":
            target = self.given
            self.seen.count_reals(self.name, target.count)
        protocol = self.seen.protocol(self.name, least=2) | self.network.protocol()
        fewest = min(self.fake.count, self.fake.count if self.statistics else target.count)
        protocol["rank"] = "full" if fewest > self.network.dim else "rank-deficient"
        protocol["against"] = AGAINST[self.against]
        if said := self.statistics.said if self.statistics else REALS.get(self.reals):
            protocol["reals"] = said
        reals = self.statistics or target
        distance = frechet_distance(
            self.fake.mean(), self.fake.covariance(), reals.mean(), reals.covariance()
        )
        return Value(distance, "lower", protocol)
