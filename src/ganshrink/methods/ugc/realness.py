"""UGC's filter of pseudo-labels (section 3.3, Eq. 8)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganshrink.methods.ugc.config import FinetuneConfig
from ganshrink.methods.ugc.search import TEACHERS
from ganshrink.system.distributed import mean_over_processes


class RealnessFilter:
    """Phi of Eq. 8: which unlabelled images count, by how real D finds what a teacher made of them.

    As printed, images that D rates above its average count only every second time, and bad ones always, against the aim
    to "improve the pseudo-label quality": the default is the other way round. The average moves after the decision.
    """

    def __init__(self, config: FinetuneConfig, teachers: Sequence[str] = TEACHERS) -> None:
        self.config = config
        self.average: dict[str, float] = {}  # D_EMA
        self.updates: dict[str, int] = dict.fromkeys(teachers, 0)
        self.kept: dict[str, float] = dict.fromkeys(teachers, 1.0)

    def __call__(self, name: str, scores: Tensor) -> Tensor:
        """Weights (B,) of 0 or 1 for a teacher's images, from D's mean scores of each (B,)."""
        config, average = self.config, self.average.get(name)
        mean = float(mean_over_processes(scores.detach().float().mean()))
        phi = torch.ones_like(scores, dtype=torch.float32)
        if average is not None and self.updates[name] >= config.filter_after:
            good = scores >= average if config.filter == "realness" else scores <= average
            phi = torch.where(good, phi, torch.randint(2, scores.shape, device=scores.device).float())
        self.average[name] = mean if average is None else config.ema * average + (1 - config.ema) * mean
        self.updates[name] += 1
        self.kept[name] = float(phi.mean())
        return phi

    def watch(self) -> dict[str, float]:
        """For the log: the share that counted in the last step, and the average."""
        kept = {f"kept_{name}": value for name, value in self.kept.items()}
        return kept | {f"realness_{name}": value for name, value in self.average.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"average": dict(self.average), "updates": dict(self.updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.updates = dict(state_dict["average"]), dict(state_dict["updates"])
