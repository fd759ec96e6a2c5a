"""ONNX in float16: half the size, for devices that compute in it. Norms and sums, where it overflows, stay in float32."""

import importlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink.exporters.case import Case
from ganshrink.exporters.exporter import Exporter
from ganshrink.exporters.graph import prepare, silence
from ganshrink.exporters.note import note_of
from ganshrink.exporters.onnx import export_onnx, open_run
from ganshrink.exporters.runtime import load_optional
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.atomic import replacing
from ganshrink.system.spelling import one_line

SINGLE = (  # what sums many numbers or divides by small ones
    "InstanceNormalization",
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL1",
    "ReduceL2",
    "GlobalAveragePool",
    "Softmax",
    "Pow",
    "Sqrt",
    "Reciprocal",
    "Div",
    "Exp",
    "Range",
    "Resize",
)


def export_half(
    model: nn.Module, example: Tensor | Sequence[Tensor], path: Path | str, **options: Any
) -> dict[str, Any]:
    """Write `path`, an ONNX file that computes in float16 and takes and gives what the float32 one does.

    Args:
        options: of `export_onnx`.

    Returns:
        the file's entry in parity.json, as that of `export_onnx`; `kept`: operators that stay in float32.

    Raises:
        ValueError: the network does not export, or float16 is too coarse for it: no new file is left.
    """
    path = Path(path)
    onnx = load_optional("onnxruntime", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        entry = export_onnx(model, example, Path(folder) / "single.onnx", **options)
        loaded = onnx.load(str(Path(folder) / "single.onnx"))
    sizes = Sizes(entry["size_multiple"], entry["size_least"]) if entry["dynamic_size"] else None
    image_io, inputs = entry["image_io"], options.get("inputs", ())
    graph, encode, given = prepare(model, example, image_io, sizes is not None)
    note = note_of(model, given, image_io, sizes, options.get("spec"), options.get("provenance"))
    case = Case(graph, encode, given, inputs, image_io, sizes, entry["dynamic_batch"], note)
    try:
        with silence():
            module = importlib.import_module("onnxruntime.transformers.float16")
            blocked = [*module.DEFAULT_OP_BLOCK_LIST, *SINGLE]
            halved = _tidied(
                module.convert_float_to_float16(loaded, keep_io_types=True, op_block_list=blocked)
            )
    except Exception as error:  # whatever the converter raises
        raise ValueError(f"the network does not convert to float16: {one_line(error)}") from error
    kept = Counter(node.op_type for node in halved.graph.node if node.op_type in SINGLE)
    with replacing(path) as part:
        onnx.save(halved, str(part))
        found = case.entry(open_run(part), "float16 ONNX", half=True)
        size = part.stat().st_size
    return found | {"opset": entry["opset"], "bytes": size, "precision": "float16", "kept": dict(kept)}


def _tidied(model: Any) -> Any:
    """The converter casts a tensor once for each reader, under one name, and puts all casts at the end."""
    graph = model.graph
    first = {node.output[0]: node for node in reversed(graph.node)}
    nodes = [node for node in graph.node if first[node.output[0]] is node]
    values = {value.name: value for value in graph.value_info}
    for field, unique in ((graph.node, nodes), (graph.value_info, list(values.values()))):
        del field[:]
        field.extend(unique)
    ir = importlib.import_module("onnx_ir")
    sorted_ = ir.from_proto(model)
    sorted_.graph.sort()
    return ir.to_proto(sorted_)


ONNX_FP16 = Exporter(
    "student-fp16.onnx",
    export_half,
    "one ONNX file in float16, norms in float32; compared with torch in ONNX Runtime",
    extra="onnx",
    runtime="onnxruntime",
    open=open_run,
)
