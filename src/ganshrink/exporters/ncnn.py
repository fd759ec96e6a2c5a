"""ncnn, for phones: made of the ONNX file by pnnx, one picture at a time."""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.case import single_case
from ganshrink.exporters.exporter import Exporter, Runner
from ganshrink.exporters.onnx import export_onnx
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.probes import Inputs, resized, size_of
from ganshrink.exporters.runtime import EXTRAS, load_optional
from ganshrink.exporters.sidecar import place, write_note
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.generator import Input, as_tuple

LONGEST_S = 600  # pnnx takes seconds, and for ever on some networks


def export_ncnn(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: Path | str,
    *,
    inputs: Sequence[Input] = (),
    dynamic_size: bool = False,
    image_io: ImageIO | None = None,
    spec: InputSpec | None = None,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write `path` (.param), its weights in float32 (.bin) and what it takes (.param.json); inputs are `in0`, `in1`, ...,
    without a batch, the output is `out0`.

    Args:
        image_io: None or `float32`; the rest as for `export_onnx`.

    Returns:
        the file's entry in parity.json, as that of `export_onnx`, from ncnn.

    Raises:
        ValueError: the network does not convert, or ncnn computes something else: no new file is left.
    """
    path = Path(path)
    load_optional(*EXTRAS["ncnn"], extra="ncnn")
    told: dict[str, Any] = {"inputs": inputs, "image_io": image_io, "spec": spec, "provenance": provenance}
    with tempfile.TemporaryDirectory() as folder:
        one, made = tuple(t[:1] for t in as_tuple(example)), Path(folder) / "g.ncnn.param"
        single_case(model, one, sizes=None, file="ncnn", **told)  # what it refuses, it refuses at once
        entry = export_onnx(
            model, one, Path(folder) / "g.onnx", dynamic_batch=False, dynamic_size=dynamic_size, **told
        )
        sizes = Sizes(entry["size_multiple"], entry["size_least"]) if dynamic_size else None
        case = single_case(model, one, sizes=sizes, file="ncnn", **told)
        _convert(Path(folder), case.given, dynamic_size)
        found = case.entry(open_run(made), "ncnn")
        size = place(made, path) + place(made.with_suffix(".bin"), path.with_suffix(".bin"))
    write_note(path, case.note)
    return found | {"bytes": size}


def _convert(folder: Path, example: Inputs, dynamic_size: bool) -> None:
    """g.ncnn.param and g.ncnn.bin of the g.onnx in a folder."""
    command = [load_optional("pnnx", extra="ncnn").EXEC_PATH, "g.onnx", "fp16=0"]
    if dynamic_size:  # a second size tells pnnx which sides are free
        base = size_of(example)
        twice = [resized(t, 1, (2 * base[0], 2 * base[1]), base) for t in example]
        command += [f"inputshape={_shapes([t.shape for t in example])}", f"inputshape2={_shapes(twice)}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"pnnx does not convert the network: it was not done after {LONGEST_S} s") from None
    if done.returncode or not (folder / "g.ncnn.bin").is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1] if lines else f"it ended with {done.returncode}"
        raise ValueError(f"pnnx does not convert the network: {why}")


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ",".join(f"[{','.join(str(side) for side in shape)}]f32" for shape in shapes)


def open_run(path: Path, threads: int | None = None) -> Runner:
    """A .param file in ncnn on the CPU, in float32.

    Raises:
        ValueError: it has an operator that ncnn lacks.
    """
    ncnn = load_optional("ncnn", extra="ncnn")
    net = ncnn.Net()
    options = net.opt
    options.use_vulkan_compute = False
    for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(options, f"use_{half}", False)
    if threads is not None:
        options.num_threads = threads
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ValueError("ncnn does not take the file: it has an operator that ncnn lacks, or is broken")

    def run(batch: Inputs) -> Tensor:
        extractor = net.create_extractor()
        given = [np.ascontiguousarray(tensor[0].numpy()) for tensor in batch]
        for place_, array in enumerate(given):
            extractor.input(f"in{place_}", ncnn.Mat(array).clone())  # the array need not outlive this call
        failed, image = extractor.extract("out0")
        if failed:
            raise ValueError(f"ncnn cannot run the file on inputs of shape {[a.shape for a in given]}")
        return torch.from_numpy(np.array(image))[None]

    return run


PYTHON = """\
import ncnn

net = ncnn.Net()
net.load_param("{file}")
net.load_model("{file}".replace(".param", ".bin"))
extractor = net.create_extractor()
extractor.input("in0", ncnn.Mat(np.ascontiguousarray(batch[0])).clone())
image = np.array(extractor.extract("out0")[1])[None]
"""

NCNN = Exporter(
    "student.ncnn.param",
    export_ncnn,
    "ncnn's two files in float32 for phones, compared with torch in ncnn",
    beside=("student.ncnn.bin", "student.ncnn.param.json"),
    extra="ncnn",
    runtime="ncnn",
    open=open_run,
    python=PYTHON,
)
