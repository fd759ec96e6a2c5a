"""ganshrink: make image-to-image generators small and fast enough to ship.

Names are loaded when first used, so that importing the package (and `ganshrink --help`) does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganshrink import data, losses, methods, metrics, nets
    from ganshrink.exporters import export_onnx as export
    from ganshrink.graph import trace
    from ganshrink.latency import measure_latency as measure
    from ganshrink.pruning import Budget, Plan, extract, prune
    from ganshrink.reports import write_report as report
    from ganshrink.training import tasks
    from ganshrink.workflow.compress import compress, train
    from ganshrink.workflow.outputs import score as evaluate

_VERBS = {
    "Budget": ("pruning", "Budget"),
    "Plan": ("pruning", "Plan"),
    "compress": ("workflow.compress", "compress"),
    "evaluate": ("workflow.outputs", "score"),
    "export": ("exporters", "export_onnx"),
    "extract": ("pruning", "extract"),
    "measure": ("latency", "measure_latency"),
    "prune": ("pruning", "prune"),
    "report": ("reports", "write_report"),
    "trace": ("graph", "trace"),
    "train": ("workflow.compress", "train"),
}
_ROOMS = {
    "data": "data",
    "losses": "losses",
    "methods": "methods",
    "metrics": "metrics",
    "nets": "nets",
    "tasks": "training.tasks",
}

__all__ = [
    "Budget",
    "Plan",
    "compress",
    "data",
    "evaluate",
    "export",
    "extract",
    "losses",
    "measure",
    "methods",
    "metrics",
    "nets",
    "prune",
    "report",
    "tasks",
    "trace",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ganshrink")
    if name in _VERBS:
        module, attribute = _VERBS[name]
        return getattr(import_module(f"ganshrink.{module}"), attribute)
    if name in _ROOMS:
        return import_module(f"ganshrink.{_ROOMS[name]}")
    raise AttributeError(f"module 'ganshrink' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
