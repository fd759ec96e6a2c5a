"""An exponential moving average of generators' weights, which a training hands out in place of its last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ganshrink.training.update import Context, Update


def generators(nets: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Of the nets of a training those that are delivered: "G", or "G_A" and "G_B"."""
    return {name: net for name, net in nets.items() if name in ("G", "G_A", "G_B")}


class WeightAverage:
    """The average of all parameters of some nets; buffers, such as running statistics, stay those of the nets.

    It begins as the weights after the first step. Early ones must not weigh on it for long: with t steps made before, what
    was there counts min(decay, (1 + t) / (10 + t)), as in TensorFlow's moving averages.
    """

    def __init__(self, nets: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.parameters = [parameter for net in nets.values() for parameter in net.parameters()]
        self.kept: list[Tensor] = []

    def update(self) -> Update:
        """What takes each step's weights in; the last of a training's updates."""
        return Update("average", [], lambda context: iter(()), after=self._follow, state={"average": self})

    @torch.no_grad()
    def _follow(self, context: Context) -> None:
        if not self.kept:
            self.kept = [parameter.detach().clone() for parameter in self.parameters]
            return
        decay = min(self.decay, (1 + context.step) / (10 + context.step))
        get_ema_multi_avg_fn(decay)(self.kept, [p.detach() for p in self.parameters], None)

    @torch.no_grad()
    def hand_out(self) -> None:
        """Give the nets the average for their weights; where no step was made, they stay as they are."""
        for parameter, average in zip(self.parameters, self.kept, strict=bool(self.kept)):
            parameter.copy_(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The nets with the average for their weights, within the block."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        self.hand_out()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, weights in zip(self.parameters, own, strict=True):
                    parameter.copy_(weights)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        kept = state_dict["kept"]
        self.kept = [average.to(p.device) for p, average in zip(self.parameters, kept, strict=bool(kept))]
