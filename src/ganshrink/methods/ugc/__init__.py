"""UGC: the method is in ugc.py, its three searches in search.py, its settings in config.py."""

from ganshrink.methods.ugc.config import UgcConfig
from ganshrink.methods.ugc.ugc import ugc

__all__ = ["UgcConfig", "ugc"]
