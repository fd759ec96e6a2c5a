"""Values over drawn pictures: the bootstrap (Efron 1979) of metrics that keep what their value is made of.

Networks that were scored on the same pictures are compared on the same draws.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""What a value is made of, by name; the first axis is the pictures as scored, unless the name begins with FIXED."""
OfParts = Callable[[Parts, Tensor], Tensor]
"""Values (B,) in float64 over the pictures drawn as often as counts (B, N) say; of ones the metric's own value."""

FIXED = (
    "fixed_"  # begins the name of a part that is not drawn anew, such as targets that belong to no picture
)
DRAWS, SEED, PERCENT = 1000, 0, 95
MOST = 10_000  # pictures; beyond it seeds differ by far more than pictures do


def pictures_in(parts: Parts) -> int:
    """How many pictures were scored; 0 where nothing was kept."""
    return next((len(part) for name, part in parts.items() if not name.startswith(FIXED)), 0)


def drawn(pictures: int, *, draws: int = DRAWS, seed: int = SEED) -> Tensor:
    """How often each picture is drawn, int64 (draws, pictures): as many as there are, with replacement."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=draws))


def interval(of_parts: OfParts, parts: Parts) -> tuple[float, float] | None:
    """Within which 95 % of the values lie over drawn pictures; None of fewer than two pictures, or too many."""
    pictures = pictures_in(parts)
    if not 2 <= pictures <= MOST:
        return None
    values = of_parts(parts, drawn(pictures)).numpy()
    values = values[np.isfinite(values)]  # one picture drawn every time makes no pair
    if not len(values):
        return None
    low, high = np.percentile(values, [50 - PERCENT / 2, 50 + PERCENT / 2])
    return float(low), float(high)


def mean_of(parts: Parts, counts: Tensor) -> Tensor:
    """`OfParts` of a mean over pictures, whose values (N,) are the part `values`."""
    weights = counts.double()
    return weights @ parts["values"].double() / weights.sum(dim=1)
