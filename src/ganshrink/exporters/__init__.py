"""Files for other runtimes, each checked against the network it came from before it is called done."""

from ganshrink.exporters.exporter import Exporter
from ganshrink.exporters.int8 import export_int8
from ganshrink.exporters.onnx import export_onnx
from ganshrink.exporters.parity import check_parity
from ganshrink.exporters.runtime import open_session
from ganshrink.exporters.table import EXPORTERS, exporter

__all__ = [
    "EXPORTERS",
    "Exporter",
    "check_parity",
    "export_int8",
    "export_onnx",
    "exporter",
    "open_session",
]
