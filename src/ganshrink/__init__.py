"""ganshrink: make image-to-image generators small and fast enough to ship.

Names are loaded when first used, so that importing the package (and `ganshrink --help`) does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganshrink import channels, nets
    from ganshrink.channels import Budget, Plan, extract, prune, trace
    from ganshrink.exporters import export_onnx as export
    from ganshrink.latency import measure_latency as measure
    from ganshrink.outcome import score as evaluate
    from ganshrink.pipeline import compress, train
    from ganshrink.reports import write_report as report

_WHERE = {
    "Budget": ("channels", "Budget"),
    "Plan": ("channels", "Plan"),
    "compress": ("pipeline", "compress"),
    "evaluate": ("outcome", "score"),
    "export": ("exporters", "export_onnx"),
    "extract": ("channels", "extract"),
    "measure": ("latency", "measure_latency"),
    "prune": ("channels", "prune"),
    "report": ("reports", "write_report"),
    "trace": ("channels", "trace"),
    "train": ("pipeline", "train"),
}

__all__ = [
    "Budget",
    "Plan",
    "channels",
    "compress",
    "evaluate",
    "export",
    "extract",
    "measure",
    "nets",
    "prune",
    "report",
    "trace",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, attribute = _WHERE[name]
        return getattr(import_module(f"ganshrink.{module}"), attribute)
    if name in ("channels", "nets"):
        return import_module(f"ganshrink.{name}")
    raise AttributeError(f"module 'ganshrink' has no attribute {name!r}")
