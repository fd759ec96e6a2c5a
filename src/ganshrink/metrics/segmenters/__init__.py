"""Segmentation networks that judge label -> photo generators."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ganshrink.metrics.iou import MeanIoU, Segmenter, mean_iou
from ganshrink.metrics.segmenters.drn import load_drn
from ganshrink.metrics.segmenters.espnet import load_espnet
from ganshrink.metrics.segmenters.onnx_file import load_onnx
from ganshrink.metrics.value import Listed, Setup
from ganshrink.system.own import call, chosen

SEGMENTERS: dict[str, Callable[..., Segmenter]] = {
    "espnet-camvid": load_espnet,
    "drn-d-105-cityscapes": load_drn,
}


def load_segmenter(name: str, weights: Path | None, device: str | torch.device) -> Segmenter:
    """A segmenter of this package, of an ONNX file, or what MODULE:NAME makes of the weights' path and the device.

    Raises:
        FileNotFoundError, ValueError: it cannot be had; the message says why.
    """
    if name.endswith(".onnx"):
        return load_onnx(name)
    make = chosen("segmenters", name, SEGMENTERS)
    if name in SEGMENTERS:
        return make(weights, device)
    segmenter = call(name, make, weights, device)
    if not isinstance(segmenter, Segmenter):
        raise ValueError(f"{name} must make a ganshrink.metrics.Segmenter, got {type(segmenter).__name__}")
    return segmenter


def _judged(setup: Setup) -> MeanIoU:
    config = setup.config
    segmenter = load_segmenter(config.segmenter, config.segmenter_weights, setup.device)
    if config.segmenter_void is not None:
        segmenter = replace(segmenter, ignored=config.segmenter_void)
    return MeanIoU(segmenter, split=setup.split)


MIOU = Listed(
    _judged, "higher", "labels", "mean IoU, percent, of what a segmenter sees in the picture", mean_iou
)

__all__ = ["MIOU", "SEGMENTERS", "load_drn", "load_espnet", "load_segmenter"]
