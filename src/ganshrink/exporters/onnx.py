"""ONNX by torch's own exporter: silent, one file, written only when ONNX Runtime agrees with torch."""

import contextlib
import copy
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.atomic import replacing
from ganshrink.exporters.parity import check_parity, shapes_of
from ganshrink.exporters.picture import DTYPES, ImageIO, PictureIO, are_pictures
from ganshrink.exporters.probes import Inputs, other_scale, probes
from ganshrink.exporters.runtime import PACKAGES, load_optional
from ganshrink.generator import Input, as_tuple

Encode = Callable[[Inputs], Inputs]
FILE_LIMIT = 2_000_000_000  # a protobuf message, weights included, ends at 2 GiB


def export_onnx(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: Path | str,
    *,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    image_io: ImageIO | None = None,
    inputs: Sequence[Input] = (),
    opset: int | None = None,
) -> dict[str, Any]:
    """Write `path`, one self-contained ONNX file: input `input` (of several `input_0`, `input_1`, ...), output `image`;
    compared with torch first.

    Args:
        model: a generator, left as it is: what is exported is a float32 copy in evaluation mode on the CPU.
        example: (B, C, H, W) in [-1, 1], or one-hot; several of them, or batches of any other shape, for a generator of
            several inputs. Only shapes and types matter, whether it is one-hot, and which whole numbers there are.
        dynamic_batch: any batch size. `dynamic_size`: any height and width that the network takes.
        image_io: `uint8` or `float32` puts the pre- and post-processing inside the graph, which then takes
            and gives 0..255 images of that type (a one-hot input stays as it is, of several inputs all but those of three
            channels). None: [-1, 1] on both sides.
        inputs: real inputs (C, H, W) or (B, C, H, W) in the range of `example`, tuples for a generator of several;
            compared on beside random ones.
        opset: of the ONNX operators; None takes torch's choice. Recorded in the answer.

    Returns:
        the file's entry in parity.json: `max_abs_diff` and `psnr_db` on 0..255 images, `inputs`, `opset`,
        `bytes`, and how it was made.

    Raises:
        ValueError: the network does not export, or the file computes something else: no new file is left.
    """
    path = Path(path)
    given = tuple(_plain(tensor) for tensor in as_tuple(example))
    _check(model, given, image_io, dynamic_size)
    graph, encode = _graph(model, given, image_io)
    scales = [(Fraction(1), Fraction(1))] + ([other_scale(graph, encode(given))] if dynamic_size else [])
    batches = [encode(batch) for batch in probes(given, scales, inputs, free_batch=dynamic_batch)]
    with replacing(path) as part:
        traced = max(batches, key=lambda batch: len(batch[0]))
        found = _write(graph, traced, part, dynamic_batch, dynamic_size, opset)
        entry = check_parity(part, graph, batches)
        entry |= {"opset": found, "bytes": part.stat().st_size, "image_io": image_io}
        entry |= {"dynamic_batch": dynamic_batch, "dynamic_size": dynamic_size}
    return entry


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _check(model: nn.Module, example: Inputs, image_io: str | None, dynamic_size: bool) -> None:
    load_optional(*PACKAGES)
    if len(example) == 1 and example[0].is_floating_point() and example[0].dim() not in (2, 4):
        raise ValueError(f"the example must have the shape (B, C, H, W), got {tuple(example[0].shape)}")
    if len({tensor.shape[:1] for tensor in example}) != 1:
        raise ValueError(f"the examples must be batches of one size, got {shapes_of(example)}")
    if dynamic_size and all(tensor.dim() != 4 for tensor in example):
        raise ValueError(f"dynamic_size needs an image (B, C, H, W) as input, got {shapes_of(example)}")
    if image_io is not None and image_io not in DTYPES:
        raise ValueError(f"image_io must be {' or '.join(DTYPES)}, got {image_io!r}")
    size = sum(4 * tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if size > FILE_LIMIT:
        raise ValueError(f"the weights take {size / 1e9:.1f} GB in float32; one ONNX file holds at most 2 GB")


def _graph(model: nn.Module, example: Inputs, image_io: ImageIO | None) -> tuple[nn.Module, Encode]:
    """What is exported, and how the generator's inputs become its own."""
    net = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    if image_io is None:
        return net, lambda batch: batch
    graph = PictureIO(net, image_io, pictures=are_pictures(example)).eval()
    return graph, graph.encode


def _write(
    graph: nn.Module, batch: Inputs, path: Path, dynamic_batch: bool, dynamic_size: bool, opset: int | None
) -> int:
    """Export at the shape of `batch`: two images where the batch is free, since torch.export fixes a one."""
    free: dict[int, Any] = {0: torch.export.Dim("batch")} if dynamic_batch else {}
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC} if dynamic_size else {}
    dims = [free | (sides if tensor.dim() == 4 else {}) for tensor in batch]
    names = ["input"] if len(batch) == 1 else [f"input_{place}" for place in range(len(batch))]
    try:
        with _silence():
            program = torch.onnx.export(
                graph,
                batch,
                dynamo=True,
                dynamic_shapes=tuple(inspect.signature(graph.forward).bind(*dims).arguments.values()),
                input_names=names,
                output_names=["image"],
                opset_version=opset,
                verbose=False,
            )
            assert program is not None
            for node in program.model.graph:
                node.metadata_props.clear()  # stack traces: the maker's file paths, half of a small file
    except Exception as error:  # the exporter passes on whatever tracing, lowering and writing raise
        raise ValueError(f"the network does not export to ONNX: {_reason(error)}") from error
    program.save(str(path), external_data=False)  # a full disk is the caller's to tell
    found = int(program.model.opset_imports[""])
    if opset not in (None, found):
        raise ValueError(
            f"torch writes opset {found} for this network, not {opset}: ask for {found} or leave it out"
        )
    return found


def _reason(error: BaseException) -> str:
    """The first line of what first went wrong; the exporter wraps it in pages of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter reports each step, an absent torchvision and its own deprecations on three channels."""
    logger = logging.getLogger("torch.onnx")
    level, sink = logger.level, io.StringIO()
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
