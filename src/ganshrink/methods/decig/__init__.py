"""DECIG: the paper in `decig.py`, what it does by eye in `hinges.py`."""

from ganshrink.methods.decig.decig import DecigConfig, decig

__all__ = ["DecigConfig", "decig"]
