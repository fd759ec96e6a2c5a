"""Goldens: a few inputs and what the student made of them here, beside the exported files, to be replayed on a device.

One file, `goldens.npz`, readable by numpy alone. `input_0` (of several inputs `input_1`, ...): N inputs, pictures as uint8
levels (value = level / 127.5 - 1), others as they are. `output`: what torch made of them, uint16 in 1/256 of a level of 255.
`student-int8.onnx` and the like: what that file made here, where it is meant to differ from torch.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.data.pictures import printable
from ganshrink.exporters import EXPORTERS, Exporter
from ganshrink.exporters.network import ExportedGenerator, OnnxGenerator
from ganshrink.exporters.note import read_note
from ganshrink.exporters.parity import psnr_of_mse
from ganshrink.exporters.picture import are_pictures, from_picture, to_picture
from ganshrink.exporters.probes import probes
from ganshrink.system.atomic import replacing
from ganshrink.system.generator import as_tuple, generate
from ganshrink.system.spelling import one_line
from ganshrink.system.values import converting

FILE = "goldens.npz"
COUNT = 3
STEPS = 256  # of a level
LEVELS = 1.0  # by which a file may be off: rounding to whole levels on either side
LEAST_PSNR = 40.0  # of a file in integers, whose kernels round otherwise on other processors
ONNX = ".onnx"
ONNX_RUNTIMES = ("onnxruntime", "openvino")  # that run ONNX files
RUNTIMES = tuple(dict.fromkeys(one.runtime for one in EXPORTERS.values() if one.open))
OTHERS = "teacher"  # files of these networks are not the student's

Inputs = tuple[Tensor, ...]


def write_goldens(
    path: Path,
    student: nn.Module,
    example: Sequence[Tensor],
    inputs: Sequence[Any],
    *,
    about: Mapping[str, str],
) -> None:
    """Write the goldens of a student.

    Args:
        student: a network in evaluation, in [-1, 1] on both sides.
        example: its inputs, batch first.
        inputs: real ones, each (C, H, W) or a tuple; random ones fill them up to three.
        about: what is said of them, such as which weights made them.
    """
    given = [tuple(t[None] for t in as_tuple(one)) for one in inputs]
    drawn = [tuple(t[:1] for t in batch) for batch in probes(tuple(example), [])]
    chosen = [*given, *drawn][:COUNT]
    pictures = are_pictures(tuple(example))
    kept, exact = [], []
    for one in chosen:
        parts = [to_picture(t, torch.uint8) if p else t for t, p in zip(one, pictures, strict=True)]
        kept.append(parts)
        exact.append(tuple(from_picture(t) if p else t for t, p in zip(parts, pictures, strict=True)))
    arrays = {f"input_{n}": torch.cat(parts).numpy() for n, parts in enumerate(zip(*kept, strict=True))}
    arrays["output"] = _stored(_made(student, exact))
    arrays["about"] = np.array(json.dumps(dict(about)))
    _write(path, arrays)


def add_made(path: Path, file: Path) -> None:
    """Put into the goldens at `path` what an exported file makes of them here."""
    goldens = read_goldens(path)
    arrays = _arrays(path)
    arrays[file.name] = _stored(_made(open_file(file, "onnxruntime"), goldens.inputs))
    _write(path, arrays)


@dataclass(frozen=True)
class Goldens:
    """Inputs, in [-1, 1] where they are pictures; by file, or under `output`, what was made of them: levels (N, C, H, W)."""

    inputs: list[Inputs]
    made: dict[str, Tensor]
    about: dict[str, str]


def read_goldens(path: str | Path) -> Goldens:
    """The goldens of a file, or of the folder that it is in.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if the file is none of goldens.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {printable(path)}: ganshrink export RUN writes it beside student.onnx; copy both"
        )
    arrays = _arrays(path)
    try:
        about = dict(json.loads(str(arrays.pop("about", "{}"))))
        parts = [torch.from_numpy(arrays.pop(name)) for name in sorted(arrays) if name.startswith("input_")]
        made = {name: torch.from_numpy(array.astype(np.float64) / STEPS) for name, array in arrays.items()}
        count = len(made["output"])
        if not count or {len(part) for part in parts} != {count}:
            raise ValueError(f"{count} outputs, of inputs {[len(part) for part in parts]}")
    except (KeyError, TypeError, ValueError) as error:
        raise _no_goldens(path, error) from None
    parts = [from_picture(part) if part.dtype == torch.uint8 else part for part in parts]
    return Goldens([tuple(part[n : n + 1] for part in parts) for n in range(count)], made, about)


