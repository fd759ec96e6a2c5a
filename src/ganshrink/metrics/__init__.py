"""Image quality and fidelity, measured in one streaming pass; every number carries its protocol."""

from ganshrink.metrics.config import METRICS, MetricsConfig, build
from ganshrink.metrics.evaluation import evaluate, give_reals
from ganshrink.metrics.iou import Segmenter
from ganshrink.metrics.value import Listed, Metric, Pictures, Setup, Value, to_uint8

__all__ = [
    "METRICS",
    "Listed",
    "Metric",
    "MetricsConfig",
    "Pictures",
    "Segmenter",
    "Setup",
    "Value",
    "build",
    "evaluate",
    "give_reals",
    "to_uint8",
]
