"""Segmentation networks that judge label -> photo generators."""

from collections.abc import Callable

from ganshrink.metrics.iou import Segmenter
from ganshrink.metrics.segmenters.espnet import load_espnet

SEGMENTERS: dict[str, Callable[..., Segmenter]] = {"espnet-camvid": load_espnet}

__all__ = ["SEGMENTERS", "load_espnet"]
