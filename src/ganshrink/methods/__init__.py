"""The published methods: one file each, named as in its paper; and the baseline that they have to beat."""

from ganshrink.job import Method
from ganshrink.methods.cat import cat
from ganshrink.methods.gan_slimming import gan_slimming
from ganshrink.methods.uniform import uniform

METHODS: dict[str, Method] = {"cat": cat, "gan_slimming": gan_slimming, "uniform": uniform}

__all__ = ["METHODS"]
