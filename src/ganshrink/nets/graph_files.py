"""Files that hold a network's graph beside its weights, ncnn's and ONNX: their weights in order, and what they compute."""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
GRAPHS = (".param", ".onnx")
HALF, FLOAT = 0x01306B47, 0  # how ncnn marks the weights of a layer
RESIZING = {1: "nearest", 2: "bilinear", 3: "bicubic"}
BINARY: list[Callable[[Any, Any], Any]] = [torch.add, torch.sub, torch.mul, torch.div]


@dataclass(frozen=True)
class GraphFile:
    """A network as its file has it.

    Attributes:
        state: the weights, named by layer, in the order of the graph.
        run: what the file makes of one image (1, C, H, W), float32.
        image: the shape (1, C, H, W) of an image that it takes.
        after: what `run` leaves out, in words: a resizing of the finished picture; else "".
    """

    state: State
    run: Callable[[Tensor], Tensor]
    image: tuple[int, ...]
    after: str = ""


def read_graph(path: Path, setting: str = "weights") -> GraphFile:
    """Read a file that ends in one of `GRAPHS`; beside a `.param` lies the `.bin` of the same name.

    Raises:
        FileNotFoundError: if there is no such file, or no `.bin`.
        ValueError: if it is damaged, or has layers that cannot be read here, with their names.
    """
    read = _ncnn if path.suffix == ".param" else _onnx
    files = [path, path.with_suffix(".bin")] if path.suffix == ".param" else [path]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{setting}: there is no file {file}")
    try:
        graph = read(path)
    except ValueError as error:
        raise ValueError(f"{setting}: {path}: {error}") from error

    def run(x: Tensor) -> Tensor:
        try:
            return graph.run(x)
        except Exception as error:  # a damaged graph makes torch and ONNX Runtime raise anything
            reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
            raise ValueError(
                f"{setting}: {path}: its graph does not run on {tuple(x.shape)} ({reason})"
            ) from error

    return replace(graph, run=run)


