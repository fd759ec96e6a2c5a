"""The perceptual distance to the teacher's image, in VGG's features: what GAN Slimming trains on, as a number.

It is not LPIPS (Zhang et al. 2018), which weighs normalised features by learned factors.
"""

import torch
from torch import Tensor

from ganshrink.metrics.mean import MeanOverImages, compared
from ganshrink.metrics.resampling import mean_of
from ganshrink.metrics.value import Listed, Pictures, Protocolled, Setup
from ganshrink.metrics.vgg import VGG, load_vgg


def perceptual_metric(vgg: VGG, *, split: str) -> MeanOverImages:
    """The mean over images of `VGG.distance` between the network's saved image and the teacher's; lower is better."""

    def measure(fakes: Tensor, teachers: Tensor) -> Tensor:
        pairs = zip(fakes / 127.5 - 1, teachers / 127.5 - 1, strict=True)
        return torch.stack([vgg.distance(fake[None], teacher[None]) for fake, teacher in pairs])

    details: dict[str, Protocolled] = {
        "network": vgg.name,
        "weights_sha256": vgg.sha256,
        "content": f"L1 at {vgg.content}",
        "style": f"Gram matrices at {', '.join(vgg.style)}",
        "style_weight": vgg.style_weight,
    }
    return MeanOverImages(
        "perceptual_teacher",
        compared(measure, "teacher", Pictures.rgb),
        against="teacher",
        better="lower",
        split=split,
        details=details,
    )


def _perceptual(setup: Setup) -> MeanOverImages:
    return perceptual_metric(load_vgg(setup.config.vgg, setup.device), split=setup.split)


PERCEPTUAL_TEACHER = Listed(
    _perceptual,
    "lower",
    "teacher",
    "perceptual distance to the teacher's picture in VGG features; not LPIPS",
    mean_of,
)
