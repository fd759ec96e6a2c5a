"""Sample pictures while a network is trained, so that a training that goes wrong is seen before it is over.

They only look on: a training without them makes the same steps.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ganshrink.data import Images, as_picture, write_png
from ganshrink.data.pixels import resize
from ganshrink.metrics.evaluation import evaluating
from ganshrink.system.distributed import is_main_process
from ganshrink.system.generator import Input, as_tuple, generate, image_like
from ganshrink.training.average import WeightAverage
from ganshrink.training.update import Context, Update

FOLDER = "samples"
COUNT = 4  # pictures


class Sampler:
    """Writes STEP_NET.png into a stage's samples/ every so many minutes and after the last step: a row for each of the first
    inputs that were seen, at its right what the generator makes of it now, by its average where there is one.

    Args:
        folder: the stage's.
        images: what is trained on; shows inputs that are no pictures.
        total: how many steps the training makes.
        clock: seconds.
    """

    def __init__(
        self, folder: Path, images: Images, minutes: float, total: int, *,
        average: WeightAverage | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.folder, self.images, self.total, self.average = folder / FOLDER, images, total, average
        self.seconds, self.clock = 60 * minutes, clock
        self.last = clock()
        self.inputs: dict[str, Input] = {}

    def update(self) -> Update:
        """What looks at the networks after a step; one of the last of a training's updates."""
        return Update("samples", [], lambda context: iter(()), after=self._look)

    def _look(self, context: Context) -> None:
        if not is_main_process():
            return
        ways = getattr(context, "ways", {})
        for name, way in ways.items():
            if name not in self.inputs:
                self.inputs[name] = tuple(t[:COUNT].detach().clone() for t in as_tuple(way.input))
        step = context.step + 1
        if step != self.total and self.clock() - self.last < self.seconds:
            return
        self.last = self.clock()
        for name, way in ways.items():
            given = as_tuple(self.inputs[name])
            if self.average is None:
                made = self._made(way.generator, given)
            else:
                with self.average.in_place():
                    made = self._made(way.generator, given)
            seen = next((t.cpu() for t in image_like(given, given[0].shape[2:])), None)
            rows = [self._row(None if seen is None else seen[n], image) for n, image in enumerate(made)]
            write_png(self.folder / f"{step:07d}_{name}.png", np.concatenate(rows))

    def _made(self, generator: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.no_grad(), evaluating(generator):
            return generate(generator, given).clamp(-1, 1).nan_to_num().cpu()

    def _row(self, seen: torch.Tensor | None, made: torch.Tensor) -> np.ndarray:
        picture = _colour(as_picture(made))
        if seen is None:
            return picture
        size = (picture.shape[0], picture.shape[1])
        return np.concatenate([resize(_colour(self.images.preview(seen)), size), picture], 1)


def _colour(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W) or (H, W, C) as (H, W, 3)."""
    return np.repeat(picture[..., None], 3, 2) if picture.ndim == 2 else picture[..., :3]
