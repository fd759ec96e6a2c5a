"""Kernel distance: the unbiased squared maximum mean discrepancy with the cubic kernel (x.y / d + 1)^3
(Binkowski et al. 2018, section 3), by the U-statistic of Gretton et al. 2012, equation 4.

torchmetrics' KID is not the engine: it keeps every feature it sees (measured, version 1.9, 512-d: 4.1 MB for
each 1000 pairs of images), and its cross term runs over matching pairs too. That is unbiased for independent
sets alone, but in paired data the fake and the target of one input show the same scene: 233 real photos
against themselves score -4.5 +- 0.1 that way, and 0 here.
"""

import math

import numpy as np
import torch
from torch import Tensor

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.value import Pictures, Protocolled, Seen, Value


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j) = (x_i . y_j / d + 1)^3, (n, m), of features (n, d) and (m, d), in float64."""
    base = torch.addmm(torch.ones((), dtype=torch.float64), x.double(), y.double().T, alpha=1 / x.shape[1])
    return base * base * base


def kernel_distance(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Unbiased MMD^2 of features x and y (n, d) each, n >= 3, and its standard error (jackknife over pairs).

    sum_{i != j} [k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)] / (n (n - 1)). It may be negative.
    """
    n = len(x)
    cross = cubic_kernel(x, y)
    terms = cubic_kernel(x, x) + cubic_kernel(y, y) - cross - cross.T
    rows = terms.sum(dim=1) - terms.diagonal()
    value = rows.sum() / (n * (n - 1))
    # Leaving pair i out takes away its row and its column: all n leave-one-out estimates in closed form.
    without = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    error = ((n - 1) / n * (without - value).square().sum()).sqrt()
    return value.item(), error.item()


class Reservoir:
    """A uniform random sample of at most `capacity` of the pairs of features seen (Vitter's algorithm R).

    One draw per pair, whatever the batches: the sample depends on the seed and the order alone.
    """

    def __init__(self, dim: int, *, capacity: int, seed: int) -> None:
        self.count = 0
        self.pairs = torch.empty(2, capacity, dim)  # all of it at once: memory does not grow with the images
        self._draw = np.random.default_rng(seed)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in pairs of features, (N, dim) each."""
        both = torch.stack([x, y]).to(self.pairs)
        for i in range(both.shape[1]):
            capacity = self.pairs.shape[1]
            slot = self.count if self.count < capacity else int(self._draw.integers(self.count + 1))
            if slot < capacity:
                self.pairs[:, slot] = both[:, i]
            self.count += 1

    def sample(self) -> tuple[Tensor, Tensor]:
        """The sampled features (min(count, capacity), dim) of each side."""
        x, y = self.pairs[:, : min(self.count, self.pairs.shape[1])]
        return x, y


class KernelDistance:
    """Kernel distance between generated and target pictures over a feature network; lower is better.

    Up to `size` images: the estimate over all of them, with its jackknife error. More: as in KID, the mean
    and standard deviation over `subsets` random subsets of `size` pairs, out of a reservoir of `capacity`.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        name: str,
        network: FeatureNetwork,
        *,
        split: str,
        seed: int = 0,
        subsets: int = 100,
        size: int = 1000,
        capacity: int = 10_000,
    ) -> None:
        self.name = name
        self.network = network
        self.split = split
        self.seed = seed
        self.subsets = subsets
        self.size = size
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.reservoir = Reservoir(self.network.dim, capacity=self.capacity, seed=self.seed)

    def update(self, batch: Pictures) -> None:
        self.reservoir.add(self.network.of(batch, "fake"), self.network.of(batch, "target"))
        self.seen.add(batch.fake)

    def compute(self) -> Value:
        protocol = self.seen.protocol(self.name, least=3) | self.network.protocol()
        protocol |= {"kernel": "(x.y/d + 1)^3, U-statistic", "seed": self.seed}
        protocol["sampled_images"] = min(self.seen.images, self.capacity)
        value, spread = self._estimate()
        return Value(value, "lower", {**protocol, **spread})

    def _estimate(self) -> tuple[float, dict[str, Protocolled]]:
        x, y = self.reservoir.sample()
        if len(x) <= self.size:
            value, error = kernel_distance(x, y)
            return value, {"subsets": 1, "subset_size": len(x), "standard_error": error}
        rng = np.random.default_rng(self.seed)
        values = []
        for _ in range(self.subsets):
            # The same pairs on both sides, so that no scene of one side is compared with itself on the other.
            pairs = torch.from_numpy(rng.choice(len(x), self.size, replace=False))
            values.append(kernel_distance(x[pairs], y[pairs])[0])
        mean = math.fsum(values) / len(values)
        sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return mean, {"subsets": self.subsets, "subset_size": self.size, "standard_deviation": sd}
