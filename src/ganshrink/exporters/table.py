"""Exporters by name: what writes a student as a file for another runtime."""

from collections.abc import Mapping

from ganshrink.exporters.coreml import COREML
from ganshrink.exporters.executorch import EXECUTORCH
from ganshrink.exporters.exporter import Exporter
from ganshrink.exporters.half import ONNX_FP16
from ganshrink.exporters.ncnn import NCNN
from ganshrink.exporters.onnx import ONNX
from ganshrink.exporters.openvino import OPENVINO
from ganshrink.system.own import chosen

EXPORTERS: Mapping[str, Exporter] = {
    "onnx": ONNX,
    "onnx-fp16": ONNX_FP16,
    "openvino": OPENVINO,
    "ncnn": NCNN,
    "executorch": EXECUTORCH,
    "coreml": COREML,
}


def exporter(name: str) -> Exporter:
    """The exporter of a name: one of `EXPORTERS`, one that an installed package registers, or MODULE:NAME.

    Raises:
        ValueError: for an unknown name, and for what is no `Exporter`.
    """
    found = chosen("exporters", name, EXPORTERS)
    if not isinstance(found, Exporter):
        raise ValueError(f"{name} must be a ganshrink.exporters.Exporter, not {type(found).__name__}")
    return found
