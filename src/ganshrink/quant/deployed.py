"""A quantized network as it ships: integers for weights and biases, and the grids between the layers.

It computes in torch what the exported file means, and is what the file is compared with.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, pad

from ganshrink.exporters.integers import dequantize, quantize
from ganshrink.exporters.parity import psnr_of_mse
from ganshrink.quant.config import QuantConfig
from ganshrink.quant.grid import Grid, Grids, LayerGrids
from ganshrink.quant.layers import Conv, device_of, evaluating
from ganshrink.quant.quantizers import Quantizers
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import Input, as_tuple, generate

INT32 = 2**31 - 1
MAX_LOSS_DB = 12.0  # what bytes may cost beside the rounding of training, unless the images are fine even so
FINE_DB = 40.0
NOTES = {  # how runtimes take each kind of layer
    "stem": "reads the network's input: computed in float, its weight stored as int8",
    "coarse": "its input has outliers and would be rounded badly: computed in float, its weight stored as int8",
    "transposed": "ONNX Runtime has no integer ConvTranspose on the CPU: computed in float there",
    "integer": "",
}


def deploy(
    model: nn.Module, config: QuantConfig, grids: Grids, batches: Iterable[Input]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with its convolutions in integers, and what that does to it.

    The paper's grids have a level more than a byte: the scale stays, the last level is dropped.

    Args:
        model: the bare network, trained under `Quantizers` or not at all; left as it is.
        grids: from `calibrate`.
        batches: inputs (B, C, H, W), or tuples of several, to compare on.

    Returns:
        the deployed network, on the CPU, in eval mode; and a report: `layers` (a dictionary each, in the order in which
        they run), `float` (convolutions that are not quantized, with the reason), `images`, and `psnr_db` (peak 255):
        `quantized` of the fake-quantized network against the float one, `bytes` of the deployed one without the grids of
        its outputs against the fake-quantized one (what the dropped levels cost), `outputs` with those grids, and
        `deployed` of the deployed one against the float one.

    Raises:
        ValueError: if the deployed network does not run, or is much further from the float one than rounding explains.
    """
    runs = [as_tuple(batch) for batch in batches]
    deployed = copied(model)
    device, made = device_of(model), {}
    with Quantizers(model, config, runs[0], grids=grids) as quantizers, evaluating(model):
        layers = quantizers.layers
        for path, conv in layers.quantized.items():
            kind = DeployedConvTranspose2d if isinstance(conv, nn.ConvTranspose2d) else DeployedConv2d
            made[conv] = kind(conv, quantizers.weight_grid(path, conv.weight), grids[path])
        trained = _images(model, runs, device)
    with evaluating(model):
        whole = _images(model, runs, device)
    for path, conv in model.named_modules(remove_duplicate=False):
        if conv in made:
            deployed.set_submodule(path, made[conv])
    in_evaluation(deployed).cpu().float().requires_grad_(False)
    by_path = {path: made[conv] for path, conv in layers.quantized.items()}
    try:
        rounded = _images(deployed, runs)
    except Exception as error:  # whatever a user's forward raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the network does not run with convolutions in integers ({reason}): leave those that its forward looks into "
            "in float (exclude)"
        ) from error
    for layer in by_path.values():
        layer.round_output(False)
    in_bytes = _images(deployed, runs)
    for layer in by_path.values():
        layer.round_output(True)
    psnr = {
        "quantized": psnr_of(trained, whole),
        "bytes": psnr_of(in_bytes, trained),
        "outputs": psnr_of(rounded, trained),
        "deployed": psnr_of(rounded, whole),
    }
    if psnr["deployed"] < min(psnr["quantized"] - MAX_LOSS_DB, FINE_DB):
        raise ValueError(
            f"in integers the network computes something else than in float: {psnr['deployed']:.1f} dB, where rounding "
            f"alone leaves {psnr['quantized']:.1f} dB: leave layers in float (exclude)"
        )
    described = [
        {"path": path, **layer.describe(config), "snr_db": grids[path].snr_db}
        for path, layer in by_path.items()
    ]
    report = {"layers": described, "float": layers.left, "images": sum(len(run[0]) for run in runs)}
    return deployed, report | {"psnr_db": psnr}


