"""What an exporter is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

Runner = Callable[[tuple[Tensor, ...]], Tensor]  # a batch's inputs in order, to the image


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
        beside: further files that it writes beside it.
        extra: what must be installed for it, a key of `ganshrink.exporters.runtime.EXTRAS`; empty: nothing.
        runtime: the package that runs the file; empty where none does here.
        open: the file as a function, on so many threads; None: it cannot be run here.
        python: imports, an empty line, and lines that run the file without this package, for the report: of `batch`, a
            NumPy array of shape (1, C, H, W), they make `image`; `{file}` stands for its name. Empty: there are none, or
            it is an ONNX file.
    """

    file: str
    export: Any
    about: str
    beside: tuple[str, ...] = ()
    extra: str = ""
    runtime: str = ""
    open: Callable[[Path, int | None], Runner] | None = None
    python: str = ""
