"""A generator as the ONNX graph that is written: what goes in, and torch's own exporter kept quiet."""

import contextlib
import importlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.exporters import instance_norm, integers
from ganshrink.exporters.instance_norm import OwnNorms, whole
from ganshrink.exporters.parity import shapes_of
from ganshrink.exporters.picture import DTYPES, ImageIO, PictureIO, are_pictures
from ganshrink.exporters.probes import Inputs, free_sides
from ganshrink.exporters.sizes import AXES, Sizes, check_batches, sizes_of
from ganshrink.system.copies import copied, in_evaluation
from ganshrink.system.generator import as_tuple
from ganshrink.system.spelling import one_line
from ganshrink.system.values import Values, converting, raw, values_of

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
    if len(example) == 1 and example[0].is_floating_point() and example[0].dim() not in (2, 4):
        raise ValueError(f"the example must have the shape (B, C, H, W), got {tuple(example[0].shape)}")
    if len({tensor.shape[:1] for tensor in example}) != 1:
        raise ValueError(f"the examples must be batches of one size, got {shapes_of(example)}")
    if dynamic_size and not any(free_sides(tensor) for tensor in example):
        raise ValueError(f"dynamic_size needs an image (B, C, H, W) as input, got {shapes_of(example)}")
    if image_io is not None and image_io not in DTYPES:
        raise ValueError(f"image_io must be {' or '.join(DTYPES)}, got {image_io!r}")
    size = sum(4 * tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if size > FILE_LIMIT:
        raise ValueError(f"the weights take {size / 1e9:.1f} GB in float32; one ONNX file holds at most 2 GB")


def values_told(graph: nn.Module, image_io: ImageIO | None) -> dict[str, str]:
    """Black and white of what a file takes and gives, for its metadata."""
    if image_io is not None:
        return dict.fromkeys(("input_values", "output_values"), f"0..255 {image_io}")
    return (values_of(graph) or Values()).facts()


def _graph(model: nn.Module, example: Inputs, image_io: ImageIO | None) -> tuple[nn.Module, Encode]:
    """What is exported, and how the generator's inputs become its own."""
    net = in_evaluation(copied(model)).cpu().float()
    net.requires_grad_(False)
    if image_io is None:  # as its user knows it, not as we train it
        values = values_of(net)
        return raw(net), (lambda batch: batch) if values is None else values.encode
    graph = PictureIO(converting(net), image_io, pictures=are_pictures(example))
    graph.eval()
    return graph, graph.encode


def capture(
    graph: nn.Module, encode: Encode, example: Inputs, dynamic_batch: bool, dynamic_size: bool
) -> tuple[torch.export.ExportedProgram, Sizes | None]:
    """torch's own trace at the example's size, and where the size is free, the sizes for which it holds.

    Raises:
        ValueError: the network cannot be traced, or only at this size or batch.
    """
    # Of two images where the batch is free, since torch.export takes a one for fixed.
    batch = encode(tuple(torch.cat([t, t])[:2] for t in example) if dynamic_batch else example)
    program = _traced(graph, batch, dynamic_batch, dynamic_size)
    if dynamic_batch:
        check_batches(program, graph, batch)
    return program, sizes_of(program, graph, batch) if dynamic_size else None


def _traced(
    graph: nn.Module, batch: Inputs, dynamic_batch: bool, dynamic_size: bool
) -> torch.export.ExportedProgram:
    sides = [(0,) * dynamic_batch + free_sides(tensor) * dynamic_size for tensor in batch]
    dims = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in sides]
    shapes = tuple(inspect.signature(graph.forward).bind(*dims).arguments.values())
    # As in torch.onnx: without it a bottleneck of one pixel would be a promise that it always has one.
    oblivious = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    try:
        with silence(), oblivious, OwnNorms(whole):
            return torch.export.export(graph, batch, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # tracing passes on whatever the network raises
        hint = "; try a fixed size" if dynamic_size else ""
        raise ValueError(f"the network does not export to ONNX: {_untraced(error, hint)}") from error


def write(
    program: torch.export.ExportedProgram,
    path: Path,
    opset: int | None = None,
    rewrite: Callable[[Any], None] | None = None,
    about: Mapping[str, Any] | None = None,
) -> int:
    """Translate a traced network and write it.

    Args:
        rewrite: changes the ONNX graph (of onnx_ir) before it is written.
        about: goes into the file's metadata.

    Returns:
        the opset.

    Raises:
        ValueError: an operator has no translation.
    """
    inputs = program.graph_signature.user_inputs
    names = ["input"] if len(inputs) == 1 else [f"input_{place}" for place in range(len(inputs))]
    try:
        with silence():
            translated = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=names,
                output_names=["image"],
                opset_version=opset,
                custom_translation_table=instance_norm.translations() | integers.translations(),
                verbose=False,
                optimize=False,  # it takes `+ 1e-8` for `+ 0`
            )
            assert translated is not None
            model = translated.model
            _simplify(model)
            if rewrite is not None:
                rewrite(model.graph)
            _strip(model.graph, _sides(program))
            model.metadata_props.update({name: str(value) for name, value in (about or {}).items()})
    except Exception as error:  # the exporter passes on whatever translating raises
        raise ValueError(f"the network does not export to ONNX: {_untranslated(error)}") from error
    translated.save(str(path), external_data=False)  # a full disk is the caller's to tell
    found = int(model.opset_imports[""])
    if opset not in (None, found):
        raise ValueError(
            f"torch writes opset {found} for this network, not {opset}: ask for {found} or leave it out"
        )
    return found