@dataclass(frozen=True)
class _Layer:
    """A line of a `.param`."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[int, Any]

    def number(self, key: int, default: Any = 0) -> Any:
        return self.settings.get(key, default)


def _ncnn(path: Path) -> GraphFile:
    magic, _, *lines = [*path.read_text(errors="replace").splitlines(), "", ""]
    if magic.strip() != "7767517":
        raise ValueError("it is not ncnn's text form, which begins with 7767517")
    layers = [_layer(line) for line in lines if line.strip()]
    if not any(layer.kind == "Convolution" for layer in layers):
        raise ValueError("it holds no convolution")
    unknown = sorted({layer.kind for layer in layers} - NCNN.keys())
    if unknown:
        raise ValueError(f"the layers {', '.join(unknown)} are not read here, only {', '.join(sorted(NCNN))}")
    data = _Binary(path.with_suffix(".bin").read_bytes())
    state = {f"{layer.name}.{leaf}": tensor for layer in layers for leaf, tensor in data.weights(layer)}
    if data.at != len(data.content):
        raise ValueError(f"its .bin has {len(data.content)} bytes, its layers take {data.at}")
    after = ""
    if layers[-1].kind == "Interp":
        *layers, last = layers
        after = (
            f"the file then resizes its picture by {float(last.number(1, 1)):g} ({RESIZING[last.number(0)]})"
        )
    first = next(layer for layer in layers if layer.kind == "Convolution")
    channels = first.number(6) // (first.number(0) * first.number(1) * first.number(11, first.number(1)))
    return GraphFile(state, lambda x: _run(layers, state, x), (1, channels, 32, 48), after)


def _layer(line: str) -> _Layer:
    try:
        return _parsed(line)
    except (ValueError, IndexError):
        raise ValueError(f"the line {line[:80]!r} is no layer of ncnn") from None


def _parsed(line: str) -> _Layer:
    kind, name, inputs, outputs, *words = line.split()
    blobs = words[: int(inputs) + int(outputs)]
    settings: dict[int, Any] = {}
    for key, _, value in (word.partition("=") for word in words[len(blobs) :]):
        numbers = [float(part) if re.search(r"[.e]", part) else int(part) for part in value.split(",")]
        settings[int(key)] = numbers[0] if int(key) >= 0 else numbers[1:]  # a list begins with its length
    return _Layer(kind, name, blobs[: int(inputs)], blobs[int(inputs) :], settings)


class _Binary:
    """A `.bin`, read from its begin to its end."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def weights(self, layer: _Layer) -> Iterator[tuple[str, Tensor]]:
        """The next tensors, which are a layer's."""
        outside = int(layer.number(0))
        if layer.kind == "PReLU":
            yield "weight", self._floats(outside, layer)
        elif layer.kind == "Convolution":
            [mark] = struct.unpack_from("<I", self.content[self.at :].ljust(4, b"\xff"))
            if mark not in (HALF, FLOAT):
                raise ValueError(f"the weights of {layer.name} are quantized: give the file in float")
            self.at += 4
            weight = self._floats(layer.number(6), layer, np.float16 if mark == HALF else np.float32)
            yield "weight", weight.reshape(outside, -1, layer.number(11, layer.number(1)), layer.number(1))
            if layer.number(5):
                yield "bias", self._floats(outside, layer)

    def _floats(self, count: int, layer: _Layer, kind: type = np.float32) -> Tensor:
        size = count * np.dtype(kind).itemsize
        if self.at + size > len(self.content):
            raise ValueError(f"its .bin ends within the weights of {layer.name}")
        numbers = np.frombuffer(self.content, kind, count, self.at).astype(np.float32)
        self.at += -(-size // 4) * 4  # halves are filled up to whole words
        return torch.from_numpy(numbers)


def _run(layers: list[_Layer], state: State, x: Tensor) -> Tensor:
    blobs: dict[str, Tensor] = {}
    result = x
    for layer in layers:
        given = [blobs[name] for name in layer.inputs] or [x]
        result = NCNN[layer.kind](layer, state, *given)
        blobs |= dict.fromkeys(layer.outputs, result)
    return result


def _convolution(layer: _Layer, state: State, x: Tensor) -> Tensor:
    left = layer.number(4)
    edges = [left, layer.number(15, left), layer.number(14, left), layer.number(16, layer.number(14, left))]
    if min(edges) < 0:
        raise ValueError(f"{layer.name} pads as its size needs, which is not read here")
    bias = state.get(f"{layer.name}.bias")
    y = F.conv2d(
        F.pad(x, edges), state[f"{layer.name}.weight"], bias, layer.number(3, 1), 0, layer.number(2, 1)
    )
    activation = layer.number(9)
    if activation not in (0, 1, 2):
        raise ValueError(f"{layer.name} ends in an activation that is not read here, of kind {activation}")
    slope = layer.number(-23310, [0.0])[0] if activation == 2 else 0.0
    return F.leaky_relu(y, slope) if activation else y


def _resized(layer: _Layer, state: State, x: Tensor) -> Tensor:
    mode = RESIZING[layer.number(0)]
    corners = {} if mode == "nearest" else {"align_corners": bool(layer.number(6))}
    return F.interpolate(
        x, scale_factor=(float(layer.number(1, 1)), float(layer.number(2, 1))), mode=mode, **corners
    )


def _binary(layer: _Layer, state: State, *given: Tensor) -> Tensor:
    if layer.number(0) >= len(BINARY):
        raise ValueError(f"{layer.name} is an operation of kind {layer.number(0)}, which is not read here")
    return BINARY[layer.number(0)](given[0], layer.number(2) if layer.number(1) else given[1])


def _summed(layer: _Layer, state: State, *given: Tensor) -> Tensor:
    if layer.number(0) != 1:
        raise ValueError(f"{layer.name} joins otherwise than by a sum, which is not read here")
    shares = layer.number(-23301, [1.0] * len(given))
    return sum((share * tensor for share, tensor in zip(shares, given, strict=True)), torch.zeros(()))


NCNN: dict[str, Callable[..., Tensor]] = {
    "Input": lambda layer, state, x: x,
    "Split": lambda layer, state, x: x,
    "Convolution": _convolution,
    "PReLU": lambda layer, state, x: F.prelu(x, state[f"{layer.name}.weight"]),
    "ReLU": lambda layer, state, x: F.leaky_relu(x, layer.number(0)),
    "PixelShuffle": lambda layer, state, x: F.pixel_shuffle(x, layer.number(0)),
    "Interp": _resized,
    "BinaryOp": _binary,
    "Eltwise": _summed,
    "Concat": lambda layer, state, *given: torch.cat(given, 1 + layer.number(0)),
}

# Operators with weights, and what their inputs are.
ONNX = {
    "Conv": ("weight", "bias"),
    "ConvTranspose": ("weight", "bias"),
    "InstanceNormalization": ("weight", "bias"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "PRelu": ("weight",),
}


def _onnx(path: Path) -> GraphFile:
    try:
        onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    except ImportError:
        raise ValueError("to read it takes onnx and onnxruntime: pip install 'ganshrink[onnx]'") from None
    try:
        model = onnx.load(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # both raise errors of their own
        raise ValueError(f"it is damaged or no ONNX file ({str(error).splitlines()[0]})") from None
    graph = model.graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            held[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    layers = [
        (node, [name for name in node.input[1:] if name]) for node in graph.node if node.op_type in ONNX
    ]
    for node, names in layers:
        if any(name not in held for name in names):
            raise ValueError(
                f"the weights of {node.name or node.op_type} are computed or quantized: give the file in float"
            )
    # Names tell layers apart unless equal tensors were written once.
    first = [names[0].rpartition(".")[0] for _, names in layers]
    paths = first if len({*first} - {""}) == len(layers) else [f"layer_{i}" for i in range(len(layers))]
    state: State = {}
    for layer, (node, names) in zip(paths, layers, strict=True):
        for leaf, name in zip(ONNX[node.op_type], names, strict=False):
            tensor = torch.from_numpy(held[name].astype(np.float32))
            state[f"{layer}.{leaf}"] = tensor.flatten() if node.op_type == "PRelu" else tensor
    [image] = [given for given in session.get_inputs() if given.name not in held] or [None]
    if image is None or image.type != "tensor(float)" or len(image.shape) != 4:
        raise ValueError("its input is not one image (B, C, H, W) in float32")
    shape = tuple(
        size if isinstance(size, int) else (1 if axis == 0 else 128) for axis, size in enumerate(image.shape)
    )
    return GraphFile(
        state, lambda x: torch.from_numpy(session.run(None, {image.name: x.numpy()})[0]), (1, *shape[1:])
    )
