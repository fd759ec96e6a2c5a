"""How to use each file that a run exported: a command, and the few lines of Python that run it anywhere."""

from typing import Any

from ganshrink.reports.files import RunFiles, dig, number

ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
image = session.run(None, {{session.get_inputs()[0].name: batch}})[0]
"""

CODE = """\
import numpy as np
{imports}
from PIL import Image

{read}

{run}

{write}
"""


def usage(run: RunFiles) -> list[dict[str, str]]:
    """Of every student's file in parity.json: `file`, `command` and what it `does`, `code` (empty where its input is not one
    picture, or none is known), and `sizes`, which it takes."""
    found = []
    for name, entry in run.get("parity.json").items():
        if name.startswith("student") and isinstance(entry, dict):
            onnx = name.endswith(".onnx")
            lines = ONNX.format(file=name) if onnx else str(entry.get("python", ""))
            found.append(
                {
                    "file": name,
                    "sizes": _sizes(run, entry),
                    **(_predicting(run, name, entry) if onnx else _verifying(run, entry)),
                    "code": _code(run, lines, entry),
                }
            )
    return found


def _predicting(run: RunFiles, file: str, entry: dict[str, Any]) -> dict[str, str]:
    does = "On pictures, folders of them, or in tiles (--tile):"
    return {"does": does, "command": f"ganshrink predict {run.folder / file} {_arguments(entry)}"}


def _verifying(run: RunFiles, entry: dict[str, Any]) -> dict[str, str]:
    if entry.get("unchecked"):
        does = "It was not run here: take goldens.npz along, save what the device makes of them, and compare:"
        return {"does": does, "command": f"ganshrink verify {run.folder} --outputs MADE.npy"}
    if not (runtime := entry.get("runtime")):
        return {"does": "", "command": ""}
    does = "Does it compute on your device what it did here?"
    return {"does": does, "command": f"ganshrink verify {run.folder} --runtime {runtime}"}


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


def _code(run: RunFiles, lines: str, entry: dict[str, Any]) -> str:
    shape = dig(run.get("cost.json"), "input")
    taken, given = (str(entry.get(key, "[-1, 1]")) for key in ("input_values", "output_values"))
    reading, writing = _encoded(taken), _decoded(given)
    if not lines or not writing or not isinstance(shape, list):
        return ""
    kind = entry.get("input_kind", "image")
    if kind == "latent":
        read = f"batch = np.random.default_rng(0).standard_normal((1, {shape[0]}), np.float32)"
    elif kind == "image" and _is_picture(shape) and shape[0] in (1, 3) and reading:
        size = "" if number(entry, "size_multiple") else f".resize(({shape[2]}, {shape[1]}))"
        mode = "RGB" if shape[0] == 3 else "L"
        pixels = "pixels.transpose(2, 0, 1)[None]" if shape[0] == 3 else "pixels[None, None]"
        dtype = "np.uint8" if taken.endswith("uint8") else "np.float32"
        read = (
            f'pixels = np.array(Image.open("photo.jpg").convert("{mode}"){size})\n'
            f"batch = {reading.format(pixels)}.astype({dtype})"
        )
    else:
        return ""
    write = (
        f"pixels = {writing.format('image[0].transpose(1, 2, 0)')}\n"
        'Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8).squeeze()).save("out.png")'
    )
    imports, _, rest = lines.partition("\n\n")
    return CODE.format(imports=imports, read=read, run=rest.strip(), write=write)


def _encoded(values: str) -> str:
    """The expression that makes a file's values of 0..255 ones; empty for values that it would take more lines for."""
    known = {"[-1, 1]": "({} / 127.5 - 1)", "[0, 1]": "({} / 255)", "[0, 255]": "{}"}
    return known.get(values, "{}" if values.startswith("0..255") else "")


def _decoded(values: str) -> str:
    """The expression that makes 0..255 ones of a file's values, as above."""
    known = {"[-1, 1]": "({} + 1) * 127.5", "[0, 1]": "{} * 255", "[0, 255]": "{}"}
    return known.get(values, "{}.astype(np.float32)" if values.startswith("0..255") else "")
