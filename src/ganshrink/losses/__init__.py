"""Losses: pure functions of tensors, one file each."""

from ganshrink.losses.gan import GanMode, discriminator_loss, generator_loss
from ganshrink.losses.gka import Alignment, kernel_alignment

__all__ = ["Alignment", "GanMode", "discriminator_loss", "generator_loss", "kernel_alignment"]
