"""ONNX by torch's own exporter: silent, one file, written only when ONNX Runtime agrees with torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.exporter import Exporter
from ganshrink.exporters.graph import capture, prepare, values_told, write
from ganshrink.exporters.note import note_of
from ganshrink.exporters.parity import check_parity
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.probes import probes, special
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

    Returns:
        the file's entry in parity.json: `max_abs_diff` and `psnr_db` on 0..255 images, `inputs`, `opset`,
        `bytes`, `input_kind` (`image` or `labels`; None of several inputs), and how it was made; with `dynamic_size` also
        `size_multiple` and `size_least`: it holds for heights and widths that are multiples of the one and not below the
        other (in the file's metadata too).

    Raises:
        ValueError: the network does not export, at this size or with a free one, or the file computes something else:
            no new file is left.
    """
    path = Path(path)
    graph, encode, given = prepare(model, example, image_io, dynamic_size)
    program, sizes = capture(graph, encode, given, dynamic_batch, dynamic_size)
    about = values_told(graph, image_io) | ({} if sizes is None else sizes.about())
    tried = [] if sizes is None else sizes.compared(graph, encode(given))
    batches = [encode(batch) for batch in probes(given, tried, inputs, free_batch=dynamic_batch)]
    hard = special(given, inputs, free_batch=dynamic_batch)
    with replacing(path) as part:
        note = note_of(model, given, image_io, sizes, spec)
        found = write(program, part, opset, about=about | note.about())
        entry = check_parity(part, graph, batches, {name: encode(batch) for name, batch in hard.items()})
        entry |= {"opset": found, "bytes": part.stat().st_size, "image_io": image_io}
        entry["input_kind"] = note.input and note.input.kind
        entry |= {"dynamic_batch": dynamic_batch, "dynamic_size": dynamic_size, **about}
    return entry


ONNX = Exporter("student.onnx", export_onnx, "one ONNX file, compared with torch in ONNX Runtime")
