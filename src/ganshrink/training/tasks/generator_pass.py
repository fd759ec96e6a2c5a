"""One generator at work in one step of a training, and the teacher that looks on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from ganshrink.system.generator import Input, as_tuple, generate, image_like
from ganshrink.training import Taps
from ganshrink.training.tasks.taught_images import TaughtImages

Tapped = Literal["G", "teacher"]


@dataclass
class GeneratorPass:
    """One generator at work in one step; each image and its features are computed once, when first asked for.

    Attributes:
        generator: the generator that is trained.
        input: what it is given, of the whole batch.
        teacher: a trained generator for the same input; none: there is no image to learn from.
        taps: on the generator as "G" and on the teacher as "teacher"; either may be missing.
        conditional: whether a discriminator sees the input's images beside the one that it judges.
        memory: the teacher's images of inputs that came before, for when nobody asks for its features.
    """

    generator: nn.Module
    input: Input
    teacher: nn.Module | None = None
    taps: Mapping[str, Taps] = field(default_factory=dict)
    conditional: bool = False
    memory: TaughtImages | None = None

    @property
    def fake(self) -> Tensor:
        """The generator's image (B, C, H, W)."""
        return self._made[0]

    @property
    def taught(self) -> Tensor:
        """The teacher's image, without a gradient.

        Raises:
            ValueError: if there is no teacher.
        """
        return self._taught[0]

    def features(self, net: Tapped) -> dict[str, Tensor]:
        """What the taps of a net caught while it made its image of this step, by path; nothing where it has none."""
        return self._made[1] if net == "G" else self._taught[1]

    def seen(self, image: Tensor) -> Tensor:
        """What a discriminator is shown of an image: where it is conditional the input's images of that size, then the
        image, side by side as channels; else the image alone."""
        beside = image_like(as_tuple(self.input), image.shape[2:]) if self.conditional else []
        return torch.cat([*beside, image], 1) if beside else image

    @cached_property
    def _made(self) -> tuple[Tensor, dict[str, Tensor]]:
        return self._run("G", self.generator)

    @cached_property
    def _taught(self) -> tuple[Tensor, dict[str, Tensor]]:
        if self.teacher is None:
            raise ValueError(
                "no teacher looks on here: make the task with task.as_student_task(teacher) or task.with_teachers(teachers)"
            )
        if self.memory is not None and "teacher" not in self.taps:
            return self.memory.of(self.input), {}
        with torch.no_grad():
            return self._run("teacher", self.teacher)

    def _run(self, net: Tapped, network: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        taps = self.taps.get(net)
        if taps is None:
            return generate(network, self.input), {}
        taps.clear()  # a cycle runs its generators again after this, and the taps see those passes too
        return generate(network, self.input), taps.take()
