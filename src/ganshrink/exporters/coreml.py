"""Core ML, for Apple's devices: converted here, and run on a Mac alone."""

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.case import single_case
from ganshrink.exporters.exporter import Exporter
from ganshrink.exporters.graph import silence
from ganshrink.exporters.instance_norm import OwnNorms, centred_norm
from ganshrink.exporters.note import KEY
from ganshrink.exporters.picture import ImageIO
from ganshrink.exporters.runtime import load_optional
from ganshrink.system.generator import Input
from ganshrink.system.spelling import one_line

logger = logging.getLogger(__name__)

UNCHECKED = "not checked here: Core ML runs on a Mac alone"


def export_coreml(
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
    """Write `path`, the folder of an .mlpackage for iOS 16, computing in float16: on a batch of one of the example's size.

    Args:
        image_io: None or `float32`; the rest as for `export_onnx`.

    Returns:
        the file's entry in parity.json, with `unchecked`: it was not compared with torch.

    Raises:
        ValueError: the network does not convert: no new file is left.
    """
    path = Path(path)
    with silence():  # it tells which parts of it are of a Mac
        coreml = load_optional("coremltools", extra="coreml")
    if dynamic_size:
        raise ValueError("Core ML files are written with one size: export coreml without dynamic_size")
    case = single_case(
        model,
        example,
        inputs=inputs,
        image_io=image_io,
        sizes=None,
        spec=spec,
        provenance=provenance,
        file="Core ML",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        try:
            with silence(), OwnNorms(centred_norm):
                program = torch.export.export(case.graph, case.example, strict=False).run_decompositions({})
            with silence():
                converted = coreml.convert(
                    program, convert_to="mlprogram", minimum_deployment_target=coreml.target.iOS16
                )
                converted.user_defined_metadata[KEY] = case.note.model_dump_json()
                converted.license = case.note.provenance.get("licence", "")
                converted.save(str(made))
        except Exception as error:  # coremltools passes on whatever an operator raises
            raise ValueError(f"the network does not convert to Core ML: {one_line(error)}") from error
        if path.is_dir():
            shutil.rmtree(path)
        made.rename(path)
    logger.warning("%s was %s", path.name, UNCHECKED)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return case.told() | {"bytes": size, "precision": "float16", "unchecked": UNCHECKED}


PYTHON = """\
import coremltools  # on a Mac

model = coremltools.models.MLModel("{file}")
names = model.get_spec().description
image = model.predict({{names.input[0].name: batch}})[names.output[0].name]
"""

COREML = Exporter(
    "student.mlpackage",
    export_coreml,
    "a Core ML package in float16 for Apple's devices; converted, not compared with torch here",
    extra="coreml",
    python=PYTHON,
)
