"""Means over images, as the field reports most measures."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import AGAINST, Against, Better, Kind, Pictures, Protocolled, Seen, Value

View = Callable[[Pictures, Kind], Tensor]
Measure = Callable[[Tensor, Tensor], Tensor]
"""Of pictures (N, C, H, W) and as many references: (N,)."""


class MeanOverImages:
    """The mean over images of a measure: of generated pictures against the target or the teacher's output, or of them alone.

    Args:
        measure: of a batch: (N,).
        against: what it compares with; none: nothing.
        needs: as in `Metric`; by default what `against` says.
        details: what the protocol says besides.
    """

    of_parts = staticmethod(mean_of)

    def __init__(
        self,
        name: str,
        measure: Callable[[Pictures], Tensor],
        *,
        against: Against | None,
        better: Better,
        split: str,
        details: Mapping[str, Protocolled],
        needs: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.measure = measure
        self.needs = frozenset({"teacher" if against == "teacher" else "pairs"}) if needs is None else needs
        self.against: Against | None = against
        self.better: Better = better
        self.split = split
        self.details = details
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.scale = 1
        self.values: list[float] = []

    def update(self, batch: Pictures) -> None:
        if batch.fake is None:
            return
        self.values += self.measure(batch).cpu().double().tolist()
        self.scale = batch.scale
        self.seen.add(batch.fake)

    def compute(self) -> Value:
        protocol = self.seen.protocol(self.name) | {"resize": "none", "average": "over images"}
        if self.against is not None:
            protocol["against"] = AGAINST[self.against]
        if self.scale != 1:
            protocol["scale"] = self.scale
        return Value(self.parts()["values"].mean().item(), self.better, protocol | dict(self.details))

    def parts(self) -> dict[str, Tensor]:
        """`values` (N,)."""
        return {"values": torch.tensor(self.values, dtype=torch.float64)}


def compared(measure: Measure, against: Against, view: View = Pictures.saved) -> Callable[[Pictures], Tensor]:
    """A measure of a batch's generated pictures against others, both as `view` shows them."""
    return lambda batch: measure(view(batch, "fake"), view(batch, against))
