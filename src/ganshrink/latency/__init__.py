"""Milliseconds, not MACs: networks timed side by side in one run, in torch and in ONNX Runtime."""

from ganshrink.latency.measuring import measure_latency

__all__ = ["measure_latency"]
