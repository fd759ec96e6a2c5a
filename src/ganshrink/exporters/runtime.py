"""Runtimes behind one door: found late, opened the same way for parity checks and for measurements."""

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganshrink.system.spelling import one_line

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra `onnx`
EXTRAS = {  # the modules of each extra that exporters need, as in pyproject.toml
    "onnx": PACKAGES,
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
    "executorch": ("executorch",),
    "coreml": ("coremltools",),
}
CALLED = {
    "onnx": "ONNX",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "executorch": "ExecuTorch",
    "coreml": "Core ML",
}
DTYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
}


def load_optional(*modules: str, extra: str = "onnx") -> ModuleType:
    """Import packages of an extra, return the last.

    Raises:
        ValueError: when one does not import, for whatever reason, with the extra to install.
    """
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # half-installed or mismatched packages raise far more than ImportError
            raise ValueError(
                f'{CALLED[extra]} needs {name} ({one_line(error)}): pip install "ganshrink[{extra}]"'
            ) from error
    return module


def load_extra(extra: str) -> None:
    """Import what an extra of `EXTRAS` installs; nothing for the empty one.

    Raises:
        ValueError: as `load_optional`.
    """
    if extra:
        load_optional(*EXTRAS[extra], extra=extra)


def open_session(path: str | Path, *, threads: int | None = None, cuda: bool = False) -> Any:
    """An `onnxruntime.InferenceSession` over one file, as `session_of`."""
    return session_of(str(path), threads=threads, cuda=cuda)


def session_of(model: str | bytes, *, threads: int | None = None, cuda: bool = False) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        model: the path of an ONNX file, or what would be in it.
        threads: threads inside an operator; None leaves the choice to ONNX Runtime.
        cuda: use a CUDA device where this ONNX Runtime has one.
    """
    runtime = load_optional("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    # Idle worker threads spin for a while after a run; beside another backend they would take its cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    wanted = ["CUDAExecutionProvider"] if cuda else []
    there = runtime.get_available_providers()
    providers = [name for name in wanted if name in there] + ["CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own classes have no common one
        raise ValueError(f"ONNX Runtime does not take the file: {one_line(error)}") from error


def run_session(session: Any, batch: Sequence[Tensor]) -> Tensor:
    """The first output of an `onnxruntime.InferenceSession` on the CPU for a batch's inputs in order.

    Raises:
        ValueError: where ONNX Runtime cannot run it.
    """
    feed = {given.name: tensor.numpy() for given, tensor in zip(session.get_inputs(), batch, strict=True)}
    try:
        return torch.from_numpy(session.run(None, feed)[0])
    except Exception as error:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in batch)
        raise ValueError(
            f"ONNX Runtime cannot run the file on inputs of shape {shapes}: {one_line(error)}"
        ) from error


def has_openvino() -> bool:
    """Whether the extra `openvino` is installed and imports."""
    try:
        load_optional("openvino", extra="openvino")
    except ValueError:
        return False
    return True


def open_openvino(path: str | Path, *, threads: int | None = None) -> Any:
    """An OpenVINO inference request on the CPU over one ONNX file, as `openvino_request`."""
    return openvino_request(str(path), threads=threads)


def openvino_request(model: str | bytes, *, threads: int | None = None) -> Any:
    """An OpenVINO inference request on the CPU for an ONNX model, given by its path or as what would be in the file.

    What is not in integers is computed in float32: left to itself, OpenVINO takes bfloat16 where the processor has it.

    Raises:
        ValueError: the model has an operator that OpenVINO lacks, or OpenVINO is not installed.
    """
    runtime = load_optional("openvino", extra="openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    core = runtime.Core()
    try:
        read = core.read_model(model) if isinstance(model, str) else core.read_model(io.BytesIO(model))
        return core.compile_model(read, "CPU", options).create_infer_request()
    except Exception as error:
        raise ValueError(f"OpenVINO does not take the file: {one_line(error)}") from error


def infer_openvino(request: Any, batch: Sequence[Tensor]) -> Tensor:
    """The first output of an OpenVINO request for a batch's inputs in order.

    Raises:
        ValueError: where OpenVINO cannot run it.
    """
    try:
        [image, *_] = request.infer({place: tensor.numpy() for place, tensor in enumerate(batch)}).values()
    except Exception as error:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in batch)
        raise ValueError(
            f"OpenVINO cannot run the file on inputs of shape {shapes}: {one_line(error)}"
        ) from error
    return torch.from_numpy(np.array(image))


def runtime_version(name: str) -> str:
    """The installed version of a runtime that has a `__version__`, such as `onnxruntime`, `openvino` or `torch`.

    Raises:
        ValueError: if it does not import, with the extra to install.
    """
    module = load_optional(name, extra="openvino" if name == "openvino" else "onnx")
    return str(module.__version__)


def input_dtypes(session: Any) -> dict[str, np.dtype[Any]]:
    """The numpy types of the session's inputs by name, in order."""
    dtypes = {}
    for given in session.get_inputs():
        if given.type not in DTYPES:
            raise ValueError(f"the ONNX file takes {given.type}; known are {', '.join(DTYPES)}")
        dtypes[given.name] = np.dtype(DTYPES[given.type])
    return dtypes
