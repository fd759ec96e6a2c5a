"""The published methods: one file each, named as in its paper."""

from ganshrink.job import Method
from ganshrink.methods.cat import cat

METHODS: dict[str, Method] = {"cat": cat}

__all__ = ["METHODS"]
