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
from ganshrink.metrics.resampling import FIXED, Parts
from ganshrink.metrics.value import (
    AGAINST,
    REALS,
    Against,
    Kind,
    Pictures,
    Protocolled,
    Reals,
    Seen,
    Value,
)

ROWS = 250  # of a kernel at a time


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x_i, y_j) = (x_i . y_j / d + 1)^3, (n, m), of features (n, d) and (m, d), in float64."""
    base = torch.addmm(torch.ones((), dtype=torch.float64), x.double(), y.double().T, alpha=1 / x.shape[1])
    return base * base * base


def kernel_distance(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Unbiased MMD^2 of features x and y (n, d) each, n >= 3, and its standard error (jackknife over pairs).

    sum_{i != j} [k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)] / (n (n - 1)). It may be negative.
    """
    n = len(x)
    rows = _between_pairs(x, y).sum(dim=1)
    value = rows.sum() / (n * (n - 1))
    # Leaving pair i out takes away its row and its column: all n leave-one-out estimates in closed form.
    without = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    error = ((n - 1) / n * (without - value).square().sum()).sqrt()
    return value.item(), error.item()


def _between_pairs(x: Tensor, y: Tensor) -> Tensor:
    """The terms (n, n) of that sum, 0 for a pair with itself."""
    cross = cubic_kernel(x, y)
    return (cubic_kernel(x, x) + cubic_kernel(y, y) - cross - cross.T).fill_diagonal_(0)


def distance_of(parts: Parts, counts: Tensor) -> Tensor:
    """`OfParts` of the kernel distance: features `fake` (N, d), and (N, d) or fixed (M, d) of what it is compared with.

    A picture that is drawn twice is not paired with its copy: it would be nearer to itself than two pictures are, and all
    drawn values would lie above the true one.
    """
    weights = counts.double()
    total = weights.sum(dim=1)
    pairs = total.square() - weights.square().sum(dim=1)  # of different pictures
    x, (other, y) = parts["fake"], next((name, part) for name, part in parts.items() if name != "fake")
    if not other.startswith(FIXED):
        return (weights @ _between_pairs(x, y) * weights).sum(dim=1) / pairs
    within, m = cubic_kernel(x, x).fill_diagonal_(0), len(y)
    mean_y = cubic_kernel(y, y).fill_diagonal_(0).sum() / (m * (m - 1))
    cross = weights @ cubic_kernel(x, y).mean(dim=1) / total
    return (weights @ within * weights).sum(dim=1) / pairs + mean_y - 2 * cross


