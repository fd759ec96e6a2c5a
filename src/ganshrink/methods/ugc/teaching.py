"""L_OD of a batch, as both stages of UGC use it."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from ganshrink.losses import Look, OnlineWeights, look, online_distillation, reduced
from ganshrink.methods.ugc.config import LossConfig
from ganshrink.metrics.vgg import VGG, load_vgg
from ganshrink.system.distributed import rank_and_world


class DistillationLoss:
    """L_OD with its weights and its feature network.

    Args:
        accumulate: in how many parts a process sees a batch.

    Attributes:
        vgg: looks at images for the style and feature terms; none: without them.

    Raises:
        FileNotFoundError: if VGG's weights are missing.
    """

    def __init__(self, config: LossConfig, *, accumulate: int = 1) -> None:
        self.accumulate = accumulate
        self.vgg: VGG | None = None
        style, feature = config.lambda_style, config.lambda_feature
        if style != 0 or feature != 0:
            self.vgg = load_vgg(config.vgg)
            own_style, own_feature = self.vgg.online
            style, feature = (
                own_style if style is None else style,
                own_feature if feature is None else feature,
            )
        self.weights = OnlineWeights(config.lambda_ssim, style or 0.0, feature or 0.0, config.lambda_tv)

    def describe(self) -> dict[str, Any]:
        """What decides the loss, for a stage's stamp."""
        return {**asdict(self.weights), "vgg": None if self.vgg is None else self.vgg.sha256}

    def look(self, image: Tensor) -> Look:
        """An image (B, C, H, W) ready to be compared, perhaps with several."""
        return look(image, self.vgg, self.weights)

    def losses(self, student: Look, teacher: Look, phi: Tensor | None = None) -> dict[str, Tensor]:
        """The terms of L_OD, scalars; each image counts `phi` (B,) times, or once."""
        losses = reduced(online_distillation(student, teacher), phi)
        if "tv" in losses:  # a sum over the batch, of which this is a part: gradients of parts are averaged
            losses["tv"] = losses["tv"] * rank_and_world()[1] * self.accumulate
        return losses
