"""Losses: pure functions of tensors, one file each."""

from ganshrink.losses.gan import GanMode, discriminator_loss, generator_loss
from ganshrink.losses.gka import Alignment, kernel_alignment
from ganshrink.losses.perceptual import gram, perceptual_distance

__all__ = [
    "Alignment",
    "GanMode",
    "discriminator_loss",
    "generator_loss",
    "gram",
    "kernel_alignment",
    "perceptual_distance",
]
