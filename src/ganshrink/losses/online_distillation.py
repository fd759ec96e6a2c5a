"""The online distillation loss of OMGD (Ren et al. 2021, "Online Multi-Granularity Distillation for GAN Compression"),
which UGC (Ren et al. 2023) takes over as L_OD: how a student's images are to be like a teacher's, without a judge.

As OMGD's released code computes it. Both papers print its weights as ssim, feature, style, tv = 1e1, 1e4, 1e1, 1e-5;
the code reads the same string as ssim, style, feature, tv, which is the order here: named as printed, the feature
term would be a thousand times all others. Always in float32: style is small differences of sums over all pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from ganshrink.losses.perceptual import gram
from ganshrink.losses.ssim import structural_similarity

FEATURE_LAYER = "relu2_2"

FeatureNetwork = Callable[[Tensor], Mapping[str, Tensor]]
"""Named features (B, C, H, W) of images (B, 3, H, W) in [-1, 1], differentiable, its own weights frozen."""


@dataclass(frozen=True)
class OnlineWeights:
    """What the terms count. A term of weight 0 is left out, and nothing is computed for it.

    The defaults are the released code's, `style` and `feature` for torchvision's VGG-16.
    """

    ssim: float = 10.0
    style: float = 1e4
    feature: float = 10.0
    tv: float = 1e-5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"the weight of {name} must be a number of at least 0, got {value}")


DEFAULT = OnlineWeights()


@dataclass(frozen=True)
class Look:
    """A batch of images with all that several comparisons of it share. Made by `look`."""

    image: Tensor
    features: Mapping[str, Tensor]  # of FEATURE_LAYER; empty where no term asks for them
    grams: Mapping[str, Tensor]  # of every layer; empty where no term asks for them
    weights: OnlineWeights


class OnlineDistillationLoss:
    """L_OD with its weights and the network that looks at images.

    Args:
        network: see `look`.
        parts: in how many parts a batch is seen, by processes or one after another. Gradients of parts are averaged, and tv
            is a sum over the batch.
    """

    def __init__(
        self, weights: OnlineWeights, network: FeatureNetwork | None = None, *, parts: int = 1
    ) -> None:
        self.weights, self.network, self.parts = weights, network, parts

    def look(self, image: Tensor) -> Look:
        """An image (B, C, H, W) ready to be compared, perhaps with several."""
        return look(image, self.network, self.weights)

    def losses(self, student: Look, teacher: Look, weights: Tensor | None = None) -> dict[str, Tensor]:
        """The terms, scalars; `weights` (B,): what each image counts, as for `reduced`."""
        losses = reduced(online_distillation(student, teacher), weights)
        return {name: loss * self.parts if name == "tv" else loss for name, loss in losses.items()}


def look(image: Tensor, network: FeatureNetwork | None, weights: OnlineWeights = DEFAULT) -> Look:
    """Make images ready to be compared: features and Gram matrices once, however many others they are compared with.

    Args:
        image: (B, C, H, W) in [-1, 1]. A teacher's is detached by the caller; a student's features keep their graph,
            so that all losses of one look are back-propagated together.
        network: the features; all layers it gives count for style, `relu2_2` for the feature term. None leaves both
            terms out. Run in float32 whatever autocast says, and not at all where both terms weigh nothing.
        weights: of the terms that it is for.

    Raises:
        ValueError: the feature term is asked for and the network has no `relu2_2`.
    """
    if network is None or not (weights.style or weights.feature):
        return Look(image, {}, {}, weights)
    with torch.autocast(image.device.type, enabled=False):
        found = network(image.float())
        grams = {name: gram(features) for name, features in found.items()} if weights.style else {}
    if not weights.feature:
        return Look(image, {}, grams, weights)
    if FEATURE_LAYER not in found:
        raise ValueError(
            f"the feature network gives no {FEATURE_LAYER}, only {', '.join(found)}: give another, or weigh feature with 0"
        )
    return Look(image, {FEATURE_LAYER: found[FEATURE_LAYER]}, grams, weights)


def online_distillation(student: Look, teacher: Look) -> dict[str, Tensor]:
    """L_OD of a student's images against a teacher's, term by term and image by image, weighted.

    ssim: 1 - SSIM. style: the sum over layers of the mean |difference| of Gram matrices. feature: the mean
    |difference| at relu2_2. tv: the total variation of the student's image, the *sum* of |differences| of neighbours
    over pixels and channels; it grows with the resolution. With several teachers the terms are added, tv once for
    each teacher as well.

    Returns:
        `ssim`, `style`, `feature` and `tv`, each (B,), float32; without those that weigh nothing, and without `style`
        and `feature` where there is no feature network. `reduced` makes losses of them.

    Raises:
        ValueError: the images' shapes differ, or the looks were made with different weights or layers.
    """
    _check(student, teacher)
    weights = student.weights
    terms = {}
    with torch.autocast(student.image.device.type, enabled=False):
        if weights.ssim:
            terms["ssim"] = weights.ssim * (1 - structural_similarity(student.image, teacher.image))
        if student.grams:
            layers = [_mean_distance(grams, teacher.grams[name]) for name, grams in student.grams.items()]
            terms["style"] = weights.style * torch.stack(layers).sum(0)
        if student.features:
            terms["feature"] = weights.feature * _mean_distance(
                student.features[FEATURE_LAYER], teacher.features[FEATURE_LAYER]
            )
        if weights.tv:
            terms["tv"] = weights.tv * _total_variation(student.image.float())
    return terms


def reduced(terms: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
    """The losses of a batch from those of its images: means, and the sum for tv, as in the released code.

    Of several processes each has the sum of its own images alone: where their gradients are averaged, the caller
    multiplies tv by their number to get what one process with the whole batch would.

    Args:
        terms: as `online_distillation` gives them, (B,) each.
        weights: (B,), what each image counts (UGC's Phi); 0 takes an image out. Means are over all B images however
            many are left, so that what is taken out adds nothing and moves no other's share.

    Returns:
        A float32 scalar for each term.

    Raises:
        ValueError: not one weight for each image.
    """
    losses = {}
    for name, values in terms.items():
        if weights is not None and weights.shape != values.shape:
            raise ValueError(
                f"the weights of images must be one for each of the {len(values)}, got shape {tuple(weights.shape)}"
            )
        counted = values if weights is None else values * weights
        losses[name] = counted.sum() if name == "tv" else counted.mean()
    return losses


def _mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """(B, ...) -> (B,): the mean |difference| of each image."""
    return l1_loss(x.float(), y.float(), reduction="none").flatten(1).mean(1)


def _total_variation(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B,)."""
    rows, columns = (image.diff(dim=axis).abs().sum((1, 2, 3)) for axis in (2, 3))
    return rows + columns


def _check(student: Look, teacher: Look) -> None:
    ours, theirs = student.image.shape, teacher.image.shape
    if len(ours) != 4 or ours != theirs:  # losses would broadcast some of these
        raise ValueError(
            "the images to compare must be (B, C, H, W) of one shape,"
            f" got {tuple(ours)} for the student and {tuple(theirs)} for the teacher"
        )
    if student.weights != teacher.weights:
        raise ValueError(
            f"the student was looked at with {student.weights}, the teacher with {teacher.weights}: use the same"
        )
    if student.grams.keys() != teacher.grams.keys() or student.features.keys() != teacher.features.keys():
        raise ValueError(
            f"the student was looked at by the layers {_layers(student)}, the teacher by {_layers(teacher)}:"
            " use the same feature network"
        )


def _layers(seen: Look) -> str:
    return ", ".join({**seen.grams, **seen.features}) or "none"
