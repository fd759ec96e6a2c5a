"""Mean intersection over union of the labels a photo was generated from and what a segmenter sees in it.

One confusion matrix over the whole split (never a mean over images), kept by torchmetrics; void is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


class MeanIoU:
    """Mean IoU in percent over the classes without void, at the label maps' size; higher is better."""

    name = "miou"
    needs = frozenset({"labels"})

    def __init__(self, segmenter: Segmenter, *, split: str) -> None:
        from torchmetrics.classification import MulticlassJaccardIndex  # takes 0.5-1.2 s

        self.segmenter = segmenter
        self.split = split
        # No synchronisation: a process scores what it is given, and may be the only one that scores.
        self.jaccard = MulticlassJaccardIndex(
            segmenter.classes, ignore_index=segmenter.void, validate_args=False, sync_on_compute=False
        )
        self.reset()

    def reset(self) -> None:
        self.seen = Seen(self.split)
        self.label_size = ""
        self.jaccard.reset()

    def update(self, batch: Pictures) -> None:
        if batch.fake is None:
            return
        labels = self._checked(batch.labels)
        height, width = labels.shape[-2:]
        predicted = self.segmenter.predict(batch.rgb("fake"), (height, width))
        self.jaccard.update(predicted.cpu(), labels.cpu())
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
        segmenter = self.segmenter
        if not self._scored_classes() and self.seen.images:
            raise ValueError("miou: no pixel of the label maps has a class that is scored")
        protocol = self.seen.protocol(self.name) | {
            "network": segmenter.name,
            "weights_sha256": segmenter.sha256,
            "resize": segmenter.resize,
            "label_size": self.label_size,
            "classes": self._scored_classes(),
            "void": "ignored",
            "unit": "percent",
        }
        return Value(100 * self.jaccard.compute().item(), "higher", protocol)

    def _scored_classes(self) -> int:
        """Classes that occur in the labels or the predictions; an absent class has no IoU."""
        matrix = self.jaccard.confmat
        occurs = matrix.sum(0) + matrix.sum(1) > 0
        occurs[self.segmenter.void] = False
        return int(occurs.sum())


def resized_ids(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of the largest score (N, h, w) after scores (N, C, H, W) are resized, one picture at a time.

    Scores, not labels: class ids cannot be interpolated.
    """
    resized = (F.interpolate(one[None], size=size, mode="bilinear", align_corners=False) for one in scores)
    return torch.cat([one.argmax(dim=1) for one in resized])
