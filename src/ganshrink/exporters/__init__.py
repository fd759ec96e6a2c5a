"""Files for other runtimes, each checked against the network it came from before it is called done."""

from ganshrink.exporters.onnx import export_onnx
from ganshrink.exporters.parity import check_parity
from ganshrink.exporters.runtime import open_session

__all__ = ["check_parity", "export_onnx", "open_session"]
