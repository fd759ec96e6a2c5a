"""What an exported file says of itself, so that it can be run on pictures where nothing else of its run is at hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.exporters.picture import ImageIO, is_one_hot
from ganshrink.exporters.runtime import load_optional
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.spelling import one_line
from ganshrink.system.values import Values, values_of

KEY = "ganshrink"  # in a file's metadata
FORMS = {".xml": "OpenVINO", ".param": "ncnn", ".pte": "ExecuTorch"}  # other suffixes are ONNX's


class FileNote(BaseModel):
    """How a picture becomes an input of the file, and its output a picture.

    Attributes:
        input: what pictures or latent vectors it takes; None where its input is not one of these.
        values: black and white of what it takes and gives, where `image_io` is None.
        image_io: the type of the 0..255 pictures that it takes and gives.
        sizes: which heights and widths it takes; None: only that of `input`.
        colours: the order of the channels of pictures; None of what is no colour picture.
        provenance: who made it of what, and its licence where that was said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: InputSpec | None = None
    values: Values = Values()
    image_io: ImageIO | None = None
    sizes: Sizes | None = None
    colours: Literal["RGB"] | None = None
    provenance: dict[str, str] = {}

    def about(self) -> dict[str, str]:
        """As the file's metadata have it."""
        return {KEY: self.model_dump_json()}


def note_of(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    image_io: ImageIO | None,
    sizes: Sizes | None,
    spec: InputSpec | None,
    provenance: Mapping[str, str] | None = None,
) -> FileNote:
    """The note of a file that is made of `graph`; where no `spec` is known, the example tells what it can."""
    first = example[0]
    if len(example) == 1 and spec is not None and spec.kind == "latent":
        pass
    elif len(example) > 1 or first.dim() != 4 or not first.is_floating_point():
        spec = None
    else:
        size = (first.shape[2], first.shape[3])
        kind: Literal["labels", "image"] = "labels" if is_one_hot(first) else "image"
        known = spec or InputSpec(kind=kind, channels=first.shape[1], size=size)
        spec = known.model_copy(update={"size": size})  # costs may count at another than the data's
    values = Values() if image_io else values_of(graph) or Values()
    colours: Literal["RGB"] | None = "RGB" if spec and spec.kind == "image" and spec.channels == 3 else None
    return FileNote(
        input=spec,
        values=values,
        image_io=image_io,
        sizes=sizes,
        colours=colours,
        provenance=dict(provenance or {}),
    )


def read_note(path: str | Path) -> FileNote:
    """What an exported file says of itself: in its metadata, or in `NAME.json` beside it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or was not written by this package.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.json")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {FORMS.get(path.suffix, 'ONNX')} file {path}")
    found = beside.read_text(encoding="utf-8") if beside.is_file() else _metadata(path)
    if found is None:
        raise ValueError(
            f"{path} does not say what pictures it takes: it was written by another program or an earlier version, or the "
            f"{beside.name} beside it is gone; write it again with ganshrink export RUN"
        )
    try:
        return FileNote.model_validate_json(found)
    except ValidationError as error:
        raise ValueError(
            f"{path} says what it takes in a form that is not known: {one_line(error)}"
        ) from None


def _metadata(path: Path) -> str | None:
    if path.suffix == ".xml":
        core = load_optional("openvino", extra="openvino").Core()
        try:
            model = core.read_model(str(path))
            return str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
        except Exception as error:  # OpenVINO's own classes
            raise ValueError(f"{path} is not a readable OpenVINO file: {one_line(error)}") from None
    if path.suffix in FORMS:
        return None
    onnx = load_optional("onnx")
    try:
        properties = onnx.load(str(path), load_external_data=False).metadata_props
    except Exception as error:  # protobuf's own classes
        raise ValueError(f"{path} is not a readable ONNX file: {one_line(error)}") from None
    return {entry.key: entry.value for entry in properties}.get(KEY)
