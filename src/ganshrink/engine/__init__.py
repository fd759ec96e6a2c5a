"""Training: one loop of updates, with what must survive a kill."""

from ganshrink.engine.checkpoint import Stateful
from ganshrink.engine.config import FitConfig
from ganshrink.engine.devices import check_launch
from ganshrink.engine.log import NonFiniteLoss
from ganshrink.engine.loop import Forward, Stream, fit, total_steps
from ganshrink.engine.optim import Schedule, adam, sgd
from ganshrink.engine.processes import agreed, join, leads, rank_and_world, sum_over_processes, wait
from ganshrink.engine.taps import Taps, default_taps
from ganshrink.engine.update import Context, FitResult, Update
from ganshrink.interruption import Interrupted

__all__ = [
    "Context",
    "FitConfig",
    "FitResult",
    "Forward",
    "Interrupted",
    "NonFiniteLoss",
    "Schedule",
    "Stateful",
    "Stream",
    "Taps",
    "Update",
    "adam",
    "agreed",
    "check_launch",
    "default_taps",
    "fit",
    "join",
    "leads",
    "rank_and_world",
    "sgd",
    "sum_over_processes",
    "total_steps",
    "wait",
]
