"""DMAD: `dmad.py` is the paper, `search.py` its section III.B."""

from ganshrink.methods.dmad.dmad import DmadConfig, dmad

__all__ = ["DmadConfig", "dmad"]
