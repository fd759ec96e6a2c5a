"""How to use each file that a run exported: a command, and the few lines of Python that run it anywhere."""

from typing import Any

from ganshrink.reports.files import RunFiles, dig, number

CODE = """\
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
{read}
image = session.run(None, {{session.get_inputs()[0].name: batch}})[0]
{write}
"""


def usage(run: RunFiles) -> list[dict[str, str]]:
    """Of every student's file in parity.json: `file`, `command`, `code` (empty where its input is not one picture), and
    `sizes`, which it takes."""
    found = []
    for name, entry in run.get("parity.json").items():
        if name.startswith("student") and name.endswith(".onnx") and isinstance(entry, dict):
            found.append(
                {
                    "file": name,
                    "command": f"ganshrink predict {run.folder / name} {_arguments(entry)}",
                    "code": _code(run, name, entry),
                    "sizes": _sizes(run, entry),
                }
            )
    return found


def _arguments(entry: dict[str, Any]) -> str:
    return "OUT --count 16 --seed 0" if entry.get("input_kind") == "latent" else "PICTURES OUT"


def _sizes(run: RunFiles, entry: dict[str, Any]) -> str:
    """Which sizes a file takes, in words."""
    step, least = number(entry, "size_multiple"), number(entry, "size_least")
    if step:
        return f"Height and width are free, in multiples of {step:g} from {least or step:g} on."
    shape = dig(run.get("cost.json"), "input")
    if entry.get("input_kind") == "latent" and isinstance(shape, list):
        return f"It takes vectors of {shape[0]} normal numbers."
    return f"It takes {shape[2]}×{shape[1]} pixels." if _is_picture(shape) else "It takes one size."


def _is_picture(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) == 3 and all(isinstance(side, int) for side in shape)


def _code(run: RunFiles, file: str, entry: dict[str, Any]) -> str:
    shape = dig(run.get("cost.json"), "input")
    taken, given = (str(entry.get(key, "[-1, 1]")) for key in ("input_values", "output_values"))
    reading, writing = _encoded(taken), _decoded(given)
    write = (
        f"pixels = {writing.format('image[0].transpose(1, 2, 0)')}\n"
        'Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8).squeeze()).save("out.png")'
    )
    if entry.get("input_kind") == "latent" and isinstance(shape, list) and writing:
        read = f"batch = np.random.default_rng(0).standard_normal((1, {shape[0]}), np.float32)"
        return CODE.format(file=file, read=read, write=write)
    if (
        entry.get("input_kind", "image") != "image"
        or not _is_picture(shape)
        or shape[0] not in (1, 3)
        or not reading
        or not writing
    ):
        return ""
    size = "" if number(entry, "size_multiple") else f".resize(({shape[2]}, {shape[1]}))"
    mode = "RGB" if shape[0] == 3 else "L"
    pixels = "pixels.transpose(2, 0, 1)[None]" if shape[0] == 3 else "pixels[None, None]"
    kind = "np.uint8" if taken.endswith("uint8") else "np.float32"
    read = (
        f'pixels = np.array(Image.open("photo.jpg").convert("{mode}"){size})\n'
        f"batch = {reading.format(pixels)}.astype({kind})"
    )
    return CODE.format(file=file, read=read, write=write)


def _encoded(values: str) -> str:
    """The expression that makes a file's values of 0..255 ones; empty for values that it would take more lines for."""
    known = {"[-1, 1]": "({} / 127.5 - 1)", "[0, 1]": "({} / 255)", "[0, 255]": "{}"}
    return known.get(values, "{}" if values.startswith("0..255") else "")


def _decoded(values: str) -> str:
    """The expression that makes 0..255 ones of a file's values, as above."""
    known = {"[-1, 1]": "({} + 1) * 127.5", "[0, 1]": "{} * 255", "[0, 255]": "{}"}
    return known.get(values, "{}.astype(np.float32)" if values.startswith("0..255") else "")
