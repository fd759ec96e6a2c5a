"""Milliseconds of single layers at several widths, in the runtime that ships.

A layer alone takes longer than among others, where a runtime keeps its own memory layout from one to the next. These
times compare layers and widths; what whole networks take, `profiles.py` fits to whole networks.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ganshrink.exporters.runtime import load_optional, openvino_request, session_of
from ganshrink.latency.backends import Device, Run, torch_run
from ganshrink.latency.layers import Layer, Shape

RUNS, SECONDS = 5, 0.1  # of one layer at one width: at most so many, and after two of them at most so long
OPSET = 18


def grid(full: int, step: int, *, fixed: bool, groups: int = 1) -> list[int]:
    """The widths at which a layer of `full` channels on one side is timed: about eighths, quarters and halves of it, in
    multiples of `step`; and the step's own half and quarter, and 1. All are multiples of `groups`.
    """
    if fixed:
        return [full]
    shares = (full * share for share in (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4))
    rounded = {max(step, round(share / step) * step) for share in shares}
    below = {max(1, step // 4), max(1, step // 2), 1}
    return sorted({min(full, -(-width // groups) * groups) for width in (*below, step, *rounded, full)})


def time_grid(
    layer: Layer, inside: Sequence[int], outside: Sequence[int], device: Device
) -> NDArray[np.float64]:
    """(inside, outside) milliseconds of a layer at every pair of widths; of a depthwise one (inside, 1)."""
    if layer.shape.depthwise:
        wide = layer.outside // layer.inside
        return np.array([[time_layer(layer.shape, width, width * wide, device)] for width in inside])
    return np.array([[time_layer(layer.shape, a, b, device) for b in outside] for a in inside])


def time_layer(shape: Shape, inside: int, outside: int, device: Device) -> float:
    """The shortest time of a few runs, in milliseconds: what the layer takes when nothing else runs."""
    run = _run(shape, inside, outside, device)
    run()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < RUNS and (len(times) < 2 or time.perf_counter() - start < SECONDS):
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1000)
    return min(times)


def _run(shape: Shape, inside: int, outside: int, device: Device) -> Run:
    size = (shape.size[0], inside) if shape.kind == "linear" else (1, inside, *shape.size)
    if device.runtime == "torch":
        example = torch.rand(size, device=device.kind)
        return torch_run(_module(shape, inside, outside), example)
    model = _onnx(shape, inside, outside, size)
    feed = np.random.default_rng(0).random(size, np.float32)
    if device.runtime == "openvino":
        request = openvino_request(model, threads=device.threads)
        return lambda: request.infer({0: feed}, share_inputs=True)
    session = session_of(model, threads=device.threads, cuda=device.kind == "cuda")
    return lambda: session.run(None, {"x": feed})


def _module(shape: Shape, inside: int, outside: int) -> nn.Module:
    if shape.kind == "linear":
        return nn.Linear(inside, outside)
    transposed = shape.kind == "conv_transpose"
    name = f"Conv{'Transpose' * transposed}{len(shape.size)}d"
    options: dict[str, Any] = {"kernel_size": shape.kernel, "stride": shape.stride, "padding": shape.padding}
    options |= {"dilation": shape.dilation, "groups": inside if shape.depthwise else shape.groups}
    if transposed:
        options["output_padding"] = shape.output_padding
    module: nn.Module = getattr(nn, name)(inside, outside, **options)
    return module


def _onnx(shape: Shape, inside: int, outside: int, size: tuple[int, ...]) -> bytes:
    """One layer as an ONNX model, without the detour of an export: `x` in, `y` out."""
    onnx = load_optional("onnx")
    helper, kinds = onnx.helper, {"conv": "Conv", "conv_transpose": "ConvTranspose", "linear": "Gemm"}
    groups = inside if shape.depthwise else shape.groups
    attributes: dict[str, object] = {}
    if shape.kind == "linear":
        weight: tuple[int, ...] = (inside, outside)
    else:
        transposed = shape.kind == "conv_transpose"
        first = (inside, outside // groups) if transposed else (outside, inside // groups)
        weight = (*first, *shape.kernel)
        attributes = {"kernel_shape": shape.kernel, "strides": shape.stride, "dilations": shape.dilation}
        attributes |= {"pads": (*shape.padding, *shape.padding), "group": groups}
        if transposed:
            attributes["output_padding"] = shape.output_padding
    numbers = np.random.default_rng(0)
    tensors = {"w": numbers.random(weight, np.float32) - 0.5, "b": numbers.random(outside, np.float32)}
    graph = helper.make_graph(
        [helper.make_node(kinds[shape.kind], ["x", "w", "b"], ["y"], **attributes)],
        "layer",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())
