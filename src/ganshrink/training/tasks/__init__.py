"""Tasks: what is optimised, for any generator."""

from collections.abc import Mapping

from ganshrink.training.tasks.cyclegan import CycleGAN, CycleGANConfig
from ganshrink.training.tasks.gaugan import GauGAN, GauGANConfig
from ganshrink.training.tasks.generator_pass import GeneratorPass
from ganshrink.training.tasks.image2image import Image2Image, Image2ImageConfig
from ganshrink.training.tasks.paired import PairedConfig, PairedLearning
from ganshrink.training.tasks.pix2pix import Pix2Pix, Pix2PixConfig
from ganshrink.training.tasks.pix2pixhd import Pix2PixHD, Pix2PixHDConfig
from ganshrink.training.tasks.task import Direction, RealImages, Target, Task, Term, WithTerms, with_settings
from ganshrink.training.tasks.unconditional import Unconditional, UnconditionalConfig

TASKS: Mapping[str, type[Task]] = {
    "pix2pix": Pix2Pix,
    "pix2pixhd": Pix2PixHD,
    "gaugan": GauGAN,
    "cyclegan": CycleGAN,
    "image2image": Image2Image,
    "unconditional": Unconditional,
}

__all__ = [
    "TASKS",
    "CycleGAN",
    "CycleGANConfig",
    "Direction",
    "GauGAN",
    "GauGANConfig",
    "Image2Image",
    "Image2ImageConfig",
    "PairedConfig",
    "PairedLearning",
    "Pix2Pix",
    "Pix2PixConfig",
    "Pix2PixHD",
    "Pix2PixHDConfig",
    "RealImages",
    "Target",
    "Task",
    "Term",
    "Unconditional",
    "UnconditionalConfig",
    "WithTerms",
    "GeneratorPass",
    "with_settings",
]