def psnr_of(images: list[Tensor], references: list[Tensor]) -> float:
    """Of all images together, in [-1, 1] and compared as 0..255 levels: dB, at most 200."""
    pairs = zip(images, references, strict=True)
    errors = torch.stack([((a.double() - b.double()) * 127.5).square().mean() for a, b in pairs])
    return psnr_of_mse(float(errors.mean()))


def _images(
    model: nn.Module, runs: list[tuple[Tensor, ...]], device: torch.device | None = None
) -> list[Tensor]:
    with torch.no_grad():
        return [generate(model, tuple(t.to(device) for t in inputs)).cpu() for inputs in runs]


class Rounding(nn.Module):
    """x on a grid of bytes (uint8)."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid.in_bytes(signed=False)
        self.scale: Tensor
        self.zero: Tensor
        self.register_buffer("scale", torch.tensor(grid.scale, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(grid.zero, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        if (self.grid.lowest, self.grid.highest) != (0, 255):  # a byte would hold more levels than there are
            x = x.clamp(*self.grid.bounds())
        return dequantize(quantize(x, self.scale, self.zero), self.scale, self.zero)  # type: ignore[no-any-return]


class Requantizing(nn.Module):
    """What an integer convolution makes, in levels already, rounded to bytes; then the numbers that these mean.

    A grid for each channel costs nothing: runtimes round to one grid, but the weights' scales and the bias can bring
    every channel onto it. Before a norm, that saves the quiet channels.

    Args:
        grid: scales and zeros (C, 1, 1).
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.rounds = True  # switched off to see what the rounding costs
        self.scale: Tensor
        self.zero: Tensor
        self.one: Tensor
        self.none: Tensor
        self.register_buffer("scale", torch.as_tensor(grid.scale).flatten())
        self.register_buffer("zero", torch.as_tensor(grid.zero).flatten().to(torch.uint8))
        self.register_buffer("one", torch.tensor(1.0))
        self.register_buffer("none", torch.tensor(0, dtype=torch.uint8))

    def forward(self, levels: Tensor) -> Tensor:
        if not self.rounds:
            return (levels - self.zero.float()[:, None, None]) * self.scale[:, None, None]
        rounded = quantize(levels, self.one, self.none)
        return dequantize(rounded, self.scale, self.zero, axis=1)  # type: ignore[no-any-return]


