"""Co-attention distillation, and the discriminator's features (DMAD, Li et al. 2020, "Learning Efficient GANs for
Image Translation via Differentiable Masks and co-Attention Distillation", III.C, Eqs. 7-10).

Attention maps have no channels, so that widths may differ. Always in float32: squares summed over channels overflow
half precision. No side is detached here: who learns is the caller's choice.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import interpolate

Fusion = Literal["sum", "multiply", "conv", "none"]

FAINTEST = 1e-30
"""Maps that are nowhere above this count as all zero: the gradient of a normalised map grows with one over the map."""


def attention_map(features: Tensor, *, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """Where a layer is active: squared features over channels (Eq. 7).

    Args:
        features: (B, C, H, W).
        reduction: `sum` is the paper's, `mean` the released code's. Normalised maps do not see the difference, but in
            Eq. 8 it decides how much a wide generator and a narrow discriminator weigh.

    Returns:
        (B, H, W), float32, at least 0.

    Raises:
        ValueError: for anything but four axes, or an unknown reduction.
    """
    if features.ndim != 4:
        raise ValueError(
            f"an attention map is made of features (B, C, H, W), got {tuple(features.shape)}: add the missing axes"
        )
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be sum or mean, got {reduction!r}")
    with torch.autocast(features.device.type, enabled=False):
        squares = features.float().square()
        return squares.sum(1) if reduction == "sum" else squares.mean(1)


def resized(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention maps (B, h, w) at another size (H, W): averages over areas along an axis that shrinks, which keep the
    mean also where boxes do not fall on whole pixels; linear interpolation (corners not aligned) along one that grows.

    The paper speaks of Lagrange interpolation; the released code averages over areas, after a cast to bytes which
    cuts the gradient, takes the first image for the whole batch and wraps values above 1. Here all of it is in floats.

    Returns:
        (B, H, W), float32, within the range of the given maps.

    Raises:
        ValueError: for anything but three axes.
    """
    if attention.ndim != 3:
        raise ValueError(f"attention maps are (B, H, W), got {tuple(attention.shape)}")
    with torch.autocast(attention.device.type, enabled=False):
        maps = attention.float()
        if maps.shape[1:] == torch.Size(size):
            return maps
        rows, columns = (_shares(maps.shape[i + 1], size[i], maps.device) for i in (0, 1))
        return rows @ maps @ columns.mT


def nearest(layers: Sequence[Tensor], sizes: Sequence[tuple[int, int]], count: int) -> list[Tensor]:
    """Of a discriminator's features (B, C, h, w) so many that are, on average over sizes (H, W), nearest in size; of equals
    the earlier ones (on a U-Net's taps the released code's layer and two others are equally near)."""

    def ratio(layer: Tensor) -> float:
        h, w = layer.shape[2:]
        logs = sum(abs(math.log(h / height)) + abs(math.log(w / width)) for height, width in sizes)
        return round(logs, 6)

    return sorted(layers, key=ratio)[:count]


def co_attention(
    of_generator: Tensor,
    of_judge: Sequence[Tensor],
    *,
    fusion: Fusion = "sum",
    judge_weight: float = 0.5,
    mix: nn.Module | None = None,
) -> Tensor:
    """The teacher's attention at one layer of its generator, with that of its discriminator (Eq. 8).

    Args:
        of_generator: the teacher generator's map A_G (B, H, W).
        of_judge: the teacher discriminator's maps (B, h, w) of the same images, resized to (H, W) and summed to A_D.
            The paper's equation sums several layers; in its Table VI one alone does best, and so does its code.
        fusion: `sum`: A_G / 2 + judge_weight * A_D. `multiply`: A_G * A_D. `conv`: what `mix` makes of both.
            `none`: A_G alone, whatever the judge's maps (Table IV's G-Attention). In Table V `sum` is best.
        judge_weight: the paper's is 1/2, and the released code's but for its mobile Pix2Pix, 1/4. For `sum` alone.
        mix: a 1x1 convolution of float32 from 2 channels, A_G first, to 1. For `conv` alone. Its parameters learn by
            the same loss, for want of another, which is what the paper blames for its poor result.

    Returns:
        (B, H, W), float32.

    Raises:
        ValueError: an unknown fusion, one without what it fuses, or maps of different numbers of images.
    """
    if fusion not in ("sum", "multiply", "conv", "none"):
        raise ValueError(f"fusion must be sum, multiply, conv or none, got {fusion!r}")
    if fusion == "none":
        return of_generator.float()
    if not of_judge:
        raise ValueError(
            f"fusion {fusion!r} needs attention maps of the discriminator: give one, or use 'none'"
        )
    for judged in of_judge:
        if len(judged) != len(of_generator):  # one map would be broadcast
            raise ValueError(
                f"the generator's attention maps are of {len(of_generator)} images, the discriminator's of {len(judged)}:"
                " make both from the same batch"
            )
    size = (of_generator.shape[1], of_generator.shape[2])
    with torch.autocast(of_generator.device.type, enabled=False):
        ours = of_generator.float()
        theirs = torch.stack([resized(judged, size) for judged in of_judge]).sum(0)
        if fusion == "sum":
            return ours / 2 + judge_weight * theirs
        if fusion == "multiply":
            return ours * theirs
        if mix is None:
            raise ValueError(
                "fusion 'conv' needs mix, a 1x1 convolution of 2 channels to 1: nn.Conv2d(2, 1, 1)"
            )
        mixed: Tensor = mix(torch.stack([ours, theirs], 1))
        return mixed.squeeze(1)


