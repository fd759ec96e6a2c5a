"""Scores on held-out training pictures while a network is trained: a curve, and the weights of the best score so far.

It only looks on: a training without it makes the same steps.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganshrink.data import Images
from ganshrink.data.images import offered_by
from ganshrink.data.passes import all_batches, remembered
from ganshrink.metrics import Metric, MetricsConfig, build, evaluate
from ganshrink.metrics.config import DEFAULT
from ganshrink.system.atomic import write_json
from ganshrink.system.copies import copied
from ganshrink.system.distributed import is_main_process, rank_and_world
from ganshrink.training.average import WeightAverage
from ganshrink.training.stages import save_tensors
from ganshrink.training.tasks import Direction
from ganshrink.training.update import Context, Update


@dataclass(frozen=True)
class Validation:
    """What networks are scored on while they are trained.

    Attributes:
        images: none of them is trained on.
        config: how metrics are computed; its reals are those of `images`.
        direction: which generator is scored, where the task trains both ways.
        teacher: gives the network that agreement is with; none: there is none.
    """

    images: Images
    config: MetricsConfig
    direction: Direction = "AtoB"
    teacher: Callable[[], nn.Module] | None = None

    def metric(self, wanted: Any, device: torch.device | str = "cpu") -> Metric:
        """The metric of that name; for None the first of the config's, or else of the usual ones, that can be computed.

        Raises:
            ValueError: if it cannot be computed on these images.
            FileNotFoundError: if a weights file is missing.
        """
        config = self._config(wanted)
        found = build(config, device, split="held out of training", offered=offered_by(self.images))
        for metric in found:
            if self.teacher is not None or "teacher" not in metric.needs:
                return metric
        asked = ", ".join(map(str, config.names or DEFAULT))
        raise ValueError(
            f"validate_every: none of {asked} can be computed here: there is no teacher to compare with; set "
            "validate_by"
        )

    def describe(self, wanted: Any) -> dict[str, Any]:
        """What decides the scores of a metric, JSON-ready."""
        config = self._config(wanted).model_dump(mode="json", exclude={"split"})
        return {"images": self.images.fingerprint(), "metrics": config}

    def _config(self, wanted: Any) -> MetricsConfig:
        names = self.config.names if wanted is None else (wanted,)
        return self.config.model_copy(update={"names": names, "reals": "scored", "fid_statistics": None})


class Validator:
    """Scores a generator every so many steps and at the end; keeps a copy of the weights with the best score.

    Several processes: the first one alone scores.

    Args:
        nets: the generators whose weights are kept, by name.
        generator: the one of them that is scored.
        average: what of the weights is scored and kept; none: the weights of the step.
        total: how many steps the training makes.
    """

    def __init__(
        self, validation: Validation, metric: Metric, nets: Mapping[str, nn.Module], generator: nn.Module, *,
        average: WeightAverage | None, every: int, total: int, device: torch.device | str,
    ) -> None:  # fmt: skip
        alone = any(isinstance(m, _BatchNorm) and m.running_mean is None for m in generator.modules())
        if alone and rank_and_world()[1] > 1:
            raise ValueError(
                "validate_every: a batch norm without running statistics needs all processes, and one alone scores: leave "
                "validate_every out, or use one process"
            )
        self.metric, self.average, self.every, self.total = metric, average, every, total
        self.nets, self.generator, self.device = nets, generator, device
        self.validation, config = validation, validation.config
        self.batches = remembered(lambda: all_batches(validation.images, config.batch_size))
        teacher = validation.teacher if "teacher" in metric.needs else None
        self.teacher = None if teacher is None else copied(teacher()).to(device)
        self.of = validation.describe(metric.name)
        self.curve: list[list[float]] = []
        self.best: dict[str, dict[str, torch.Tensor]] = {}
        self.fresh: dict[str, float] = {}

    def update(self) -> Update:
        """What looks at the networks after a step; the last of a training's updates."""
        return Update("validation", [], lambda context: iter(()), after=self._look, watch=self._watch)

    def _look(self, context: Context) -> None:
        step = context.step + 1
        if not is_main_process() or (step % self.every and step != self.total):
            return
        config = self.validation.config
        with nullcontext() if self.average is None else self.average.in_place():
            found = evaluate(
                self.generator, self.batches(), [self.metric], teacher=self.teacher, device=self.device,
                limit=config.limit, truncate=config.quantisation == "truncate",
            )  # fmt: skip
            value = found[self.metric.name]
            self.better, self.protocol = value.better, value.protocol
            self.curve.append([step, value.value])
            if self._best()[0] == step:
                self.best = {
                    name: {key: tensor.detach().cpu().clone() for key, tensor in net.state_dict().items()}
                    for name, net in self.nets.items()
                }
        if math.isfinite(value.value):
            self.fresh = {f"val_{self.metric.name}": value.value}

    def _best(self) -> list[float]:
        """Step and value of the best score, the first of equal ones."""
        sign = 1 if self.better == "higher" else -1
        return max(self.curve, key=lambda point: sign * point[1])

    def _watch(self) -> Mapping[str, float]:
        """The score since the last reading, if there was one."""
        fresh, self.fresh = self.fresh, {}
        return fresh

    def finish(self, folder: Path, keep: str) -> None:
        """Write validation.json and the best weights; give the networks these where they are to be kept."""
        if not self.curve or not is_main_process():
            return
        points = {"last": self.curve[-1], "best": self._best()}
        told = {name: {"step": step, "value": value} for name, (step, value) in points.items()}
        kept = {"kept": keep, "better": self.better, **told, "protocol": self.protocol, "curve": self.curve}
        for name, state in self.best.items():
            save_tensors(folder / f"{name}_best.safetensors", state)
            if keep == "best":
                self.nets[name].load_state_dict(state)
        write_json(folder / "validation.json", {"metric": self.metric.name, **kept})

    def state_dict(self) -> dict[str, Any]:
        seen = {"better": self.better, "protocol": self.protocol} if self.curve else {}
        return {"of": self.of, "curve": self.curve, "best": self.best, "seen": seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["of"] == self.of:  # else another metric: its scores are no part of this curve
            self.curve, self.best = state_dict["curve"], state_dict["best"]
            vars(self).update(state_dict["seen"])
