"""Files for other runtimes, each checked against the network it came from before it is called done."""

from ganshrink.exporters.int8 import export_int8
from ganshrink.exporters.onnx import export_onnx
from ganshrink.exporters.parity import check_parity
from ganshrink.exporters.runtime import open_session

__all__ = ["check_parity", "export_int8", "export_onnx", "open_session"]