def _simplify(model: Any) -> None:
    """Compute what is constant and drop what is unused, both exactly; runtimes fuse operators themselves."""
    passes = importlib.import_module("onnx_ir.passes.common")
    passes.InlinePass()(model)
    importlib.import_module("onnxscript.optimizer").fold_constants_ir(model)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
    ):
        step(model)


def _sides(program: torch.export.ExportedProgram) -> dict[str, str]:
    """What the symbols of a trace are: batch, height and width, of further inputs with their number."""
    found: dict[str, str] = {}
    inputs = [n for n in program.graph.nodes if n.name in program.graph_signature.user_inputs]
    for place, node in enumerate(inputs):
        for axis, side in enumerate(node.meta["val"].shape):
            found.setdefault(str(side), f"{AXES[axis]}_{place}" if place else AXES[axis])
    return {symbol: name for symbol, name in found.items() if not symbol.isdigit()}


def _strip(graph: Any, sides: Mapping[str, str]) -> None:
    """Take off stack traces and origins, the maker's file paths and half of a small file; name what varies."""
    values = [*graph.initializers.values(), *graph.inputs]
    for node in graph:
        node.metadata_props.clear()
        values += node.outputs
    symbol = re.compile(r"\bs\d+\b")
    for value in values:
        value.metadata_props.clear()
        if value.shape is not None and not value.shape.is_static():
            dims = (symbol.sub(lambda found: sides.get(found[0], found[0]), str(dim)) for dim in value.shape)
            shape = [int(dim) if dim.isdigit() else dim for dim in dims]
            value.shape = type(value.shape)(shape)


def _untraced(error: Exception, hint: str) -> str:
    """Why a network was not traced, in words."""
    fixed = re.findall(r"size\(\)\[(\d)\].* specialized it to be a constant \((\d+)\)", str(error))
    if not fixed:
        return one_line(_causes(error)[-1]) + hint
    found = " and ".join(
        f"the {AXES[int(axis)]} for the number {size}" for axis, size in dict.fromkeys(fixed)
    )
    way_out = "export with dynamic_batch=False" if fixed[0][0] == "0" else "export with a fixed size"
    return f"its code takes {found} (in a range, a comparison or a table of that size), so that it cannot vary: {way_out}"


def _untranslated(error: Exception) -> str:
    """Why a traced network has no ONNX form, with the operator."""
    reason = one_line(_causes(error)[-1])
    operator = re.search(r"target=torch\.ops\.([\w.]+)", "\n".join(str(one) for one in _causes(error)))
    if operator is None:
        return reason
    if "attribute type" in reason:  # a number that ONNX wants written down is computed from a shape
        reason = "ONNX has no form of it where its settings follow the image's size; export with a fixed size"
    return f"{operator[1]}: {reason}"


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it: the exporter wraps what first went wrong in pages of its own."""
    return [error, *(_causes(error.__cause__) if error.__cause__ is not None else [])]


@contextlib.contextmanager
def silence() -> Iterator[None]:
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
