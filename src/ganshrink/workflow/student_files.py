"""A student to run on pictures: in torch from its weights, or in another runtime from an exported file."""

from pathlib import Path
from typing import Literal

from torch import nn

from ganshrink.data import InputSpec
from ganshrink.data.pictures import printable
from ganshrink.exporters.network import OnnxGenerator
from ganshrink.exporters.note import read_note
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.values import converting
from ganshrink.workflow.saved_networks import Uncut, load_network, read_spec, student_file

Runtime = Literal["torch", "onnxruntime", "openvino"]
RUNTIMES = ("torch", "onnxruntime", "openvino")
ONNX = ".onnx"


def open_student(
    path: str | Path, original: Uncut = None, runtime: str | None = None
) -> tuple[nn.Module, InputSpec, Sizes]:
    """A student in [-1, 1] on both sides, what pictures it takes, and from which sizes on and in which steps.

    Args:
        path: the folder of a run, weights (.safetensors) or an exported file (.onnx).
        original: as for `load_network`; for weights alone.
        runtime: `torch`, `onnxruntime` or `openvino`; None: torch for weights, ONNX Runtime for an exported file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not say what it takes, takes several inputs, or does not run in that runtime.
    """
    path = Path(path)
    if runtime not in (None, *RUNTIMES):
        raise ValueError(f"--runtime {runtime}: write {', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]}")
    exported = path.suffix.lower() == ONNX
    if exported and runtime == "torch":
        raise ValueError(f"{printable(path)} runs in onnxruntime or openvino; torch runs student.safetensors")
    if exported or runtime not in (None, "torch"):
        return _exported(path if exported else _export_of(path), runtime or "onnxruntime")
    file = student_file(path)
    _one_input(file, len(read_spec(file).example))
    network, spec = load_network(file, original)
    if spec.input is None:
        raise ValueError(f"{printable(file)} does not say what pictures it takes")
    return network, spec.input, Sizes(1, 1)


def _export_of(path: Path) -> Path:
    """The exported file of a run."""
    if not path.is_dir():
        raise ValueError(
            f"{printable(path)} holds weights, which torch runs: for another runtime name an exported .onnx file, or "
            "the folder of a run that holds student.onnx"
        )
    file = student_file(path).with_suffix(ONNX)
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no student.onnx: write it with ganshrink export {path}")
    return file


def _exported(file: Path, runtime: str) -> tuple[nn.Module, InputSpec, Sizes]:
    note = read_note(file)
    network = OnnxGenerator(file, image_io=note.image_io, runtime=runtime)  # type: ignore[arg-type]
    _one_input(file, len(network.dtypes))
    if note.input is None:
        raise ValueError(f"{printable(file)} does not say what pictures it takes")
    return converting(network, note.values), note.input, note.sizes or Sizes(1, 1)


def _one_input(file: Path, inputs: int) -> None:
    if inputs > 1:
        raise ValueError(
            f"{printable(file)} takes {inputs} inputs, and a picture is one: load it in Python with "
            "ganshrink.load, and call it"
        )
