"""ganshrink: make image-to-image generators small and fast enough to ship.

Names are loaded when first used, so that importing the package (and `ganshrink --help`) does not wait for torch.
"""

TYPE_CHECKING = (
    False  # to type checkers it is true, by its name: the module typing takes longer than all else here
)
if TYPE_CHECKING:
    from typing import Any

    from ganshrink import data, losses, methods, metrics, nets
    from ganshrink.comparison.compare import compare
    from ganshrink.graph import trace
    from ganshrink.pruning import Budget, Plan, extract, prune, reconstruct
    from ganshrink.reports import write_report as report
    from ganshrink.training import tasks
    from ganshrink.workflow.compress import compress, train
    from ganshrink.workflow.predict import predict
    from ganshrink.workflow.pretrained import from_pretrained, save_pretrained
    from ganshrink.workflow.python_verbs import evaluate, export, load, measure, quantize

    __version__: str

_VERBS = {
    "trace": "graph:trace",
    "prune": "pruning:prune",
    "extract": "pruning:extract",
    "reconstruct": "pruning:reconstruct",
    "Plan": "pruning:Plan",
    "Budget": "pruning:Budget",
    "compare": "comparison.compare:compare",
    "compress": "workflow.compress:compress",
    "train": "workflow.compress:train",
    "load": "workflow.python_verbs:load",
    "save_pretrained": "workflow.pretrained:save_pretrained",
    "from_pretrained": "workflow.pretrained:from_pretrained",
    "predict": "workflow.predict:predict",
    "evaluate": "workflow.python_verbs:evaluate",
    "export": "workflow.python_verbs:export",
    "quantize": "workflow.python_verbs:quantize",
    "measure": "workflow.python_verbs:measure",
    "report": "reports:write_report",
}
_ROOMS = {
    "nets": "nets",
    "losses": "losses",
    "methods": "methods",
    "metrics": "metrics",
    "data": "data",
    "tasks": "training.tasks",
}

__all__ = [
    "Budget",
    "Plan",
    "compare",
    "compress",
    "data",
    "evaluate",
    "export",
    "extract",
    "from_pretrained",
    "load",
    "losses",
    "measure",
    "methods",
    "metrics",
    "nets",
    "predict",
    "prune",
    "quantize",
    "reconstruct",
    "report",
    "save_pretrained",
    "tasks",
    "trace",
    "train",
]


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        return version("ganshrink")
    from importlib import import_module

    if name in _VERBS:
        module, _, attribute = _VERBS[name].partition(":")
        return getattr(import_module(f"ganshrink.{module}"), attribute)
    if name in _ROOMS:
        return import_module(f"ganshrink.{_ROOMS[name]}")
    raise AttributeError(f"module 'ganshrink' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
