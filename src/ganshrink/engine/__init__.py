"""Training: one loop of updates, with what must survive a kill."""

from ganshrink.engine.checkpoint import Stateful
from ganshrink.engine.config import FitConfig
from ganshrink.engine.devices import rank_and_world
from ganshrink.engine.log import NonFiniteLoss
from ganshrink.engine.loop import Forward, Stream, fit
from ganshrink.engine.optim import adam
from ganshrink.engine.taps import Taps, default_taps
from ganshrink.engine.update import Context, FitResult, Update

__all__ = [
    "Context",
    "FitConfig",
    "FitResult",
    "Forward",
    "NonFiniteLoss",
    "Stateful",
    "Stream",
    "Taps",
    "Update",
    "adam",
    "default_taps",
    "fit",
    "rank_and_world",
]
