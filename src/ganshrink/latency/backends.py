"""One network in one runtime as a function that runs it once and returns when the answer is there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ganshrink.exporters import export_onnx
from ganshrink.exporters.picture import to_picture
from ganshrink.exporters.runtime import input_dtypes, open_openvino, open_session
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import Input, as_tuple

Run = Callable[[], object]
Place = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Device:
    """Where and by what networks are run.

    Attributes:
        runtime: `onnxruntime`, `openvino` or `torch`.
        threads: inside an operator.
        kind: `cpu` or `cuda`.
    """

    runtime: str
    threads: int
    kind: Place = "cpu"


def network_run(network: nn.Module, example: Input, device: Device, file: Path) -> Run:
    """A network on a device, exported to `file` where the runtime takes files."""
    given = tuple(tensor.to(device.kind) for tensor in as_tuple(example))
    if device.runtime == "torch":
        return torch_run(network, given)
    export_onnx(network, as_tuple(example), file)
    if device.runtime == "openvino":
        return openvino_run(file, given, threads=device.threads)
    return onnxruntime_run(file, given, threads=device.threads)[0]


def torch_run(network: nn.Module, example: Input) -> Run:
    """A copy of the network in evaluation mode on the example's device, eager, in inference mode."""
    inputs = as_tuple(example)
    device = inputs[0].device
    net = in_evaluation(copied(network)).to(device)
    net.requires_grad_(False)

    def run() -> None:
        with torch.inference_mode():
            net(*inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def onnxruntime_run(path: Path, example: Input, *, threads: int) -> tuple[Run, str]:
    """A session over an ONNX file, and the device it runs on (`cuda` or `cpu`).

    Inputs are converted to what the file takes beforehand; with CUDA the copies to and from the device are
    part of the time.
    """
    inputs = as_tuple(example)
    session = open_session(path, threads=threads, cuda=inputs[0].is_cuda)
    feed = {}
    for (name, dtype), tensor in zip(input_dtypes(session).items(), inputs, strict=True):
        picture = to_picture(tensor, torch.uint8) if dtype == "uint8" else tensor
        feed[name] = picture.cpu().numpy().astype(dtype)
    device = "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"
    return lambda: session.run(None, feed), device


def openvino_run(path: Path, example: Input, *, threads: int) -> Run:
    """OpenVINO on the CPU over an ONNX file; inputs are converted to what the file takes beforehand."""
    request = open_openvino(path, threads=threads)
    feed = {}
    for place, (given, tensor) in enumerate(zip(request.model_inputs, as_tuple(example), strict=True)):
        dtype = given.get_element_type().to_dtype()
        picture = to_picture(tensor, torch.uint8) if dtype == "uint8" else tensor
        feed[place] = picture.cpu().numpy().astype(dtype)
    return lambda: request.infer(feed, share_inputs=True)
