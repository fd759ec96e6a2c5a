"""Tasks: what is optimised, for any generator."""

from collections.abc import Mapping

from ganshrink.tasks.pix2pix import Pix2Pix, Pix2PixConfig
from ganshrink.tasks.task import RealImages, Target, Task, Term

TASKS: Mapping[str, type[Task]] = {"pix2pix": Pix2Pix}

__all__ = ["TASKS", "Pix2Pix", "Pix2PixConfig", "RealImages", "Target", "Task", "Term"]
