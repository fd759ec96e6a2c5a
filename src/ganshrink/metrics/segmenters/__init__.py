"""Segmentation networks that judge label -> photo generators."""

from collections.abc import Callable

from ganshrink.metrics.iou import MeanIoU, Segmenter
from ganshrink.metrics.segmenters.espnet import load_espnet
from ganshrink.metrics.value import Listed, Setup

SEGMENTERS: dict[str, Callable[..., Segmenter]] = {"espnet-camvid": load_espnet}


def _judged(setup: Setup) -> MeanIoU:
    segmenter = SEGMENTERS[setup.config.segmenter](setup.config.segmenter_weights, setup.device)
    return MeanIoU(segmenter, split=setup.split)


MIOU = Listed(_judged, "higher", "labels", "mean IoU, percent, of what a segmenter sees in the picture")

__all__ = ["MIOU", "SEGMENTERS", "load_espnet"]
