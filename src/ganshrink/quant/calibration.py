"""Ranges of what convolutions read and make, seen on images."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.generator import Input, as_tuple
from ganshrink.quant.config import QuantConfig
from ganshrink.quant.grid import Grid, LayerGrids, activation_grid, observed_grid
from ganshrink.quant.layers import Layers, device_of, evaluating, find_layers
from ganshrink.quant.quantizers import Quantizers

# Of what a convolution makes: runtimes want it in bytes, however few the bits of what it reads.
OUTPUT_BITS = 8

Seen = dict[tuple[str, str], tuple[Tensor, Tensor]]  # least and greatest, by path and "input" or "output"


def calibrate(model: nn.Module, config: QuantConfig, batches: Iterable[Input]) -> dict[str, LayerGrids]:
    """Run the network over images and see between what numbers its convolutions work.

    With fixed activations it runs quantized, as it was trained, and only the outputs' ranges are new.

    Args:
        model: the bare network, wherever its weights are; it is left as it is.
        batches: inputs, (B, C, H, W) or tuples of several.

    Returns:
        by path: the grid of the input (None for a stem, which reads the network's own input) and that of the output.

    Raises:
        ValueError: if there are no images, all are the same or constant, something is NaN or infinite, or a layer reads
            or makes the same number everywhere.
    """
    runs = [as_tuple(batch) for batch in batches]
    _check_images(runs)
    layers = find_layers(model, runs[0], config.exclude)
    seen: Seen = {}
    with ExitStack() as stack:
        if config.activations == "fixed":
            stack.enter_context(Quantizers(model, config, runs[0]))
        for path, conv in layers.quantized.items():
            handle = conv.register_forward_hook(_observe(seen, path), with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(evaluating(model))
        for inputs in runs:
            model(*(tensor.to(device_of(model)) for tensor in inputs))
    return {path: _grids(path, layers, config, seen) for path in layers.quantized}


def _observe(seen: Seen, path: str) -> Any:
    """Note the least and greatest number of a layer's input, and of each channel of its output."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        given = (args[0] if args else kwargs["input"]).float()
        made = output.float().movedim(-3, 0).flatten(1)
        for kind, (low, high) in (("input", given.aminmax()), ("output", made.aminmax(dim=1))):
            if not bool((high - low).isfinite().all()):
                raise ValueError(
                    f"the {kind} of {path!r} is NaN or infinite on the calibration images: check the weights and the images"
                )
            before = seen.get((path, kind), (low, high))
            seen[path, kind] = torch.minimum(low, before[0]), torch.maximum(high, before[1])

    return hook


def _grids(path: str, layers: Layers, config: QuantConfig, seen: Seen) -> LayerGrids:
    for kind in ("input", "output"):
        low, high = seen[path, kind][0].amin(), seen[path, kind][1].amax()
        if low == high:
            raise ValueError(
                f"the {kind} of {path!r} is {low:.4g} everywhere on the calibration images, which is no range: give other "
                "images, or leave the layer in float (exclude)"
            )
    given: Grid | None = None
    if path not in layers.stems:
        fixed = config.activations == "fixed"
        bits = config.activation_bits
        given = activation_grid(bits, config.limit) if fixed else observed_grid(bits, *seen[path, "input"])
    low, high = (end[:, None, None] for end in seen[path, "output"])
    return LayerGrids(given, observed_grid(OUTPUT_BITS, low, high))


def _check_images(runs: list[tuple[Tensor, ...]]) -> None:
    if not runs or not len(runs[0][0]):
        raise ValueError("there are no images to calibrate on: give at least one")
    for inputs in runs:
        for tensor in inputs:
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise ValueError("a calibration image holds NaN or infinite values")
    images = [image for inputs in runs for image in inputs[0]]
    if all(bool((image == image.reshape(-1)[0]).all()) for image in images):
        raise ValueError(
            "the calibration images are all of one colour: ranges seen on them mean nothing, give real ones"
        )
    if len(images) > 1 and all(torch.equal(image, images[0]) for image in images[1:]):
        raise ValueError(f"the {len(images)} calibration images are all the same: give different ones")