class Integers(nn.Module):
    """A constant held as integers: `values * scale`, the scale one number or one for each index of `axis`."""

    def __init__(self, values: Tensor, scale: Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.values: Tensor
        self.scale: Tensor
        self.zero: Tensor
        self.register_buffer("values", values)
        self.register_buffer("scale", scale.float())
        self.register_buffer("zero", torch.zeros_like(scale, dtype=values.dtype))

    def forward(self) -> Tensor:
        axis = self.axis if self.scale.dim() else None
        return dequantize(self.values, self.scale, self.zero, axis)  # type: ignore[no-any-return]


class DeployedConv(nn.Module):
    """A convolution with its weight in int8, in place of the Conv2d or ConvTranspose2d it was.

    Where its input and output are bytes too, a runtime computes it in integers. A stem's input stays float, and so does
    what a transposed convolution makes.

    Args:
        conv: the layer, on the CPU.
        weight_grid: of its weight.
        grids: of its input and output.
    """

    def __init__(self, conv: Conv, weight_grid: Grid, grids: LayerGrids) -> None:
        nn.Module.__init__(self)  # not the convolution's, whose settings it has without its weights
        for name in conv.__constants__:
            setattr(self, name, getattr(conv, name))
        transposed = isinstance(conv, nn.ConvTranspose2d)
        self.kind = "transposed" if transposed else "integer"
        if grids.input is None:
            self.kind = "stem" if grids.snr_db is None else "coarse"
        self.input = None if grids.input is None else Rounding(grids.input)
        self.conv, self.pad = _hollow(conv)
        self.weight_scale = torch.as_tensor(weight_grid.scale)  # as it was in training
        grid = weight_grid.in_bytes(signed=True)
        bias = None if conv.bias is None else conv.bias.detach().float()
        self.output: Requantizing | None = None
        self.bias: Integers | None = None
        self.float_bias: Tensor | None
        self.register_buffer("float_bias", bias if self.input is None or self.kind != "integer" else None)
        if self.kind == "integer" and self.input is not None:
            self.output = Requantizing(grids.output)
            offset = self.output.zero.double() * self.output.scale.double()
            bias = offset + (0 if bias is None else bias.double())
            grid, self.bias = _in_steps(grid, bias, self.input.scale.double(), self.output.scale.double())
        values = grid.levels(conv.weight.detach()).to(torch.int8)
        scale = torch.as_tensor(grid.scale).flatten()
        if self.output is not None:
            scale = scale / self.output.scale
        self.weight = Integers(values, scale if len(scale) > 1 else scale[0], axis=int(transposed))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        x = input if self.pad is None else pad(input, self.pad[0], mode=self.pad[1])
        if self.input is not None:
            x = self.input(x)
        bias = self.float_bias if self.bias is None else self.bias()
        y = self._convolve(x, self.weight(), bias, output_size)
        return y if self.output is None else self.output(y)

    def round_output(self, rounds: bool) -> None:
        """Whether what the layer makes is rounded to bytes, as it is in the file; it is unless told otherwise."""
        if self.output is not None:
            self.output.rounds = rounds

    def describe(self, config: QuantConfig) -> dict[str, Any]:
        """The layer in quantization.json."""
        return {
            "type": type(self.conv).__name__,
            "weight_bits": config.weight_bits,
            "activation_bits": None if self.input is None else config.activation_bits,
            "weight_scale": self.weight_scale.squeeze().tolist(),
            "input": None if self.input is None else _described(self.input),
            "output": None if self.output is None else _described(self.output),
            "note": NOTES[self.kind],
        }

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, output_size: Any) -> Tensor:
        conv: Any = self.conv
        if isinstance(conv, nn.Conv2d):
            return conv._conv_forward(x, weight, bias)
        how = (conv.stride, conv.padding)
        more = conv._output_padding(x, output_size, *how, conv.kernel_size, 2, conv.dilation)
        return conv_transpose2d(x, weight, bias, *how, more, conv.groups, conv.dilation)


class DeployedConv2d(DeployedConv, nn.Conv2d):  # type: ignore[misc]
    """One that a network's own forward takes for the class that it was."""


class DeployedConvTranspose2d(DeployedConv, nn.ConvTranspose2d):  # type: ignore[misc]
    """The same, transposed."""


def _in_steps(grid: Grid, bias: Tensor, input_scale: Tensor, output_scale: Tensor) -> tuple[Grid, Integers]:
    """The grid of a weight, and a bias in int32 whose steps are those of the integer sum, over `output_scale`.

    Where weights are next to nothing beside the bias their scale is raised: it is the bias that must not overflow.
    """
    assert isinstance(grid.scale, Tensor)
    least = bias.abs() / (INT32 * input_scale)
    if grid.scale.numel() == 1:
        scale = torch.maximum(grid.scale.double(), least.amax())
    else:
        scale = torch.maximum(grid.scale.double(), least[:, None, None, None])
    steps = input_scale * scale.flatten()
    integers = (bias / steps).round().clamp(-INT32, INT32).int()
    return replace(grid, scale=scale.float()), Integers(integers, steps / output_scale, 0)


def _described(rounding: Rounding | Requantizing) -> dict[str, Any]:
    return {"scale": rounding.scale.tolist(), "zero": rounding.zero.tolist()}


def _hollow(conv: Conv) -> tuple[Conv, tuple[list[int], str] | None]:
    """A layer's settings without its weights, and the padding to do before its input is rounded, unless with zeros:
    a runtime computes in integers where rounding and convolution stand side by side."""
    hollow = copy.copy(conv)
    hollow._parameters = dict.fromkeys(conv._parameters)
    if conv.padding_mode == "zeros":
        return hollow, None
    hollow.padding, hollow.padding_mode = (0, 0), "zeros"
    return hollow, (conv._reversed_padding_repeated_twice, conv.padding_mode)