def verify(
    folder: str | Path,
    *,
    runtime: str = "onnxruntime",
    levels: float | None = None,
    outputs: str | Path | None = None,
) -> dict[str, Any]:
    """Replay the goldens of a folder in a runtime here, in every file of the student beside them that it runs.

    Args:
        runtime: `onnxruntime`, `openvino`, which also takes the ONNX files, `ncnn` or `executorch`.
        levels: of 255 that an output may be off; none: 1, and of files in integers at least 40 dB instead.
        outputs: a .npy of what another runtime made of the goldens elsewhere, (N, C, H, W) in [-1, 1] or uint8 levels;
            nothing is then run here.

    Returns:
        `passed`, and `files`, each with `file`, `runtime`, `passed`, `most_levels`, `psnr_db`, `allowed`, `against`
        (`torch`, or the file itself where it was made); of one that does not run `error`.

    Raises:
        FileNotFoundError: if there are no goldens, no files, or no such outputs.
        ValueError: for an unknown runtime, or outputs of another form.
    """
    folder = Path(folder)
    goldens = read_goldens(folder)
    if outputs is not None:
        return _answer([_judged(Path(outputs).name, "elsewhere", goldens, _outputs(Path(outputs)), levels)])
    if runtime not in RUNTIMES:
        raise ValueError(
            f"--runtime {runtime}: write {', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]}; for others run the goldens there, "
            "and give what was made by --outputs"
        )
    files = files_for(folder, runtime)
    if not files:
        names = ", ".join(_names(runtime))
        raise FileNotFoundError(
            f"{printable(folder)} holds no exported student for {runtime}: none of {names} beside {FILE}"
        )
    rows = []
    for file in files:
        try:
            made = _made(open_file(file, runtime), goldens.inputs)
        except ValueError as error:
            rows.append({"file": file.name, "runtime": runtime, "passed": False, "error": one_line(error)})
            continue
        rows.append(_judged(file.name, runtime, goldens, made, levels))
    return _answer(rows)


def files_for(folder: Path, runtime: str) -> list[Path]:
    """The student's files in a folder that a runtime runs: those of its formats, and ONNX files of any name."""
    found = {file for name in _names(runtime) for file in folder.glob(name)}
    return sorted(file for file in found if not file.name.startswith(OTHERS))


def _names(runtime: str) -> list[str]:
    """Patterns of the names of files."""
    own = [one.file for one in _formats(runtime) if Path(one.file).suffix != ONNX]
    return [f"*{ONNX}"] * (runtime in ONNX_RUNTIMES) + own


def _formats(runtime: str) -> list[Exporter]:
    return [one for one in EXPORTERS.values() if one.runtime == runtime]


def open_file(file: Path, runtime: str) -> Callable[..., Tensor]:
    """An exported file as a network in [-1, 1] on both sides."""
    note = read_note(file)
    if file.suffix == ONNX:
        network: nn.Module = OnnxGenerator(file, image_io=note.image_io, runtime=runtime)  # type: ignore[arg-type]
    else:
        [opened] = [one.open for one in _formats(runtime) if one.file == file.name]
        assert opened is not None
        network = ExportedGenerator(opened(file, None), image_io=note.image_io)
    return converting(network, note.values)


def _answer(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"passed": all(row["passed"] for row in rows), "files": rows}


def _judged(name: str, runtime: str, goldens: Goldens, made: Tensor, levels: float | None) -> dict[str, Any]:
    """How far outputs, in levels, are from what they should be."""
    own = name in goldens.made
    wanted = goldens.made[name if own else "output"]
    if made.shape != wanted.shape:
        shapes = f"{tuple(made.shape)} where {tuple(wanted.shape)} was made of the goldens"
        return {"file": name, "runtime": runtime, "passed": False, "error": f"outputs of shape {shapes}"}
    off = (made - wanted).abs()
    most, db = float(off.max()), psnr_of_mse(float(off.square().mean()))
    if own and levels is None:
        passed, allowed = db >= LEAST_PSNR, f"at least {LEAST_PSNR:.0f} dB"
    else:
        limit = LEVELS if levels is None else levels
        passed, allowed = most <= limit, f"at most {limit:g} of 255 levels"  # NaN is no number at most that
    return {
        "file": name,
        "runtime": runtime,
        "passed": bool(passed),
        "most_levels": most if np.isfinite(most) else None,
        "psnr_db": db if np.isfinite(db) else None,
        "allowed": allowed,
        "against": "itself where it was made" if own else "torch",
    }


def _made(network: Callable[..., Tensor], inputs: Sequence[Inputs]) -> Tensor:
    """Levels (N, C, H, W) in float64."""
    with torch.no_grad():
        images = [generate(network, one) for one in inputs]  # type: ignore[arg-type]
    return to_picture(torch.cat(images).clamp(-1, 1)).double()


def _outputs(path: Path) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {printable(path)} of outputs")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{printable(path)} is no .npy file: {one_line(error)}") from None
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 4
        or not (array.dtype.kind == "f" or array.dtype == np.uint8)
    ):
        raise ValueError(
            f"{printable(path)} must hold one array (N, C, H, W), floats in [-1, 1] or uint8 levels"
        )
    made = torch.from_numpy(array.astype(np.float64))
    return made if array.dtype == np.uint8 else (made.clamp(-1, 1) + 1) * 127.5


def _stored(levels: Tensor) -> np.ndarray:
    return (levels.nan_to_num() * STEPS).round().numpy().astype(np.uint16)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _no_goldens(path, error) from None


def _no_goldens(path: Path, error: Exception) -> ValueError:
    why = one_line(error)
    return ValueError(f"{printable(path)} holds no goldens ({why}): ganshrink export RUN writes them anew")


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with replacing(path) as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
