"""Sliced Wasserstein distance between two sets of features, as the Monge inception distance (Berthet et al. 2026) has it
over Inception's: the quadratic one-dimensional distances along random directions, found by sorting."""

import torch
from torch import Tensor

from ganshrink.metrics.features import FeatureNetwork
from ganshrink.metrics.value import AGAINST, REALS, Pictures, Reals, Seen, Value

DIRECTIONS, CHUNK = 1000, 100


def sliced_wasserstein(x: Tensor, y: Tensor, *, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """sqrt(mean over directions of W2^2) of features x (n, d) and y (m, d), along unit vectors of a fixed seed.

    Sets of two sizes are compared by their quantile functions, which both jump at multiples of 1 / (n m).
    """
    n, m = len(x), len(y)
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in 1 / (n m)
    width = steps.diff(prepend=steps.new_zeros(1)).double() / (n * m)
    of_x, of_y = (steps - 1) // m, (steps - 1) // n
    draw = torch.Generator().manual_seed(seed)
    total = 0.0
    for start in range(0, directions, CHUNK):
        count = min(CHUNK, directions - start)
        along = torch.randn(count, x.shape[1], generator=draw, dtype=torch.float64)
        along /= along.norm(dim=1, keepdim=True)
        on_x, on_y = ((side.double() @ along.T).sort(dim=0).values for side in (x, y))
        total += (width @ (on_x[of_x] - on_y[of_y]).square()).sum().item()
    return (total / directions) ** 0.5


class SlicedWasserstein:
    """Sliced Wasserstein distance between generated pictures and targets over a feature network; lower is better.

    Of few images it is biased upward, as a Frechet distance is, if less, and so it has no interval over drawn pictures.

    Args:
        reals: as in `FrechetDistance`.
    """

    needs = frozenset({"target"})

    def __init__(
        self, name: str, network: FeatureNetwork, *, split: str, seed: int = 0, reals: Reals = "scored"
    ) -> None:
        self.name = name
        self.network = network
        self.split = split
        self.seed = seed
        self.reals: Reals = reals
        self.given: list[Tensor] = []
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.fakes: list[Tensor] = []
        self.targets: list[Tensor] = []

    def add_reals(self, batch: Pictures) -> None:
        """Take in targets to compare with, which stay."""
        self.given.append(self.network.of(batch, "target").cpu())

    def update(self, batch: Pictures) -> None:
        if batch.fake is not None:
            self.fakes.append(self.network.of(batch, "fake").cpu())
        if self.reals == "scored" and batch.target is not None:
            self.targets.append(self.network.of(batch, "target").cpu())
        self.seen.add_batch(batch, "target" if self.reals == "scored" else None)

    def compute(self) -> Value:
        targets = self.targets
        if self.reals != "scored":
            targets = self.given
            self.seen.count_reals(self.name, sum(map(len, targets)))
        protocol = self.seen.protocol(self.name, least=2) | self.network.protocol()
        protocol |= {"directions": DIRECTIONS, "order": 2, "seed": self.seed, "against": AGAINST["target"]}
        if self.reals != "scored":
            protocol["reals"] = REALS[self.reals]
        distance = sliced_wasserstein(torch.cat(self.fakes), torch.cat(targets), seed=self.seed)
        return Value(distance, "lower", protocol)
