"""The perceptual distance to the teacher's image, in VGG's features: what GAN Slimming trains on, as a number.

It is not LPIPS (Zhang et al. 2018), which weighs normalised features by learned factors.
"""

from ganshrink.metrics.value import AGAINST, Listed, Pictures, Seen, Setup, Value
from ganshrink.metrics.vgg import VGG, load_vgg


class PerceptualDistance:
    """The mean over images of `VGG.distance` between the network's saved image and the teacher's; lower is better."""

    name = "perceptual_teacher"
    needs: frozenset[str] = frozenset({"teacher"})

    def __init__(self, vgg: VGG, *, split: str) -> None:
        self.vgg = vgg
        self.split = split
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.total = 0.0

    def update(self, batch: Pictures) -> None:
        if batch.fake is None:
            return
        fake, teacher = (batch.rgb(kind) / 127.5 - 1 for kind in ("fake", "teacher"))
        # The distance is a mean over the batch, so that this is the sum over its images.
        self.total += self.vgg.distance(fake, teacher).item() * len(fake)
        self.seen.add(fake)

    def compute(self) -> Value:
        protocol = self.seen.protocol(self.name) | {
            "resize": "none",
            "against": AGAINST["teacher"],
            "average": "over images",
            "network": self.vgg.name,
            "weights_sha256": self.vgg.sha256,
            "content": f"L1 at {self.vgg.content}",
            "style": f"Gram matrices at {', '.join(self.vgg.style)}",
            "style_weight": self.vgg.style_weight,
        }
        return Value(self.total / self.seen.images, "lower", protocol)


def _perceptual(setup: Setup) -> PerceptualDistance:
    return PerceptualDistance(load_vgg(setup.config.vgg, setup.device), split=setup.split)


PERCEPTUAL_TEACHER = Listed(
    _perceptual, "lower", "teacher", "perceptual distance to the teacher's picture in VGG features; not LPIPS"
)
