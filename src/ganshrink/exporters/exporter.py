"""What an exporter is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Export(Protocol):
    """Writes a network to `path`, compares the file with torch, and returns the file's entry in parity.json.

    `example` are inputs of the size that it was trained at, `inputs` some real ones; `options` are those of [export].
    """

    def __call__(
        self, model: nn.Module, example: Any, path: Path, *, inputs: list[Tensor], **options: Any
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Exporter:
    """An exporter as `EXPORTERS` lists it.

    Attributes:
        file: the file's name in a run, such as `student.onnx`.
        export: writes it.
        about: what it is, in a few words.
    """

    file: str
    export: Any
    about: str
