"""Image quality and fidelity, measured in one streaming pass; every number carries its protocol."""

from ganshrink.metrics.config import NAMES, MetricsConfig, build
from ganshrink.metrics.evaluation import evaluate
from ganshrink.metrics.value import Metric, Pictures, Value, to_uint8

__all__ = ["NAMES", "Metric", "MetricsConfig", "Pictures", "Value", "build", "evaluate", "to_uint8"]
