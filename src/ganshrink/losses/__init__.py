"""Losses: pure functions of tensors, one file each."""

from ganshrink.losses.attention import (
    Fusion,
    attention_loss,
    attention_map,
    co_attention,
    feature_distance,
    resized,
)
from ganshrink.losses.gan import GanMode, discriminator_loss, generator_loss
from ganshrink.losses.gka import Alignment, kernel_alignment
from ganshrink.losses.perceptual import gram, perceptual_distance

__all__ = [
    "Alignment",
    "Fusion",
    "GanMode",
    "attention_loss",
    "attention_map",
    "co_attention",
    "discriminator_loss",
    "feature_distance",
    "generator_loss",
    "gram",
    "kernel_alignment",
    "perceptual_distance",
    "resized",
]
