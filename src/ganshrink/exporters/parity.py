"""Does an ONNX file compute what the network computes? Measured on 0..255 images in ONNX Runtime."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import PictureIO, to_picture
from ganshrink.exporters.runtime import open_session
from ganshrink.system.generator import Input, as_tuple, generate

MAX_ABS_DIFF = 0.5  # levels of 255: below this no rounded pixel moves by more than one level
MAX_ABS_DIFF_UINT8 = 1.0  # already rounded: a value at the edge of a level may fall on either side
MIN_PSNR_DB = 60.0
PSNR_CEILING_DB = 200.0  # what equal images get, since JSON has no infinity


def check_parity(path: str | Path, graph: nn.Module, batches: Sequence[Input]) -> dict[str, Any]:
    """Run both over the same batches; the figures of the worst batch.

    Args:
        path: an ONNX file with one output.
        graph: the module it came from, on the CPU, in evaluation mode. Unless it is a `PictureIO`, its output
            is taken to be in [-1, 1] and compared as 0..255 levels.
        batches: inputs of `graph`, each a tensor or a tuple of several.

    Returns:
        `max_abs_diff` (levels), `psnr_db` (peak 255, at most 200), `inputs` (how many), `batches`, `sizes`.

    Raises:
        ValueError: a batch differs by more than half a level (one, for uint8 outputs) or has less than 60 dB.
    """
    session = open_session(path)
    names = [given.name for given in session.get_inputs()]
    worst, psnr = 0.0, PSNR_CEILING_DB
    runs = [as_tuple(batch) for batch in batches]
    for batch in runs:
        with torch.no_grad():
            wanted = generate(graph, batch)
        feed = {name: tensor.numpy() for name, tensor in zip(names, batch, strict=True)}
        given = torch.from_numpy(session.run(None, feed)[0])
        if given.shape != wanted.shape:
            shapes = f"{tuple(given.shape)} where torch gives {tuple(wanted.shape)}"
            raise ValueError(f"the ONNX file gives an image of shape {shapes}")
        diff = (levels(given, graph) - levels(wanted, graph)).abs()
        worst = max(worst, _finite(diff.max().item()))
        psnr = min(psnr, psnr_of_mse(diff.square().mean().item()))
        allowed = MAX_ABS_DIFF if wanted.dtype.is_floating_point else MAX_ABS_DIFF_UINT8
        if worst > allowed or psnr < MIN_PSNR_DB:
            raise ValueError(
                f"the ONNX file differs from torch by {worst:.3g} of 255 levels ({psnr:.1f} dB) on inputs of "
                f"shape {shapes_of(batch)}; at most {allowed} and at least {MIN_PSNR_DB:.0f} dB are allowed"
            )
    return {
        "max_abs_diff": worst,
        "psnr_db": psnr,
        "inputs": sum(len(batch[0]) for batch in runs),
        "batches": sorted({len(batch[0]) for batch in runs}),
        "sizes": sorted({f"{t.shape[2]}x{t.shape[3]}" for batch in runs for t in batch if t.dim() == 4}),
    }


def shapes_of(inputs: Sequence[Tensor]) -> str:
    """Shapes in words: "(1, 3, 8, 8) and (1, 5)"."""
    return " and ".join(str(tuple(tensor.shape)) for tensor in inputs)


def levels(image: Tensor, graph: nn.Module) -> Tensor:
    """What a graph gave as 0..255 levels in float64."""
    return image.double() if isinstance(graph, PictureIO) else to_picture(image).double()


def _finite(diff: float) -> float:
    return math.inf if math.isnan(diff) else diff


def psnr_of_mse(mse: float) -> float:
    """dB of a mean square difference of levels: peak 255, at most 200, and minus infinity for NaN."""
    if math.isnan(mse):
        return -math.inf
    return min(PSNR_CEILING_DB, 10 * math.log10(255**2 / mse)) if mse > 0 else PSNR_CEILING_DB
