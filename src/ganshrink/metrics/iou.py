"""Mean intersection over union of the labels a photo was generated from and what a segmenter sees in it.

One confusion matrix over the whole split (never a mean over images), counted by torchmetrics; void is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganshrink.metrics.resampling import Parts
from ganshrink.metrics.value import Pictures, Seen, Value


@dataclass(frozen=True)
class Segmenter:
    """`predict(pictures, size)` gives class ids (N, h, w) of uint8 pictures (N, 3, H, W) at `size` = (h, w).

    Ids 0 .. classes - 1. The last, or the one that is `ignored`, is `void`: it may be predicted (and is then wrong) but is
    not scored. `resize` says in
    words how pictures and scores are resized, `sha256` which weights these are.
    """

    name: str
    predict: Callable[[Tensor, tuple[int, int]], Tensor]
    classes: int
    resize: str
    sha256: str
    ignored: int | None = None

    @property
    def void(self) -> int:
        return self.classes - 1 if self.ignored is None else self.ignored


def mean_iou(parts: Parts, counts: Tensor) -> Tensor:
    """`OfParts` of the mean IoU: percent, over the classes that occur in the drawn labels or predictions."""
    both, either = (counts.double() @ parts[name].double() for name in ("intersection", "union"))
    return 100 * (both / either.clamp_min(1)).sum(dim=1) / (either > 0).sum(dim=1)


class MeanIoU:
    """Mean IoU in percent over the classes without void, at the label maps' size; higher is better."""

    name = "miou"
    needs = frozenset({"labels"})

    def __init__(self, segmenter: Segmenter, *, split: str) -> None:
        self.segmenter = segmenter
        self.split = split
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.label_size = ""
        self.overlaps: list[Tensor] = []  # of each picture

    def update(self, batch: Pictures) -> None:
        from torchmetrics.functional.classification import multiclass_confusion_matrix  # takes 0.5-1.2 s

        if batch.fake is None:
            return
        labels = self._checked(batch.labels)
        height, width = labels.shape[-2:]
        predicted = self.segmenter.predict(batch.rgb("fake"), (height, width))
        classes, void = self.segmenter.classes, self.segmenter.void
        for one, truth in zip(predicted.cpu(), labels.cpu(), strict=True):
            matrix = multiclass_confusion_matrix(one, truth, classes, ignore_index=void, validate_args=False)
            both = matrix.diagonal()
            overlap = torch.stack([both, matrix.sum(0) + matrix.sum(1) - both])
            overlap[:, void] = 0
            self.overlaps.append(overlap.int())
        self.label_size = f"{width}x{height}"
        self.seen.add(batch.fake)

    def _checked(self, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ValueError(
                "miou needs label maps and the data set gives none: use a labelled one or drop miou"
            )
        if labels.min() < 0 or labels.max() >= self.segmenter.classes:
            raise ValueError(
                f"label ids {labels.min().item()}..{labels.max().item()} are not within the "
                f"0..{self.segmenter.classes - 1} of {self.segmenter.name}: data set and segmenter do not fit"
            )
        return labels

    def compute(self) -> Value:
        segmenter, parts = self.segmenter, self.parts()
        scored = int((parts["union"].sum(dim=0) > 0).sum())  # an absent class has no IoU
        if not scored and self.seen.images:
            raise ValueError("miou: no pixel of the label maps has a class that is scored")
        protocol = self.seen.protocol(self.name) | {
            "network": segmenter.name,
            "weights_sha256": segmenter.sha256,
            "resize": segmenter.resize,
            "label_size": self.label_size,
            "classes": scored,
            "void": "ignored",
            "unit": "percent",
        }
        return Value(mean_iou(parts, torch.ones(1, self.seen.images)).item(), "higher", protocol)

    def parts(self) -> dict[str, Tensor]:
        """`intersection` and `union` (N, classes) in pixels, int32, both 0 for void."""
        empty = torch.zeros(0, 2, self.segmenter.classes, dtype=torch.int32)
        overlaps = torch.stack(self.overlaps) if self.overlaps else empty
        return {"intersection": overlaps[:, 0], "union": overlaps[:, 1]}

    of_parts = staticmethod(mean_iou)


def resized_ids(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of the largest score (N, h, w) after scores (N, C, H, W) are resized, one picture at a time.

    Scores, not labels: class ids cannot be interpolated.
    """
    resized = (F.interpolate(one[None], size=size, mode="bilinear", align_corners=False) for one in scores)
    return torch.cat([one.argmax(dim=1) for one in resized])
