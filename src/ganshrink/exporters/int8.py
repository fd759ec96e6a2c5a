"""A network in integers as an ONNX file: QuantizeLinear and DequantizeLinear around its convolutions, which runtimes
turn into integer arithmetic. Compared with torch on real images in every runtime that is there."""

import importlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.graph import capture, prepare, values_told, write
from ganshrink.exporters.note import note_of
from ganshrink.exporters.parity import check_finite, levels, psnr_of_mse
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.probes import Inputs, probes, special
from ganshrink.exporters.runtime import (
    PACKAGES,
    has_openvino,
    infer_openvino,
    load_optional,
    open_openvino,
    open_session,
    run_session,
    runtime_version,
)
from ganshrink.system.atomic import replacing
from ganshrink.system.generator import Input, generate

logger = logging.getLogger(__name__)

MIN_PSNR_DB = 40.0  # a runtime sums integers, torch floats: a number now and then lands one level off
# what ONNX Runtime fuses between a DequantizeLinear and a QuantizeLinear
FUSED = frozenset(
    {"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid", "Softmax", "Where"}
)
PRODUCTS = frozenset({"MatMul", "Gemm"})  # and behind one alone
# what it moves a DequantizeLinear or a QuantizeLinear past, since numbers only change places there
PASSED = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
Runtime = Callable[[Inputs], Tensor]


class ParityError(ValueError):
    """The file computes something else than torch, or rounds so coarsely that nobody can tell."""


