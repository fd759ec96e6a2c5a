"""Training: one loop of updates, with what must survive a kill."""

from ganshrink.training.checkpoint import Stateful
from ganshrink.training.config import FitConfig
from ganshrink.training.devices import check_launch
from ganshrink.training.log import NonFiniteLoss
from ganshrink.training.loop import Forward, Stream, fit, total_steps
from ganshrink.training.optim import Schedule, adam, sgd
from ganshrink.training.taps import Taps, activations, check_maps, default_taps, widths_at
from ganshrink.training.update import Context, FitResult, Update, extended, joint

__all__ = [
    "Context",
    "FitConfig",
    "FitResult",
    "Forward",
    "NonFiniteLoss",
    "Schedule",
    "Stateful",
    "Stream",
    "Taps",
    "Update",
    "activations",
    "adam",
    "check_launch",
    "check_maps",
    "default_taps",
    "extended",
    "fit",
    "joint",
    "sgd",
    "total_steps",
    "widths_at",
]
