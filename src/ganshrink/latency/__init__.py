"""Milliseconds, not MACs: networks timed side by side in one run, in torch, ONNX Runtime and OpenVINO."""

from ganshrink.latency.measuring import measure_latency

__all__ = ["measure_latency"]
