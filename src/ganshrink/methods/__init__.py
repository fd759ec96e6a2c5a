"""The published methods, one file each, named as in its paper; one of our own; and the baselines that they have to beat."""

from ganshrink.methods.base import Method
from ganshrink.methods.cat import cat
from ganshrink.methods.decig import decig
from ganshrink.methods.dmad import dmad
from ganshrink.methods.gan_slimming import gan_slimming
from ganshrink.methods.rebuild import rebuild
from ganshrink.methods.ugc import ugc
from ganshrink.methods.uniform import uniform

METHODS: dict[str, Method] = {
    "cat": cat,
    "decig": decig,
    "dmad": dmad,
    "gan_slimming": gan_slimming,
    "rebuild": rebuild,
    "ugc": ugc,
    "uniform": uniform,
}

DEFAULT = "cat"

# What stands beside methods in every comparison, by the name it has there: settings of [method].
BASELINES: dict[str, dict[str, str]] = {
    "uniform-distilled": {"name": "uniform", "teaching": "distilled"},
    "uniform-scratch": {"name": "uniform", "teaching": "scratch"},
    "random-distilled": {"name": "uniform", "teaching": "distilled", "widths": "random"},
}

REFERENCE = "uniform-distilled"  # what a method must be better than to be worth its search
UNTAUGHT = "uniform-scratch"  # what a teacher must be better than to be worth anything

__all__ = ["BASELINES", "DEFAULT", "METHODS", "REFERENCE", "UNTAUGHT"]
