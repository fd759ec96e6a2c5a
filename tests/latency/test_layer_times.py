"""Single layers in the runtimes that ship: the layer that is timed is the layer of the network."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from ganshrink.exporters.runtime import has_openvino, openvino_request, session_of
from ganshrink.latency.backends import Device
from ganshrink.latency.layer_times import _module, _onnx, grid, time_grid, time_layer
from ganshrink.latency.layers import Layer, layers_of
from telling import rest_exhaustive

RUNTIMES = ["onnxruntime", "openvino"] if has_openvino() else ["onnxruntime"]

LAYERS = {
    "conv": (nn.Conv2d(6, 8, 3, padding=1), (1, 6, 9, 12)),
    "strided, not square": (nn.Conv2d(6, 8, (5, 3), stride=(2, 1), padding=(2, 0)), (1, 6, 9, 12)),
    "dilated": (nn.Conv2d(6, 8, 3, dilation=2, padding=2), (1, 6, 9, 12)),
    "grouped": (nn.Conv2d(6, 9, 3, groups=3), (1, 6, 9, 12)),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 9, 12)),
    "depthwise with a multiplier": (nn.Conv2d(6, 18, 3, padding=1, groups=6), (1, 6, 9, 12)),
    "transposed": (nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), (1, 6, 5, 7)),
    "transposed with output padding": (
        nn.ConvTranspose2d(6, 8, 3, stride=(2, 3), padding=1, output_padding=(1, 2)), (1, 6, 5, 7),
    ),
    "transposed in groups": (nn.ConvTranspose2d(6, 9, 3, stride=2, groups=3), (1, 6, 5, 7)),
    "transposed depthwise": (nn.ConvTranspose2d(6, 12, 3, stride=2, groups=6), (1, 6, 5, 7)),
    "one axis": (nn.Conv1d(6, 8, 3), (1, 6, 11)),
    "three axes": (nn.Conv3d(6, 8, 3, padding=1), (1, 6, 4, 5, 6)),
    "linear": (nn.Linear(6, 8), (35, 6)),
}  # fmt: skip


def weights_of(model: bytes) -> dict[str, np.ndarray]:
    onnx = pytest.importorskip("onnx")
    tensors = onnx.load(io.BytesIO(model)).graph.initializer
    return {tensor.name: onnx.numpy_helper.to_array(tensor).copy() for tensor in tensors}


def answer(model: bytes, runtime: str, given: np.ndarray) -> np.ndarray:
    if runtime == "openvino":
        return next(iter(openvino_request(model, threads=1).infer({0: given}).values()))
    return session_of(model, threads=1).run(None, {"x": given})[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", rest_exhaustive(LAYERS, list(LAYERS)[::2].__contains__))
def test_the_onnx_layer_computes_what_torch_does(name: str, runtime: str) -> None:
    network, size = LAYERS[name]
    given = np.random.default_rng(1).random(size, np.float32)
    layer = layers_of(network, [torch.from_numpy(given)])[0]
    model = _onnx(layer.shape, layer.inside, layer.outside, size)
    weights = weights_of(model)
    w = torch.from_numpy(weights["w"])
    module = _module(layer.shape, layer.inside, layer.outside)
    with torch.no_grad():
        module.weight.copy_(w.t() if layer.shape.kind == "linear" else w)
        module.bias.copy_(torch.from_numpy(weights["b"]))
        expected = module(torch.from_numpy(given)).numpy()
    assert repr(module) == repr(network)
    found = answer(model, runtime, given)
    assert found.shape[2 if len(size) > 2 else 0 :][: len(layer.shape.made)] == layer.shape.made
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("runtime", ["torch", *RUNTIMES])
@pytest.mark.parametrize("name", rest_exhaustive(LAYERS, list(LAYERS)[::3].__contains__))
def test_narrower_layers_run_too(name: str, runtime: str) -> None:
    network, size = LAYERS[name]
    layer = layers_of(network, [torch.zeros(size)])[0]
    wide = layer.outside // layer.inside
    inside = 3
    outside = inside * wide if layer.shape.depthwise else 3
    assert time_layer(layer.shape, inside, outside, Device(runtime, 1)) > 0


def test_the_grid_is_of_multiples_and_the_whole() -> None:
    assert grid(256, 16, fixed=False) == [1, 4, 8, 16, 32, 64, 96, 128, 192, 256]
    assert grid(64, 1, fixed=False) == [1, 8, 16, 24, 32, 48, 64]
    assert grid(42, 8, fixed=False) == [1, 2, 4, 8, 16, 24, 32, 42]
    assert grid(12, 16, fixed=False) == [1, 4, 8, 12]  # narrower than a step
    assert grid(3, 1, fixed=False) == [1, 2, 3]
    assert grid(256, 16, fixed=True) == [256]


@pytest.mark.parametrize("full", [1, 2, 5, 17, 33, 100, 1000])
@pytest.mark.parametrize("step", [1, 2, 4, 8, 16, 32])
def test_grids_rise_to_the_full_width(full: int, step: int) -> None:
    found = grid(full, step, fixed=False)
    assert found == sorted(set(found)) and found[0] == 1 and found[-1] == full
    assert all(width % step == 0 for width in found[:-1] if width > step)
    assert {width for width in found[:-1] if width < step} <= {1, step // 2, step // 4}


@pytest.mark.parametrize("step", [1, 4, 16])
def test_grids_of_grouped_layers_are_multiples_of_the_groups(step: int) -> None:
    found = grid(48, step, fixed=False, groups=6)
    assert found[0] == 6 and found[-1] == 48 and not any(width % 6 for width in found)


def test_a_grid_is_timed_pair_by_pair() -> None:
    conv = layers_of(nn.Conv2d(6, 8, 3), [torch.zeros(1, 6, 5, 5)])[0]
    device = Device("torch", 1)
    assert time_grid(conv, [2, 6], [1, 4, 8], device).shape == (2, 3)
    depthwise: Layer = layers_of(nn.Conv2d(6, 12, 3, groups=6), [torch.zeros(1, 6, 5, 5)])[0]
    assert time_grid(depthwise, [2, 4, 6], [12], device).shape == (3, 1)
