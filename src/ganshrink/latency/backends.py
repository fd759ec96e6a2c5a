"""One network in one runtime as a function that runs it once and returns when the answer is there."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import to_picture
from ganshrink.exporters.runtime import input_dtype, open_session

Run = Callable[[], object]


def torch_run(network: nn.Module, example: Tensor) -> Run:
    """A copy of the network in evaluation mode on the example's device, eager, in inference mode."""
    net = copy.deepcopy(network).to(example.device).eval().requires_grad_(False)

    def run() -> None:
        with torch.inference_mode():
            net(example)
        if example.is_cuda:
            torch.cuda.synchronize(example.device)

    return run


def onnxruntime_run(path: Path, example: Tensor, *, threads: int) -> tuple[Run, str]:
    """A session over an ONNX file, and the device it runs on (`cuda` or `cpu`).

    The input is converted to what the file takes beforehand; with CUDA the copies to and from the device are
    part of the time.
    """
    session = open_session(path, threads=threads, cuda=example.is_cuda)
    dtype = input_dtype(session)
    picture = to_picture(example, torch.uint8) if dtype == "uint8" else example
    feed = {session.get_inputs()[0].name: picture.cpu().numpy().astype(dtype)}
    device = "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"
    return lambda: session.run(None, feed), device
