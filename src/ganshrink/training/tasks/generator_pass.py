"""One generator at work in one step of a training, and the teacher that looks on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganshrink.system.generator import Input, as_tuple, image_like
from ganshrink.training import Taps
from ganshrink.training.tasks.teacher_cache import TeacherCache, look

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
        cache: what the teacher made of inputs that came before.
    """

    generator: nn.Module
    input: Input
    teacher: nn.Module | None = None
    taps: Mapping[str, Taps] = field(default_factory=dict)
    conditional: bool = False
    cache: TeacherCache | None = None

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
        image, side by side as channels; else the image alone. An input of another size is brought to the image's."""
        if not self.conditional:
            return image
        inputs = as_tuple(self.input)
        beside = image_like(inputs, image.shape[2:])
        if len(inputs) == 1 and not beside and inputs[0].ndim == 4:
            beside = [interpolate(inputs[0], image.shape[2:], mode="bilinear", antialias=True)]
        return torch.cat([*beside, image], 1) if beside else image

    @cached_property
    def _made(self) -> tuple[Tensor, dict[str, Tensor]]:
        return look(self.generator, self.input, self.taps.get("G"))

    @cached_property
    def _taught(self) -> tuple[Tensor, dict[str, Tensor]]:
        if self.teacher is None:
            raise ValueError(
                "no teacher looks on here: make the task with task.as_student_task(teacher) or task.with_teachers(teachers)"
            )
        taps = self.taps.get("teacher")
        if self.cache is not None:
            return self.cache.of(self.input, taps)
        with torch.no_grad():
            return look(self.teacher, self.input, taps)
