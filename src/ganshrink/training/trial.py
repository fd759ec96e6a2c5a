"""A trial: a few steps of every training of a run, timed, from which follows what the whole takes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ganshrink.training.config import FitConfig

STEPS = 6  # of each training; the first is slower than the others, and is not counted

Settings = TypeVar("Settings", bound=FitConfig)


@dataclass(frozen=True)
class TrialStage:
    """A stage as it would be: of a training its `steps` and the `images` that they see; of another one neither."""

    name: str
    seconds: float
    steps: int = 0
    images: int = 0


@dataclass
class Trial:
    """What a trial found out.

    Attributes:
        longer: by name, how many times longer than here a stage takes that is no training.
        stages: in their order.
    """

    longer: Mapping[str, float] = field(default_factory=dict)
    stages: list[TrialStage] = field(default_factory=list)

    def shortened(self, training: Settings) -> Settings:
        """The same training, of few steps."""
        most = STEPS if training.max_steps is None else min(STEPS, training.max_steps)
        return training.model_copy(update={"max_steps": most, "log_every": 1, "tensorboard": False})

    def note_training(self, events: Path, *, steps: int, images: int) -> None:
        """Note a training that would have made so many steps of so many images, by the log of those that it made."""
        lines = events.read_text(encoding="utf-8").splitlines() if events.is_file() else []
        times = [float(json.loads(line)["time"]) for line in lines]
        pace = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else sum(times)
        self.stages.append(TrialStage(events.parent.name, pace * steps, steps, steps * images))

    def note(self, name: str, seconds: float) -> None:
        """Note what a stage took here; of a training the steps alone count."""
        if not any(stage.name == name for stage in self.stages):
            self.stages.append(TrialStage(name, seconds * self.longer.get(name, 1.0)))
