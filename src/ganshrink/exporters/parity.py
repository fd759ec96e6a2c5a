"""Does an exported file compute what the network computes? Measured on 0..255 images, in the runtime it is for."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.exporters.exporter import Runner
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
MAX_ABS_DIFF_HALF, MIN_PSNR_DB_HALF = 8.0, 45.0  # float16 has 11 bits, and many roundings follow each other
NOISE = 1e-6  # of float32's rounding, some operators on
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
        special: others, by what they are, on which arithmetic may be ill-conditioned, as norms are on one colour: the file
            may be twice as far from torch there as rounding moves torch's own image.

    Returns:
        `max_abs_diff` (levels), `psnr_db` (peak 255, at most 200), `inputs` (how many), `batches`, `sizes`.

    Raises:
        ValueError: a batch differs by more than half a level (one, for uint8 outputs) or has less than 60 dB, a special one
            also by more than rounding explains; or the file gives NaN or infinity where torch does not, or does not run.
    """
    return compare(partial(run_session, open_session(path)), graph, batches, special)


def compare(
    run: Runner,
    graph: nn.Module,
    batches: Sequence[Input],
    special: Mapping[str, Input] | None = None,
    *,
    file: str = "ONNX",
) -> dict[str, Any]:
    """As `check_parity`, of a file in float32 that is open already; `file` says in errors what it is."""
    worst, psnr = 0.0, PSNR_CEILING_DB
    runs = [(as_tuple(batch), "") for batch in batches]
    runs += [(as_tuple(batch), name) for name, batch in (special or {}).items()]
    for batch, name in runs:
        with torch.no_grad():
            wanted = generate(graph, batch)
        if name and not wanted.isfinite().all():
            logger.warning("the network itself gives NaN or infinity on a picture of this kind: %s", name)
            continue
        given = run(batch)
        _check_alike(given, wanted, batch, name, file)
        most, db = _distance(given, wanted, graph)
        if not _within(most, db, wanted):
            limit = _rounding(graph, batch, wanted) if name else 0.0
            if most <= limit:
                continue
            allowed = f"at most {_allowed(wanted)} and at least {MIN_PSNR_DB:.0f} dB are allowed"
            if limit > _allowed(wanted):
                allowed = f"rounding explains {limit:.3g} there, no more is allowed"
            raise ValueError(
                f"the {file} file differs from torch by {most:.3g} of 255 levels ({db:.1f} dB) on {_kind(batch, name)}; "
                f"{allowed}{_way_out(batch, runs[0][0])}"
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


def compare_half(
    run: Runner, graph: nn.Module, batches: Sequence[Input], special: Mapping[str, Input], *, file: str
) -> dict[str, Any]:
    """As `compare`, of a file in float16: it is coarser by nature, and on special pictures must give numbers alone.

    Raises:
        ValueError: a batch differs by more than `MAX_ABS_DIFF_HALF` levels or has less than `MIN_PSNR_DB_HALF`, or the file
            gives NaN or infinity where torch does not.
    """
    for name, given in special.items():
        with torch.no_grad():
            wanted = generate(graph, given)
        _check_alike(run(as_tuple(given)), wanted, as_tuple(given), name, file)
    found = [_alike(run, graph, as_tuple(batch), file) for batch in batches]
    most, db = max(diff for diff, _ in found), min(db for _, db in found)
    if not (most <= MAX_ABS_DIFF_HALF and db >= MIN_PSNR_DB_HALF):
        raise ValueError(
            f"the {file} file differs from torch by {most:.3g} of 255 levels ({db:.1f} dB); at most "
            f"{MAX_ABS_DIFF_HALF:g} and at least {MIN_PSNR_DB_HALF:.0f} dB are allowed: float16 is too coarse for this "
            "network; export it in float32"
        )
    return {"max_abs_diff": most, "psnr_db": db, "inputs": sum(len(as_tuple(batch)[0]) for batch in batches)}


def on_pictures(run: Runner, graph: nn.Module, pictures: Sequence[Inputs]) -> dict[str, Any]:
    """How far a file is from torch on real pictures, in levels of 255: `images`, `max_levels`, `mean_levels`, `psnr_db` (all
    pictures together)."""
    diffs = []
    for batch in pictures:
        with torch.no_grad():
            wanted = generate(graph, batch)
        diffs.append((levels(run(batch), graph) - levels(wanted, graph)).abs().flatten())
    if not diffs:
        return {"images": 0}
    diff = torch.cat(diffs)
    return {
        "images": sum(len(batch[0]) for batch in pictures),
        "max_levels": float(diff.max()),
        "mean_levels": float(diff.mean()),
        "psnr_db": psnr_of_mse(float(diff.square().mean())),
    }


def _alike(run: Runner, graph: nn.Module, batch: Inputs, file: str) -> tuple[float, float]:
    """Largest difference in levels, and dB, of an image of the same shape that holds numbers."""
    with torch.no_grad():
        wanted = generate(graph, batch)
    given = run(batch)
    _check_alike(given, wanted, batch, "", file)
    return _distance(given, wanted, graph)


def check_finite(given: Tensor, wanted: Tensor, batch: Inputs, name: str = "", file: str = "ONNX") -> None:
    """Raise a ValueError where a file gives NaN or infinity and torch does not."""
    if wanted.isfinite().all() and not given.isfinite().all():
        raise ValueError(
            f"the {file} file gives NaN or infinity on {_kind(batch, name)}, where torch gives numbers: a division by "
            "about zero or an overflow; divide by max(x, 1e-5) or clamp in the network's code"
        )


def _check_alike(given: Tensor, wanted: Tensor, batch: Inputs, name: str, file: str) -> None:
    if given.shape != wanted.shape:
        shapes = f"{tuple(given.shape)} where torch gives {tuple(wanted.shape)}"
        raise ValueError(f"the {file} file gives an image of shape {shapes}, on {_kind(batch, name)}")
    check_finite(given, wanted, batch, name, file)


def _kind(batch: Inputs, name: str) -> str:
    return f"inputs of shape {shapes_of(batch)}" + (f" ({name})" if name else "")


def _way_out(batch: Inputs, first: Inputs) -> str:
    other = [tensor.shape[2:] for tensor in batch] != [tensor.shape[2:] for tensor in first]
    return ": the file is wrong at another size than the example's; export with a fixed size" if other else ""


def _rounding(graph: nn.Module, batch: Inputs, wanted: Tensor) -> float:
    """How far, in levels, a file may be from torch by rounding alone: twice as far as torch's own image moves when its
    inputs move by what float32 rounds off, or as it is from float64's image."""
    own = graph.decode(batch) if isinstance(graph, PictureIO) else batch
    noise = torch.Generator().manual_seed(0)
    moved = tuple(
        t + NOISE * t.abs().max().clamp_min(1) * torch.randn(t.shape, generator=noise)
        if t.is_floating_point()
        else t
        for t in own
    )
    found = [_distance(_image(graph, moved), wanted, graph)[0]]
    with suppress(Exception):  # code that asks for float32 does not run in float64
        doubled = tuple(t.double() if t.is_floating_point() else t for t in own)
        found.append(_distance(_image(copied(graph).double(), doubled), wanted, graph)[0])
    return 2 * max(found)


def _image(graph: nn.Module, own: Inputs) -> Tensor:
    """What a graph makes of the generator's own inputs."""
    with torch.no_grad():
        return graph.picture_of(own) if isinstance(graph, PictureIO) else generate(graph, own)


def _distance(given: Tensor, wanted: Tensor, graph: nn.Module) -> tuple[float, float]:
    """The largest difference in levels of 255, and all of it in dB."""
    diff = (levels(given, graph) - levels(wanted, graph)).abs()
    return _finite(diff.max().item()), psnr_of_mse(diff.square().mean().item())


def _allowed(wanted: Tensor) -> float:
    return MAX_ABS_DIFF if wanted.dtype.is_floating_point else MAX_ABS_DIFF_UINT8


def _within(most: float, db: float, wanted: Tensor) -> bool:
    return most <= _allowed(wanted) and db >= MIN_PSNR_DB


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
