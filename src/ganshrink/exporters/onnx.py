"""ONNX by torch's own exporter: silent, one file, written only when ONNX Runtime agrees with torch."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.case import Case
from ganshrink.exporters.exporter import Exporter, Runner
from ganshrink.exporters.graph import capture, prepare, values_told, write
from ganshrink.exporters.note import note_of
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.runtime import PACKAGES, load_optional, open_session, run_session
from ganshrink.system.atomic import replacing
from ganshrink.system.generator import Input


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
    spec: InputSpec | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write `path`, one self-contained ONNX file: input `input` (of several `input_0`, `input_1`, ...), output `image`;
    compared with torch first.

    Args:
        model: a generator, left as it is: what is exported is a float32 copy in evaluation mode on the CPU.
        example: (B, C, H, W) in [-1, 1], or one-hot; several of them, or batches of any other shape, for a generator of
            several inputs. Only shapes and types matter, whether it is one-hot, and which whole numbers there are.
        dynamic_batch: any batch size. `dynamic_size`: any height and width that the network takes; refused where its
            code computes otherwise at some of them.
        image_io: `uint8` or `float32` puts the pre- and post-processing inside the graph, which then takes
            and gives 0..255 images of that type (a one-hot input stays as it is, of several inputs all but those of three
            channels). None: [-1, 1] on both sides.
        inputs: real inputs (C, H, W) or (B, C, H, W) in the range of `example`, tuples for a generator of several;
            compared on beside random ones.
        opset: of the ONNX operators; None takes torch's choice. Recorded in the answer.
        spec: what pictures it takes, for the file's metadata; None: as far as the example tells.
        provenance: who made it of what, and its licence, for the metadata too.

    Returns:
        the file's entry in parity.json: `max_abs_diff` and `psnr_db` on 0..255 images, `inputs`, `opset`,
        `bytes`, `pictures` (the difference on the real inputs), `input_kind` (`image` or `labels`; None of several inputs),
        and how it was made; with `dynamic_size` also `size_multiple` and `size_least`: it holds for heights and widths that
        are multiples of the one and not below the other (in the file's metadata too).

    Raises:
        ValueError: the network does not export, at this size or with a free one, or the file computes something else:
            no new file is left.
    """
    path = Path(path)
    load_optional(*PACKAGES)
    graph, encode, given = prepare(model, example, image_io, dynamic_size)
    program, sizes = capture(graph, encode, given, dynamic_batch, dynamic_size)
    note = note_of(model, given, image_io, sizes, spec, provenance)
    case = Case(graph, encode, given, inputs, image_io, sizes, dynamic_batch, note)
    about = values_told(graph, image_io) | ({} if sizes is None else sizes.about())
    with replacing(path) as part:
        found = write(program, part, opset, about=about | note.about())
        entry = case.entry(open_run(part), "ONNX")
        return entry | {"opset": found, "bytes": part.stat().st_size}


def open_run(path: Path, threads: int | None = None) -> Runner:
    """An ONNX file in ONNX Runtime."""
    return partial(run_session, open_session(path, threads=threads))


ONNX = Exporter(
    "student.onnx",
    export_onnx,
    "one ONNX file, compared with torch in ONNX Runtime",
    extra="onnx",
    runtime="onnxruntime",
    open=open_run,
)
