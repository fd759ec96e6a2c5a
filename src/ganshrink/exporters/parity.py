"""Does an ONNX file compute what the network computes? Measured on 0..255 images in ONNX Runtime."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import PictureIO, to_picture
from ganshrink.exporters.runtime import open_session, run_session
from ganshrink.system.copies import copied
from ganshrink.system.generator import Input, as_tuple, generate
from ganshrink.system.values import decoded

logger = logging.getLogger(__name__)

Inputs = tuple[Tensor, ...]
MAX_ABS_DIFF = 0.5  # levels of 255: below this no rounded pixel moves by more than one level
MAX_ABS_DIFF_UINT8 = 1.0  # already rounded: a value at the edge of a level may fall on either side
MIN_PSNR_DB = 60.0
PSNR_CEILING_DB = 200.0  # what equal images get, since JSON has no infinity


def check_parity(
    path: str | Path,
    graph: nn.Module,
    batches: Sequence[Input],
    special: Mapping[str, Input] | None = None,
) -> dict[str, Any]:
    """Run both over the same batches; the figures of the worst batch.

    Args:
        path: an ONNX file with one output.
        graph: the module it came from, on the CPU, in evaluation mode. Unless it is a `PictureIO`, its output
            is taken to be in [-1, 1] and compared as 0..255 levels.
        batches: inputs of `graph`, each a tensor or a tuple of several.
        special: others, by what they are, on which arithmetic may be ill-conditioned, as norms are on one colour: where
            torch in float32 is itself that far from float64, the file must give numbers, but not these.

    Returns:
        `max_abs_diff` (levels), `psnr_db` (peak 255, at most 200), `inputs` (how many), `batches`, `sizes`.

    Raises:
        ValueError: a batch differs by more than half a level (one, for uint8 outputs) or has less than 60 dB, or the file
            gives NaN or infinity where torch does not, or ONNX Runtime fails.
    """
    session = open_session(path)
    worst, psnr = 0.0, PSNR_CEILING_DB
    runs = [(as_tuple(batch), "") for batch in batches]
    runs += [(as_tuple(batch), name) for name, batch in (special or {}).items()]
    for batch, name in runs:
        with torch.no_grad():
            wanted = generate(graph, batch)
        if name and not wanted.isfinite().all():
            logger.warning("the network itself gives NaN or infinity on a picture of this kind: %s", name)
            continue
        given = run_session(session, batch)
        _check_alike(given, wanted, batch, name)
        diff = (levels(given, graph) - levels(wanted, graph)).abs()
        most, db = _finite(diff.max().item()), psnr_of_mse(diff.square().mean().item())
        allowed = MAX_ABS_DIFF if wanted.dtype.is_floating_point else MAX_ABS_DIFF_UINT8
        if most > allowed or db < MIN_PSNR_DB:
            if name and _ill_conditioned(graph, batch, wanted):
                continue
            raise ValueError(
                f"the ONNX file differs from torch by {most:.3g} of 255 levels ({db:.1f} dB) on {_kind(batch, name)}; "
                f"at most {allowed} and at least {MIN_PSNR_DB:.0f} dB are allowed{_way_out(batch, runs[0][0])}"
            )
        worst, psnr = max(worst, most), min(psnr, db)
    batches_run = [batch for batch, _ in runs]
    return {
        "max_abs_diff": worst,
        "psnr_db": psnr,
        "inputs": sum(len(batch[0]) for batch in batches_run),
        "batches": sorted({len(batch[0]) for batch in batches_run}),
        "sizes": sorted(
            {f"{t.shape[2]}x{t.shape[3]}" for batch in batches_run for t in batch if t.dim() == 4}
        ),
    }


def check_finite(given: Tensor, wanted: Tensor, batch: Inputs, name: str = "", file: str = "ONNX") -> None:
    """Raise a ValueError where a file gives NaN or infinity and torch does not."""
    if wanted.isfinite().all() and not given.isfinite().all():
        raise ValueError(
            f"the {file} file gives NaN or infinity on {_kind(batch, name)}, where torch gives numbers: a division by "
            "about zero or an overflow; divide by max(x, 1e-5) or clamp in the network's code"
        )


def _check_alike(given: Tensor, wanted: Tensor, batch: Inputs, name: str) -> None:
    if given.shape != wanted.shape:
        shapes = f"{tuple(given.shape)} where torch gives {tuple(wanted.shape)}"
        raise ValueError(f"the ONNX file gives an image of shape {shapes}, on {_kind(batch, name)}")
    check_finite(given, wanted, batch, name)


def _kind(batch: Inputs, name: str) -> str:
    return f"inputs of shape {shapes_of(batch)}" + (f" ({name})" if name else "")


def _way_out(batch: Inputs, first: Inputs) -> str:
    other = [tensor.shape[2:] for tensor in batch] != [tensor.shape[2:] for tensor in first]
    return ": the file is wrong at another size than the example's; export with a fixed size" if other else ""


def _ill_conditioned(graph: nn.Module, batch: Inputs, wanted: Tensor) -> bool:
    """Whether torch's own float32 is as far from float64 as a file may be from torch."""
    exact = copied(graph).double()
    with torch.no_grad():
        if isinstance(exact, PictureIO):
            levels_of = to_picture(generate(exact.net, exact.decode(batch, torch.float64)).clamp(-1, 1))
        else:
            doubled = tuple(t.double() if t.is_floating_point() else t for t in batch)
            levels_of = to_picture(decoded(generate(exact, doubled), exact))
    diff = (levels(wanted, graph) - levels_of).abs()
    return diff.max().item() > MAX_ABS_DIFF


def shapes_of(inputs: Sequence[Tensor]) -> str:
    """Shapes in words: "(1, 3, 8, 8) and (1, 5)"."""
    return " and ".join(str(tuple(tensor.shape)) for tensor in inputs)


def levels(image: Tensor, graph: nn.Module) -> Tensor:
    """What a graph gave as 0..255 levels in float64."""
    return image.double() if isinstance(graph, PictureIO) else to_picture(decoded(image, graph)).double()


def _finite(diff: float) -> float:
    return math.inf if math.isnan(diff) else diff


def psnr_of_mse(mse: float) -> float:
    """dB of a mean square difference of levels: peak 255, at most 200, and minus infinity for NaN."""
    if math.isnan(mse):
        return -math.inf
    return min(PSNR_CEILING_DB, 10 * math.log10(255**2 / mse)) if mse > 0 else PSNR_CEILING_DB
