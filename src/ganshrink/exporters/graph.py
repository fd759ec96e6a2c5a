"""A generator as the ONNX graph that is written: what goes in, and torch's own exporter kept quiet."""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.exporters.parity import shapes_of
from ganshrink.exporters.picture import DTYPES, ImageIO, PictureIO, are_pictures
from ganshrink.exporters.probes import Inputs
from ganshrink.exporters.runtime import PACKAGES, load_optional
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import as_tuple

Encode = Callable[[Inputs], Inputs]
FILE_LIMIT = 2_000_000_000  # a protobuf message, weights included, ends at 2 GiB


def prepare(
    model: nn.Module, example: Tensor | Sequence[Tensor], image_io: ImageIO | None, dynamic_size: bool
) -> tuple[nn.Module, Encode, Inputs]:
    """What is exported, how the generator's inputs become its own, and the example as it is needed here.

    Raises:
        ValueError: for arguments that make no file.
    """
    given = tuple(_plain(tensor) for tensor in as_tuple(example))
    _check(model, given, image_io, dynamic_size)
    return *_graph(model, given, image_io), given


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
    net = in_evaluation(copied(model)).cpu().float()
    net.requires_grad_(False)
    if image_io is None:
        return net, lambda batch: batch
    graph = PictureIO(net, image_io, pictures=are_pictures(example))
    graph.eval()
    return graph, graph.encode


def write(
    graph: nn.Module,
    batch: Inputs,
    path: Path,
    dynamic_batch: bool,
    dynamic_size: bool,
    opset: int | None = None,
    rewrite: Callable[[Any], None] | None = None,
) -> int:
    """Export at the shape of `batch`, which holds two images where the batch is free, since torch.export fixes a one.

    Args:
        rewrite: changes the ONNX graph (of onnx_ir) before it is written.

    Returns:
        the opset.

    Raises:
        ValueError: the network does not export.
    """
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
            if rewrite is not None:
                rewrite(program.model.graph)
            _strip(program.model.graph)
    except Exception as error:  # the exporter passes on whatever tracing, lowering and writing raise
        raise ValueError(f"the network does not export to ONNX: {_reason(error)}") from error
    program.save(str(path), external_data=False)  # a full disk is the caller's to tell
    found = int(program.model.opset_imports[""])
    if opset not in (None, found):
        raise ValueError(
            f"torch writes opset {found} for this network, not {opset}: ask for {found} or leave it out"
        )
    return found


def _strip(graph: Any) -> None:
    """Take off stack traces and origins: the maker's file paths, and half of a small file."""
    values = [*graph.initializers.values(), *graph.inputs]
    for node in graph:
        node.metadata_props.clear()
        values += node.outputs
    for value in values:
        value.metadata_props.clear()


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
