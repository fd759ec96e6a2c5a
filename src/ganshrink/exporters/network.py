"""An exported file as a network: what is scored and shown is then what ships."""

from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import ImageIO, are_pictures, from_picture, to_picture
from ganshrink.exporters.runtime import infer_openvino, input_dtypes, open_openvino, open_session, run_session


class OnnxGenerator(nn.Module):
    """An ONNX file, run on the CPU; it takes and gives what the network did that it came from.

    Args:
        path: the file.
        image_io: what pictures the file takes and gives; None: the values of the network that it came from.
        runtime: what runs it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_io: ImageIO | None = None,
        runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    ) -> None:
        super().__init__()
        self.image_io = image_io
        if runtime == "openvino":
            request = open_openvino(path)
            self.run = partial(infer_openvino, request)
            self.dtypes = [given.get_element_type().to_dtype() for given in request.model_inputs]
        else:
            session = open_session(path)
            self.run = partial(run_session, session)
            self.dtypes = list(input_dtypes(session).values())

    def forward(self, *inputs: Tensor) -> Tensor:
        pictures = are_pictures(inputs) if self.image_io else [False] * len(inputs)
        given = []
        for dtype, tensor, picture in zip(self.dtypes, inputs, pictures, strict=True):
            if picture:
                tensor = to_picture(tensor, torch.uint8 if dtype == "uint8" else torch.float32)
            given.append(torch.from_numpy(tensor.detach().cpu().numpy().astype(dtype)))
        image = self.run(given)
        return (from_picture(image) if self.image_io else image).to(inputs[0].device)
