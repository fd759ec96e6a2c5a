"""Losses: pure functions of tensors, one file each."""

from ganshrink.losses.attention import (
    Fusion,
    attention_loss,
    attention_map,
    co_attention,
    feature_distance,
    nearest,
    resized,
)
from ganshrink.losses.channel_distance import Connectors, channel_distance
from ganshrink.losses.feature_matching import feature_matching, weighted_distance
from ganshrink.losses.gan import GanMode, discriminator_loss, generator_loss
from ganshrink.losses.gka import Alignment, kernel_alignment
from ganshrink.losses.gradients import gradient_penalty, path_lengths
from ganshrink.losses.online_distillation import (
    FeatureNetwork,
    Look,
    OnlineDistillationLoss,
    OnlineWeights,
    look,
    online_distillation,
    reduced,
)
from ganshrink.losses.perceptual import gram, perceptual_distance
from ganshrink.losses.shift_consistency import shift_consistency
from ganshrink.losses.ssim import structural_similarity

__all__ = [
    "Alignment",
    "Connectors",
    "FeatureNetwork",
    "Fusion",
    "GanMode",
    "Look",
    "OnlineDistillationLoss",
    "OnlineWeights",
    "attention_loss",
    "attention_map",
    "channel_distance",
    "co_attention",
    "discriminator_loss",
    "feature_distance",
    "feature_matching",
    "generator_loss",
    "gradient_penalty",
    "gram",
    "kernel_alignment",
    "look",
    "nearest",
    "online_distillation",
    "path_lengths",
    "perceptual_distance",
    "reduced",
    "resized",
    "shift_consistency",
    "structural_similarity",
    "weighted_distance",
]