def unpaired_kernel_distance(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Unbiased MMD^2 of independent features x (n, d) and y (m, d), n, m >= 3, and its standard error.

    Means of k(x_i, x_j) and k(y_i, y_j) over i != j, minus twice the mean of k(x_i, y_j); the jackknife leaves out
    each x in turn, then each y.
    """
    n, m = len(x), len(y)
    within = [kernel.fill_diagonal_(0).sum(dim=1) for kernel in (cubic_kernel(x, x), cubic_kernel(y, y))]
    cross = cubic_kernel(x, y)
    mean_x, mean_y, mean_cross = (
        within[0].sum() / (n * (n - 1)),
        within[1].sum() / (m * (m - 1)),
        cross.mean(),
    )
    value = mean_x + mean_y - 2 * mean_cross
    without_x = (within[0].sum() - 2 * within[0]) / ((n - 1) * (n - 2)) + mean_y
    without_x -= 2 * (cross.sum() - cross.sum(dim=1)) / ((n - 1) * m)
    without_y = (within[1].sum() - 2 * within[1]) / ((m - 1) * (m - 2)) + mean_x
    without_y -= 2 * (cross.sum() - cross.sum(dim=0)) / (n * (m - 1))
    variance = (n - 1) / n * (without_x - value).square().sum() + (m - 1) / m * (
        without_y - value
    ).square().sum()
    return value.item(), variance.sqrt().item()


def of_subsets(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, *, paired: bool) -> Tensor:
    """MMD^2 (S,) of S subsets of s of the features x (n, d) and y (m, d); `of_x` and `of_y` (S, s) are their places,
    none twice in a subset.

    `kernel_distance` of pairs, or `unpaired_kernel_distance`, of each. Subsets share most of what they are made of, so the
    kernel is computed once, over all features, a block of rows at a time.
    """
    size = of_x.shape[1]
    of_pairs = size * (size - 1)
    weights_x, weights_y = (
        torch.zeros(len(places), len(features), dtype=torch.float64).scatter_(1, places, 1)
        for places, features in ((of_x, x), (of_y, y))
    )

    def summed(a: Tensor, weights_a: Tensor, b: Tensor, weights_b: Tensor, matching: bool) -> Tensor:
        total = torch.zeros(len(of_x), dtype=torch.float64)
        for rows in torch.arange(len(a)).split(ROWS):
            kernel = cubic_kernel(a[rows], b)
            if not matching:
                kernel[torch.arange(len(rows)), rows] = 0
            total += (weights_a[:, rows] @ kernel * weights_b).sum(dim=1)
        return total

    within = summed(x, weights_x, x, weights_x, False) + summed(y, weights_y, y, weights_y, False)
    cross = summed(x, weights_x, y, weights_y, not paired)
    return within / of_pairs - 2 * cross / (of_pairs if paired else size * size)


class Reservoir:
    """A uniform random sample of at most `capacity` of the feature vectors seen (Vitter's algorithm R).

    One draw per vector, whatever the batches: the sample depends on the seed and the order alone, so that two
    reservoirs of one seed that are filled side by side hold the same places.
    """

    def __init__(self, dim: int, *, capacity: int, seed: int) -> None:
        self.count = 0
        self.kept = torch.empty(capacity, dim)  # all of it at once: memory does not grow with the images
        self._draw = np.random.default_rng(seed)

    def add(self, features: Tensor) -> None:
        """Take in features (N, dim)."""
        features = features.to(self.kept)
        for vector in features:
            capacity = len(self.kept)
            slot = self.count if self.count < capacity else int(self._draw.integers(self.count + 1))
            if slot < capacity:
                self.kept[slot] = vector
            self.count += 1

    def sample(self) -> Tensor:
        """The sampled features (min(count, capacity), dim)."""
        return self.kept[: min(self.count, len(self.kept))]


class KernelDistance:
    """Kernel distance between generated pictures and targets (or the teacher's outputs) over a feature network.

    Lower is better. Up to `exact` images: the estimate over all of them, with its jackknife error and its parts. More: as in
    KID, the mean and standard deviation over `subsets` random subsets of `size`, out of a reservoir of `capacity`.

    Args:
        reals: as in `FrechetDistance`.
        usual: subsets however few the images are, drawn apart on both sides, all pairs in the cross term.
    """

    def __init__(
        self,
        name: str,
        network: FeatureNetwork,
        *,
        split: str,
        against: Against = "target",
        seed: int = 0,
        subsets: int = 100,
        exact: int = 2000,
        size: int = 1000,
        capacity: int = 10_000,
        reals: Reals = "scored",
        usual: bool = False,
    ) -> None:
        self.name = name
        self.network = network
        self.split = split
        self.against: Against = against
        self.needs: frozenset[str] = frozenset({against})
        self.seed = seed
        self.subsets = subsets
        self.exact = exact
        self.size = size
        self.capacity = capacity
        self.reals: Reals = reals if against == "target" else "scored"
        self.usual = usual
        self.given = self._reservoir()
        self.reset()

    def _reservoir(self) -> Reservoir:
        return Reservoir(self.network.dim, capacity=self.capacity, seed=self.seed)

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.paired = True
        kinds: tuple[Kind, ...] = ("fake", self.against) if self.reals == "scored" else ("fake",)
        self.sides = {kind: self._reservoir() for kind in kinds}

    def add_reals(self, batch: Pictures) -> None:
        """Take in targets to compare with, which stay."""
        self.given.add(self.network.of(batch, "target"))

    def update(self, batch: Pictures) -> None:
        alone = self.usual or self.reals != "scored"
        self.paired = (batch.paired or self.against == "teacher") and not alone
        for kind, reservoir in self.sides.items():
            if getattr(batch, kind) is not None:
                reservoir.add(self.network.of(batch, kind))
        self.seen.add_batch(batch, self.against if self.reals == "scored" else None)

    def compute(self) -> Value:
        if self.reals != "scored":
            self.seen.count_reals(self.name, self.given.count)
        protocol = self.seen.protocol(self.name, least=3) | self.network.protocol()
        kernel = "(x.y/d + 1)^3, U-statistic"
        protocol |= {"kernel": kernel + (" without matching pairs" if self.paired else ""), "seed": self.seed}
        protocol["against"] = AGAINST[self.against]
        if self.reals != "scored":
            protocol["reals"] = REALS[self.reals]
        protocol["sampled_images"] = min(self.seen.images, self.capacity)
        value, spread = self._estimate()
        return Value(value, "lower", {**protocol, **spread})

    def parts(self) -> dict[str, Tensor]:
        """`fake` (N, d) and what it is compared with, by its kind; nothing where the value is one of random subsets."""
        x, y = self._sampled()
        if not self._whole(x, y) or len(x) < self.seen.images:
            return {}
        return {"fake": x, ("" if self.paired else FIXED) + self.against: y}

    of_parts = staticmethod(distance_of)

    def _sampled(self) -> list[Tensor]:
        return [reservoir.sample() for reservoir in (*self.sides.values(), self.given)[:2]]

    def _whole(self, x: Tensor, y: Tensor) -> bool:
        return max(len(x), len(y)) <= self.exact and not self.usual

    def _estimate(self) -> tuple[float, dict[str, Protocolled]]:
        x, y = self._sampled()
        if self._whole(x, y):
            value, error = kernel_distance(x, y) if self.paired else unpaired_kernel_distance(x, y)
            return value, {"subsets": 1, "subset_size": min(len(x), len(y)), "standard_error": error}
        rng = np.random.default_rng(self.seed)
        size = min(self.size, len(x), len(y))

        def draw(features: Tensor) -> Tensor:
            return torch.from_numpy(rng.choice(len(features), size, replace=False))

        drawn = []
        for _ in range(self.subsets):
            # Of pairs the same on both sides, so that no scene of one side is compared with itself on the other.
            of_x = draw(x)
            drawn.append((of_x, of_x if self.paired else draw(y)))
        values = of_subsets(x, y, *map(torch.stack, zip(*drawn, strict=True)), paired=self.paired).tolist()
        mean = math.fsum(values) / len(values)
        sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return mean, {"subsets": self.subsets, "subset_size": size, "standard_deviation": sd}
