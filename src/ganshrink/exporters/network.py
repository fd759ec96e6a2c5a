"""An exported file as a network: what is scored and shown is then what ships."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganshrink.exporters.exporter import Runner
from ganshrink.exporters.picture import DTYPES, ImageIO, are_pictures, from_picture, to_picture
from ganshrink.exporters.runtime import infer_openvino, input_dtypes, open_openvino, open_session, run_session


class ExportedGenerator(nn.Module):
    """An exported file, run on the CPU; it takes and gives what the network did that it came from.

    Args:
        run: the file, opened.
        image_io: what pictures the file takes and gives; None: the values of the network that it came from.
        dtypes: numpy types of its inputs; None: as they come.
    """

    def __init__(
        self, run: Runner, *, image_io: ImageIO | None = None, dtypes: Sequence[Any] | None = None
    ) -> None:
        super().__init__()
        self.run, self.image_io, self.dtypes = run, image_io, dtypes

    def forward(self, *inputs: Tensor) -> Tensor:
        pictures = are_pictures(inputs) if self.image_io else [False] * len(inputs)
        given = []
        for dtype, tensor, picture in zip(self.dtypes or [None] * len(inputs), inputs, pictures, strict=True):
            if picture and self.image_io:
                tensor = to_picture(tensor, DTYPES[self.image_io])
            array = tensor.detach().cpu().numpy()
            given.append(torch.from_numpy(array if dtype is None else array.astype(dtype)))
        image = self.run(tuple(given))
        return (from_picture(image) if self.image_io else image).to(inputs[0].device)


class OnnxGenerator(ExportedGenerator):
    """An ONNX file at `path`, in `runtime`; the rest as above."""

    dtypes: list[Any]

    def __init__(
        self,
        path: str | Path,
        *,
        image_io: ImageIO | None = None,
        runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    ) -> None:
        if runtime == "openvino":
            request = open_openvino(path)
            dtypes = [given.get_element_type().to_dtype() for given in request.model_inputs]
            super().__init__(partial(infer_openvino, request), image_io=image_io, dtypes=dtypes)
        else:
            session = open_session(path)
            dtypes = list(input_dtypes(session).values())
            super().__init__(partial(run_session, session), image_io=image_io, dtypes=dtypes)
