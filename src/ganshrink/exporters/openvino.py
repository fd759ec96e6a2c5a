"""OpenVINO's own files: the network and its weights, made of the ONNX file, which is compared first."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink.exporters.case import Case
from ganshrink.exporters.exporter import Exporter, Runner
from ganshrink.exporters.graph import prepare
from ganshrink.exporters.note import KEY, note_of
from ganshrink.exporters.onnx import export_onnx
from ganshrink.exporters.runtime import infer_openvino, load_optional, open_openvino
from ganshrink.exporters.sidecar import place
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.spelling import one_line


def export_openvino(
    model: nn.Module, example: Tensor | Sequence[Tensor], path: Path | str, **options: Any
) -> dict[str, Any]:
    """Write `path` (.xml) and its weights (.bin) in float32; its `rt_info` says what it takes.

    Args:
        options: of `export_onnx`.

    Returns:
        the file's entry in parity.json, as that of `export_onnx`, from OpenVINO.

    Raises:
        ValueError: the network does not export, or OpenVINO computes something else: no new file is left.
    """
    path = Path(path)
    openvino = load_optional("openvino", extra="openvino")
    with tempfile.TemporaryDirectory() as folder:
        entry = export_onnx(model, example, Path(folder) / "student.onnx", **options)
        sizes = Sizes(entry["size_multiple"], entry["size_least"]) if entry["dynamic_size"] else None
        image_io, inputs = entry["image_io"], options.get("inputs", ())
        graph, encode, given = prepare(model, example, image_io, sizes is not None)
        note = note_of(model, given, image_io, sizes, options.get("spec"), options.get("provenance"))
        case = Case(graph, encode, given, inputs, image_io, sizes, entry["dynamic_batch"], note)
        written = Path(folder) / path.name
        try:
            read = openvino.Core().read_model(str(Path(folder) / "student.onnx"))
            read.set_rt_info(note.model_dump_json(), [KEY])
            openvino.save_model(read, str(written), compress_to_fp16=False)
        except Exception as error:
            raise ValueError(f"OpenVINO does not convert the network: {one_line(error)}") from error
        found = case.entry(open_run(written), "OpenVINO")
        size = place(written, path) + place(written.with_suffix(".bin"), path.with_suffix(".bin"))
    return found | {"opset": entry["opset"], "bytes": size}


def open_run(path: Path, threads: int | None = None) -> Runner:
    """OpenVINO's files in OpenVINO."""
    return partial(infer_openvino, open_openvino(path, threads=threads))


PYTHON = """\
import openvino

exact = {{"INFERENCE_PRECISION_HINT": "f32"}}  # as it was compared; else bfloat16, faster and coarser, where there is that
model = openvino.Core().compile_model("{file}", "CPU", exact)
image = model(batch)[0]
"""

OPENVINO = Exporter(
    "student.xml",
    export_openvino,
    "OpenVINO's own two files in float32, compared with torch in OpenVINO",
    beside=("student.bin",),
    extra="openvino",
    runtime="openvino",
    open=open_run,
    python=PYTHON,
)
