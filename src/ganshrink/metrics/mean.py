"""Means over images, as the field reports most measures: generated pictures against the target or the teacher's output."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import AGAINST, Against, Better, Pictures, Protocolled, Seen, Value

Measure = Callable[[Tensor, Tensor], Tensor]
"""Of uint8 pictures (N, C, H, W) and as many references: (N,)."""


class MeanOverImages:
    """The mean over images of a measure.

    Args:
        details: what the protocol says besides.
        rgb: grey pictures are shown to the measure as colour, and others refused.
    """

    of_parts = staticmethod(mean_of)

    def __init__(
        self,
        name: str,
        measure: Measure,
        *,
        against: Against,
        better: Better,
        split: str,
        details: Mapping[str, Protocolled],
        rgb: bool = False,
    ) -> None:
        self.name = name
        self.needs: frozenset[str] = frozenset({"teacher" if against == "teacher" else "pairs"})
        self.measure = measure
        self.against: Against = against
        self.better: Better = better
        self.split = split
        self.details = details
        self.rgb = rgb
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.values: list[float] = []

    def update(self, batch: Pictures) -> None:
        if batch.fake is None:
            return
        pictures = batch.rgb if self.rgb else batch.saved
        self.values += self.measure(pictures("fake"), pictures(self.against)).cpu().double().tolist()
        self.seen.add(batch.fake)

    def compute(self) -> Value:
        protocol = self.seen.protocol(self.name) | {
            "resize": "none",
            "against": AGAINST[self.against],
            "average": "over images",
        }
        mean = self.parts()["values"].mean().item()
        return Value(mean, self.better, protocol | dict(self.details))

    def parts(self) -> dict[str, Tensor]:
        """`values` (N,)."""
        return {"values": torch.tensor(self.values, dtype=torch.float64)}