def export_int8(
    deployed: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: Path | str,
    *,
    inputs: Sequence[Input] = (),
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    image_io: ImageIO | None = None,
    spec: InputSpec | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write `path`, one self-contained ONNX file with integers inside; compared with torch first.

    Args:
        deployed: what `ganshrink.quant.deploy` made; left as it is.
        example, dynamic_batch, dynamic_size, image_io, spec, provenance: as for `export_onnx`.
        inputs: real inputs (C, H, W) or (B, C, H, W) to compare on, 32 or more for a figure that says something. Without
            any, random ones are taken, and `images` is 0.

    Returns:
        the file's entry in parity.json: `psnr_db` (peak 255, all images together) and `worst_psnr_db` (of one image)
        in ONNX Runtime, `images`, `bytes`, `runtimes` (the same for each that is installed, with its version, or why it
        `failed`), and how the file was made.

    Raises:
        ValueError: the network does not export, or nothing in it is in integers.
        ParityError: ONNX Runtime computes something else. No new file is left in either case.
    """
    path = Path(path)
    load_optional(*PACKAGES)
    graph, encode, given = prepare(deployed, example, image_io, dynamic_size)
    program, sizes = capture(graph, encode, given, dynamic_batch, dynamic_size)
    about = values_told(graph, image_io) | ({} if sizes is None else sizes.about())
    tried = [] if sizes is None else sizes.compared(graph, encode(given))
    random = [encode(batch) for batch in probes(given, tried, free_batch=dynamic_batch)]
    real = [encode(batch) for batch in probes(given, tried, inputs, free_batch=dynamic_batch)[len(random) :]]
    hard = special(given, inputs, free_batch=dynamic_batch)
    with replacing(path) as part:
        note = note_of(deployed, given, image_io, sizes, spec, provenance)
        found = write(program, part, rewrite=suit_runtimes, about=about | note.about())
        check_integers(program, part)
        runtimes: dict[str, dict[str, Any]] = {}
        session = open_session(part)
        run = partial(run_session, session)
        for name, batch in hard.items():
            _check_numbers(run, graph, encode(batch), name)
        runtimes["onnxruntime"] = _compare("onnxruntime", run, graph, random, real)
        if has_openvino():
            runtimes["openvino"] = _in_openvino(part, graph, random, real)
        for name, entry in runtimes.items():
            entry["version"] = runtime_version(name)
        size = part.stat().st_size
    for name, entry in runtimes.items():
        if entry.get("psnr_db", math.inf) < MIN_PSNR_DB:
            logger.warning("%s differs from torch: %.1f dB on %d images", name, entry["psnr_db"], len(real))
    return {
        **{key: value for key, value in runtimes["onnxruntime"].items() if key != "version"},
        "images": sum(len(batch[0]) for batch in real),
        "bytes": size,
        "input_kind": note.input and note.input.kind,
        "runtimes": runtimes,
        "opset": found,
        "image_io": image_io,
        "dynamic_batch": dynamic_batch,
        "dynamic_size": dynamic_size,
        **about,
    }


def check_integers(program: torch.export.ExportedProgram, file: Path) -> None:
    """Refuse a file that computes the same in float: no comparison of numbers would tell.

    Numbers of operators are not compared: equal ones are merged, such as the roundings of one tensor for two convolutions.

    Raises:
        ValueError: nothing in the network is in integers, or the file has none of its roundings or of its constants.
    """
    onnx = load_optional("onnx")
    made = Counter(node.op_type for node in onnx.load(file).graph.node)
    asked = Counter(node.target for node in program.graph.nodes)
    rounding, meaning = torch.ops.ganshrink.quantize.default, torch.ops.ganshrink.dequantize.default
    if not asked[meaning]:  # of weights at least: where every input stays in float, nothing is rounded
        raise ValueError("nothing in the network is in integers: ganshrink.quant.deploy makes it so")
    for kind, operator in (("QuantizeLinear", rounding), ("DequantizeLinear", meaning)):
        if asked[operator] and not made[kind]:
            raise ValueError(
                f"the file is not in integers: it has no {kind}, and {asked[operator]} belong there"
            )


def suit_runtimes(graph: Any) -> None:
    """Rewrite an ONNX graph (of onnx_ir), in place, to the same numbers in a form that runtimes take, and take fast."""
    pad_bytes(graph)
    spread_scales(graph)


def spread_scales(graph: Any) -> None:
    """Write the scales of channels out, as a difference and a product, where ONNX Runtime would fuse an operator between
    two grids into an integer one: that one takes one scale for all channels, and the file would be refused."""
    ir = importlib.import_module("onnx_ir")
    for node in list(graph):
        if (
            node.op_type != "DequantizeLinear"
            or node.inputs[0].is_initializer()
            or "axis" not in node.attributes
        ):
            continue
        meant = node.outputs[0]
        if not any(map(_is_fused, _readers(node))):
            continue
        scale, zero = (value.const_value.numpy() for value in node.inputs[1:3])
        sides = [1] * len(meant.shape)
        sides[node.attributes["axis"].as_int()] = -1
        constants = {
            "one": np.float32(1),
            "none": zero.dtype.type(0),
            "offset": zero.astype(np.float32).reshape(sides),
            "factor": scale.reshape(sides),
        }
        values = {
            name: ir.val(f"{meant.name}.{name}", const_value=ir.tensor(number))
            for name, number in constants.items()
        }
        for value in values.values():
            graph.initializers.add(value)
        numbers = ir.node("DequantizeLinear", [node.inputs[0], values["one"], values["none"]])
        moved = ir.node("Sub", [numbers.outputs[0], values["offset"]])
        scaled = ir.node("Mul", [moved.outputs[0], values["factor"]])
        for made in (numbers, moved, scaled):
            made.outputs[0].name = f"{meant.name}.{made.op_type}"
            made.outputs[0].dtype, made.outputs[0].shape = meant.dtype, meant.shape
        graph.insert_before(node, [numbers, moved, scaled])
        for reader, place in list(meant.uses()):
            reader.replace_input_with(place, scaled.outputs[0])
        graph.remove(node, safe=True)


def _is_fused(node: Any) -> bool:
    """Whether ONNX Runtime may put an integer operator in place of this one, whose numbers are a DequantizeLinear's."""
    rounded = any(reader.op_type == "QuantizeLinear" for reader in _readers(node))
    return node.op_type in PRODUCTS or (node.op_type in FUSED and rounded)


def _readers(node: Any) -> Iterator[Any]:
    """What reads the numbers of an operator, also where they have changed places in between."""
    for reader, _ in node.outputs[0].uses():
        yield reader
        if reader.op_type in PASSED:
            yield from _readers(reader)


def pad_bytes(graph: Any) -> None:
    """Let a Pad that mirrors or repeats pixels work on the bytes behind it: rounding first gives the same numbers.

    A quarter of the memory moves, and ONNX Runtime can drop a ReLU in front of a rounding whose least level is 0.
    """
    for rounding in list(graph):
        pad = rounding.inputs[0].producer() if rounding.op_type == "QuantizeLinear" else None
        if pad is None or pad.op_type != "Pad" or len(pad.outputs[0].uses()) != 1:
            continue
        if "mode" not in pad.attributes or pad.attributes["mode"].value not in ("reflect", "edge"):
            continue
        given, padded, levels = pad.inputs[0], pad.outputs[0], rounding.outputs[0]
        readers = list(levels.uses())
        rounding.replace_input_with(0, given)
        pad.replace_input_with(0, levels)
        for node, place in readers:
            node.replace_input_with(place, padded)
        padded.dtype, levels.shape = levels.dtype, given.shape
    graph.sort()


def _check_numbers(run: Runtime, graph: nn.Module, batch: Inputs, name: str) -> None:
    with torch.no_grad():
        check_finite(run(batch), generate(graph, batch), batch, name, file="INT8")


def _in_openvino(
    path: Path, graph: nn.Module, random: Sequence[Inputs], real: Sequence[Inputs]
) -> dict[str, Any]:
    """Figures in OpenVINO, or under `failed` why it does not run the file: it is no condition of a file."""
    try:
        request = open_openvino(path)
        return _compare("openvino", partial(infer_openvino, request), graph, random, real)
    except ValueError as error:
        logger.warning("the INT8 file cannot be compared in OpenVINO: %s", error)
        return {"failed": str(error)}


def _compare(
    name: str, runtime: Runtime, graph: nn.Module, random: Sequence[Inputs], real: Sequence[Inputs]
) -> dict[str, float]:
    """Figures over the real images, or over the random ones where there are none; those are run in any case."""
    errors = [_error(name, runtime, graph, batch) for batch in (*real, *random)]
    counted = errors[: len(real)] or errors
    psnr = psnr_of_mse(sum(mse for mse, _, _ in counted) / len(counted))
    if name == "onnxruntime" and not psnr >= MIN_PSNR_DB:
        raise ParityError(
            f"the INT8 file differs from torch in ONNX Runtime: {psnr:.1f} dB on {len(counted)} images, at least "
            f"{MIN_PSNR_DB:.0f} dB are asked for: rounding is too coarse to come out alike; leave "
            "layers in float (exclude), or finetune"
        )
    return {
        "psnr_db": psnr,
        "worst_psnr_db": min(psnr_of_mse(mse) for mse, _, _ in counted),
        "max_abs_diff": max(largest for _, largest, _ in counted),
        "mean_abs_diff": sum(mean for _, _, mean in counted) / len(counted),
    }


def _error(name: str, runtime: Runtime, graph: nn.Module, batch: Inputs) -> tuple[float, float, float]:
    """Mean square, largest and mean difference of a batch, in levels of 255."""
    with torch.no_grad():
        wanted = generate(graph, batch)
    given = runtime(batch)
    if given.shape != wanted.shape:
        shapes = f"{tuple(given.shape)} where torch gives {tuple(wanted.shape)}"
        raise ValueError(f"the INT8 file gives an image of shape {shapes} in {name}")
    diff = (levels(given, graph) - levels(wanted, graph)).abs()
    return float(diff.square().mean()), float(diff.max()), float(diff.mean())
