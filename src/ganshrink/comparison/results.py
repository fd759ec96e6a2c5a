"""What finished runs say, as far as a comparison asks: their values, what these are made of, costs, times and trainings."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ganshrink.comparison.bootstrap import Sample
from ganshrink.metrics.config import METRICS
from ganshrink.metrics.resampling import DRAWS, drawn, pictures_in
from ganshrink.reports.files import RunFiles, read_run
from ganshrink.training.stages import tensors_hash
from ganshrink.workflow.scoring import Scores, read_scores

logger = logging.getLogger(__name__)

NO_SEARCH = ("teacher", "scratch", "int8")  # trainings that make no student of the method
OF_VALUES = (
    "standard_error",
    "error",
    "rank",
    "batch_size",
    "classes",
)  # what a protocol says of the value, not of how it was measured


@dataclass(frozen=True)
class Member:
    """A run in a comparison: where it stands, and what became of it.

    Attributes:
        seconds: of its last attempt; none: not known.
        error: why it has no result; none: it has one.
    """

    name: str
    entry: str
    budget: str
    seed: int
    label_fraction: float
    folder: Path
    error: str | None = None
    seconds: float | None = None

    @cached_property
    def run(self) -> RunFiles:
        return read_run(self.folder)

    @cached_property
    def scores(self) -> Scores | None:
        try:
            return read_scores(self.folder)
        except FileNotFoundError as error:
            logger.warning("%s", error)
            return None

    @property
    def metrics(self) -> dict[str, Any]:
        """By network and name, as metrics.json has them."""
        return self.run.get("metrics.json")

    def protocol(self, metric: str) -> dict[str, Any]:
        """How a metric of the student was measured."""
        found = self.metrics.get("student", {}).get(metric, {}).get("protocol", {})
        return {key: value for key, value in found.items() if key not in OF_VALUES}

    @cached_property
    def teacher_key(self) -> str:
        return teacher_key(self.folder)

    def trained(self) -> dict[str, int]:
        """Images and steps of the student's own training, its last, and images of all trainings before it."""
        seen = [(stage.name, _last(stage.events)) for stage in self.run.stages if stage.name not in NO_SEARCH]
        last = [event for _, event in seen if event]
        images, steps = ([int(event.get(key, 0)) for event in last] for key in ("images", "step"))
        student = {"student": images[-1] if images else 0, "steps": steps[-1] if steps else 0}
        return {**student, "search": sum(images[:-1])}

    def sample(self, network: str, metric: str) -> Sample | None:
        """The values of one network of this run, over all pictures and over drawn ones."""
        entry = self.metrics.get(network, {}).get(metric)
        if entry is None:
            return None
        value = np.array([float(entry["value"])])
        of_parts = METRICS[metric].of_parts if metric in METRICS else None
        parts = self.scores.parts.get(network, {}).get(metric) if self.scores is not None else None
        if of_parts is None or not parts or pictures_in(parts) < 2:
            return Sample(value, np.repeat(value[:, None], DRAWS, axis=1), by_picture=False)
        with torch.no_grad():
            values = of_parts(parts, drawn(pictures_in(parts), draws=DRAWS))
        return Sample(value, values.numpy()[None])


def teacher_key(run: Path) -> str:
    """A hash of the teacher's weights in a run's folder; empty: there are none."""
    file = run / "teacher.safetensors"
    return tensors_hash(load_file(file)) if file.is_file() else ""


def joined(samples: list[Sample]) -> Sample:
    """Those of several seeds."""
    values, draws = (np.concatenate([getattr(s, name) for s in samples]) for name in ("values", "drawn"))
    return Sample(values, draws, all(sample.by_picture for sample in samples))


def _last(events: list[dict[str, Any]]) -> dict[str, Any]:
    return events[-1] if events else {}