def attention_loss(student: Tensor, teacher: Tensor, *, norm: Literal["sum", "mean"] = "sum") -> Tensor:
    """How far two attention maps are apart, each over its L2 norm (Eq. 9 at one layer; the caller sums over layers).

    ||A_T / ||A_T|| - A_S / ||A_S||||^2, summed over the pixels of an image as in the paper, and averaged over images.
    The released code averages over pixels too, a factor H*W less: its lambda of 100 is 100/4096 = 0.0244 here for maps
    of 64 x 64, and 100/256 = 0.39 for those of 16 x 16.

    Args:
        student: (B, H, W).
        teacher: (B, H, W), as `co_attention` makes them.
        norm: over the pixels of an image: `sum` is the paper's, `mean` the released code's.

    Returns:
        A float32 scalar from 0 to 2 for maps that are nowhere negative; their scales do not matter. An all-zero map
        is at 1 from any other, and at 0 from another all-zero one, always with a finite gradient.

    Raises:
        ValueError: the shapes differ, or have not three axes; or an unknown norm.
    """
    if student.ndim != 3 or student.shape != teacher.shape:
        raise ValueError(
            "the attention maps to compare must be (B, H, W) of one shape,"
            f" got {tuple(student.shape)} for the student and {tuple(teacher.shape)} for the teacher"
        )
    if norm not in ("sum", "mean"):
        raise ValueError(f"norm must be sum or mean, got {norm!r}")
    with torch.autocast(student.device.type, enabled=False):
        distance = (_normalised(student) - _normalised(teacher)).square()
        return distance.mean() if norm == "mean" else distance.sum(1).mean()


def feature_distance(
    fake: Tensor, taught: Tensor, *, norm: Literal["squared", "plain"] = "squared"
) -> Tensor:
    """How differently the teacher's discriminator sees the student's images and the teacher's (Eq. 10).

    Args:
        fake: its features (B, C, H, W) of the student's images, from the layer before its prediction.
        taught: those of the teacher's images, of the same inputs.
        norm: `squared`: the squared L2 norm for each image, averaged over images, as in the paper. `plain`: the L2
            norm of the whole difference, which neither a batch's size nor anything else divides, as in the released
            code. Its gradient has the same length however close the features are; where they are equal it is 0.

    Returns:
        A float32 scalar, at least 0.

    Raises:
        ValueError: the shapes differ, or have not four axes; or an unknown norm.
    """
    if fake.ndim != 4 or fake.shape != taught.shape:
        raise ValueError(
            "the discriminator's features to compare must be (B, C, H, W) of one shape,"
            f" got {tuple(fake.shape)} for the student and {tuple(taught.shape)} for the teacher"
        )
    if norm not in ("squared", "plain"):
        raise ValueError(f"norm must be squared or plain, got {norm!r}")
    with torch.autocast(fake.device.type, enabled=False):
        difference = fake.float() - taught.float()
        return vector_norm(difference) if norm == "plain" else difference.square().sum() / len(fake)


def _shares(old: int, new: int, device: torch.device) -> Tensor:
    """(new, old): what share of each new pixel is made of each old one, along one axis."""
    if new > old:
        return interpolate(torch.eye(old, device=device)[None], size=new, mode="linear")[0].mT
    # Edges in units of 1 / (old * new) of the axis: whole numbers, so that shares are exact.
    of_old, of_new = (torch.arange(n + 1, device=device) * step for n, step in ((old, new), (new, old)))
    ends = torch.minimum(of_new[1:, None], of_old[1:])
    return (ends - torch.maximum(of_new[:-1, None], of_old[:-1])).clamp(min=0) / old


def _normalised(attention: Tensor) -> Tensor:
    """(B, H, W) -> (B, H*W) of norm 1, or 0 where a map is all zero. Over the largest entry first: squares of a
    map are fourth powers of features, for which float32 may be too small as well."""
    maps = attention.float().flatten(1)
    largest = maps.detach().abs().amax(1, keepdim=True)
    scaled = maps / torch.where(largest > FAINTEST, largest, 1)
    return scaled / vector_norm(scaled, dim=1, keepdim=True).clamp(min=1)  # below 1 only for an all-zero map
