"""Mean IoU: by hand, void, absent classes, streaming, and the judge's own score on real photos."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganshrink.metrics import MetricsConfig, Pictures, build, evaluate
from ganshrink.metrics.iou import MeanIoU, Segmenter


def red_is_class(classes: int = 3) -> Segmenter:
    """A segmenter that reads the class from the red channel's value."""
    return Segmenter(
        "red", lambda pictures, size: pictures[:, 0].long(), classes, resize="none", sha256="0" * 12
    )


def painted(ids: list[list[int]]) -> Tensor:
    """A picture (1, 3, H, W) in [-1, 1] in which `red_is_class` sees the ids."""
    red = torch.tensor(ids, dtype=torch.float32)
    return (torch.stack([red, red * 0, red * 0]) / 127.5 - 1)[None]


def score(seen: list[list[int]], labels: list[list[int]], *, classes: int = 3) -> MeanIoU:
    metric = MeanIoU(red_is_class(classes), split="test")
    picture = painted(seen)
    metric.update(Pictures(picture, picture, labels=torch.tensor(labels)[None]))
    return metric


def test_two_by_two_by_hand() -> None:
    # class 0: 1 right, 2 labelled, 1 seen: 1/2. class 1: 2 right, 2 labelled, 3 seen: 2/3.
    assert score([[0, 1], [1, 1]], [[0, 0], [1, 1]]).compute().value == pytest.approx(
        100 * (1 / 2 + 2 / 3) / 2
    )


def test_void_labels_are_ignored_and_void_predictions_are_wrong() -> None:
    assert score([[0, 1], [1, 0]], [[0, 1], [2, 2]]).compute().value == pytest.approx(100.0)
    # One of the two pixels of class 1 is seen as void: 1/2; class 0 is right.
    assert score([[0, 0], [1, 2]], [[0, 0], [1, 1]]).compute().value == pytest.approx(75.0)


def test_classes_that_never_occur_are_left_out_and_the_protocol_says_so() -> None:
    value = score([[0, 0], [3, 3]], [[0, 0], [3, 3]], classes=12).compute()
    assert (value.value, value.better, value.protocol["classes"]) == (100.0, "higher", 2)
    assert (value.protocol["label_size"], value.protocol["network"]) == ("2x2", "red")


def test_one_matrix_over_the_split_not_a_mean_over_images() -> None:
    seen, labels = [[[0, 1]], [[1, 1]]], [[[0, 0]], [[1, 1]]]
    parts = MeanIoU(red_is_class(), split="test")
    for a, b in zip(seen, labels, strict=True):
        picture = painted(a)
        parts.update(Pictures(picture, picture, labels=torch.tensor(b)[None]))
    # All four pixels at once: class 0 1/2, class 1 2/3; the mean over the two images would be (1/4 + 1) / 2.
    whole = score([[0, 1], [1, 1]], [[0, 0], [1, 1]]).compute().value
    assert parts.compute().value == pytest.approx(whole)


def test_labels_missing_or_of_another_data_set() -> None:
    metric = MeanIoU(red_is_class(), split="test")
    picture = painted([[0, 1]])
    with pytest.raises(ValueError, match="needs label maps"):
        metric.update(Pictures(picture, picture))
    with pytest.raises(ValueError, match=r"label ids 0..255 are not within the 0..2 of red"):
        metric.update(Pictures(picture, picture, labels=torch.tensor([[[0, 255]]])))


def read(file: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(file)))


@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("GANSHRINK_DATA") and os.environ.get("GANSHRINK_WEIGHTS")),
    reason="needs real photos and the segmenter's weights: set GANSHRINK_DATA and GANSHRINK_WEIGHTS",
)
@pytest.mark.exhaustive
def test_espnet_scores_53_96_on_the_real_test_photos() -> None:
    folder = Path(os.environ["GANSHRINK_DATA"]) / "camvid"
    photos = sorted((folder / "test").glob("*.jpg"))
    assert len(photos) == 233

    def batches() -> list[dict[str, Tensor]]:
        found = []
        for start in range(0, len(photos), 8):
            some = photos[start : start + 8]
            images = torch.stack([read(file).permute(2, 0, 1) for file in some]).float() / 127.5 - 1
            labels = torch.stack([read(folder / "testannot" / f"{file.stem}.png").long() for file in some])
            found.append({"input": images, "target": images, "labels": labels})
        return found

    value = evaluate(nn.Identity(), batches(), build(MetricsConfig(names=("miou",))))["miou"]
    assert value.value == pytest.approx(53.96, abs=0.1)
    assert (value.protocol["images"], value.protocol["classes"]) == (233, 11)
