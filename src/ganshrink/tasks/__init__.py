"""Tasks: what is optimised, for any generator."""

from collections.abc import Mapping

from ganshrink.tasks.cyclegan import CycleGAN, CycleGANConfig
from ganshrink.tasks.image2image import Image2Image, Image2ImageConfig
from ganshrink.tasks.paired import PairedConfig, PairedLearning
from ganshrink.tasks.pix2pix import Pix2Pix, Pix2PixConfig
from ganshrink.tasks.task import Direction, RealImages, Target, Task, Term
from ganshrink.tasks.way import Way

TASKS: Mapping[str, type[Task]] = {"pix2pix": Pix2Pix, "cyclegan": CycleGAN, "image2image": Image2Image}

__all__ = [
    "TASKS",
    "CycleGAN",
    "CycleGANConfig",
    "Direction",
    "Image2Image",
    "Image2ImageConfig",
    "PairedConfig",
    "PairedLearning",
    "Pix2Pix",
    "Pix2PixConfig",
    "RealImages",
    "Target",
    "Task",
    "Term",
    "Way",
]
