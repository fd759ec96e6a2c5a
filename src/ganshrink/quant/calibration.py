"""Ranges of what convolutions read and make, seen on images."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import Images
from ganshrink.data.passes import spread_inputs
from ganshrink.quant.config import QuantConfig
from ganshrink.quant.grid import Grids, LayerGrids, activation_grid, fitted_grid, observed_grid, trained_grid
from ganshrink.quant.layers import Layers, device_of, evaluating, find_layers
from ganshrink.quant.quantizers import Quantizers
from ganshrink.system.generator import Input, as_tuple

# Of what a convolution makes: runtimes want it in bytes, however few the bits of what it reads.
OUTPUT_BITS = 8

MARGIN = 1.25  # other images reach beyond those seen, and what is cut off costs more than coarser steps do
SAMPLE = 2**16  # numbers of a layer's input that its grid is fitted to


def spread(images: Images, count: int) -> list[tuple[Tensor, ...]]:
    """Inputs of so many images, evenly spread over a set, as batches of one."""
    return list(spread_inputs(images, count, batch_size=1))


def attached(model: nn.Module, config: QuantConfig, example: Input, batches: Sequence[Input]) -> Quantizers:
    """Quantizers to train a network under, where activations are observed over what it does with these images now."""
    grids = calibrate(model, config, batches) if config.activations == "observed" else None
    return Quantizers(model, config, as_tuple(example), grids=grids)


@dataclass
class Seen:
    """What passed through one convolution: the ends of its input's range and of each channel of its output's, and some
    numbers of the input."""

    input: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    output: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    sample: list[Tensor] = field(default_factory=list)

    def ends(self, kind: str) -> tuple[Tensor, Tensor]:
        """The least and the greatest so far."""
        lows, highs = zip(*getattr(self, kind), strict=True)
        return torch.stack(lows).amin(0).cpu(), torch.stack(highs).amax(0).cpu()


def calibrate(model: nn.Module, config: QuantConfig, batches: Iterable[Input]) -> dict[str, LayerGrids]:
    """Run the network over images and see between what numbers its convolutions work.

    With fixed activations, or ranges that it was trained under, it runs quantized, and only the outputs' ranges are new.

    Args:
        model: the bare network, wherever its weights are; it is left as it is.
        batches: inputs, (B, C, H, W) or tuples of several.

    Returns:
        by path: the grids of each layer's input and output.

    Raises:
        ValueError: if there are no images, all are the same or constant, something is NaN or infinite, or a layer reads
            or makes the same number everywhere.
    """
    runs = [as_tuple(batch) for batch in batches]
    _check_images(runs)
    layers = find_layers(model, runs[0], config.exclude)
    seen = {path: Seen() for path in layers.quantized}
    with ExitStack() as stack:
        if config.activations == "fixed" or config.ranges is not None:
            stack.enter_context(Quantizers(model, config, runs[0]))
        for path, conv in layers.quantized.items():
            watch = _observe(path, seen[path], SAMPLE // len(runs))
            stack.callback(conv.register_forward_hook(watch, with_kwargs=True).remove)
        stack.enter_context(evaluating(model))
        for inputs in runs:
            model(*(tensor.to(device_of(model)) for tensor in inputs))
    grids = {path: _grids(path, layers, config, seen[path]) for path in layers.quantized}
    return without_coarse(grids, config.min_snr_db)


def without_coarse(grids: Grids, min_snr_db: float) -> dict[str, LayerGrids]:
    """The grids but for inputs that would be rounded worse than this: those stay float."""
    return {
        path: found if found.snr_db is None or found.snr_db >= min_snr_db else replace(found, input=None)
        for path, found in grids.items()
    }


def _observe(path: str, seen: Seen, count: int) -> Any:
    """Note the range of a layer's input, and of each channel of its output; and about `count` numbers of the input."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        given = (args[0] if args else kwargs["input"]).float().flatten()
        made = output.float().movedim(-3, 0).flatten(1)
        seen.input.append(given.aminmax())
        seen.output.append(made.aminmax(dim=1))
        seen.sample.append(
            given[:: max(1, len(given) // max(1, count)) | 1].cpu()
        )  # odd: no column is always missed
        for kind in ("input", "output"):
            low, high = getattr(seen, kind)[-1]
            if not bool((high - low).isfinite().all()):
                raise ValueError(
                    f"the {kind} of {path!r} is NaN or infinite on the calibration images: check the weights and the images"
                )

    return hook


def _grids(path: str, layers: Layers, config: QuantConfig, seen: Seen) -> LayerGrids:
    for kind in ("input", "output"):
        low, high = (end.aminmax()[at] for at, end in enumerate(seen.ends(kind)))
        if low == high:
            raise ValueError(
                f"the {kind} of {path!r} is {low:.4g} everywhere on the calibration images, which is no range: give other "
                "images, or leave the layer in float (exclude)"
            )
    made = observed_grid(OUTPUT_BITS, *(MARGIN * end[:, None, None] for end in seen.ends("output")))
    if path in layers.stems:
        return LayerGrids(None, made)
    if config.ranges is not None:
        known = config.ranges.get(path)
        return LayerGrids(known and trained_grid(config.activation_bits, *known), made)
    if config.activations == "fixed":
        return LayerGrids(activation_grid(config.activation_bits, config.limit), made)
    grid, snr = fitted_grid(config.activation_bits, *seen.ends("input"), torch.cat(seen.sample))
    return LayerGrids(grid, made, snr)


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
