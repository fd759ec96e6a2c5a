"""The published methods: one file each, named as in its paper; and the baseline that they have to beat."""

from ganshrink.methods.base import Method
from ganshrink.methods.cat import cat
from ganshrink.methods.decig import decig
from ganshrink.methods.dmad import dmad
from ganshrink.methods.gan_slimming import gan_slimming
from ganshrink.methods.ugc import ugc
from ganshrink.methods.uniform import uniform

METHODS: dict[str, Method] = {
    "cat": cat,
    "decig": decig,
    "dmad": dmad,
    "gan_slimming": gan_slimming,
    "ugc": ugc,
    "uniform": uniform,
}

DEFAULT = "cat"

__all__ = ["DEFAULT", "METHODS"]
