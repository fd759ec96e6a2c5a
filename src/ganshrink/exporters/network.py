"""An exported file as a network: what is scored and shown is then what ships."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import ImageIO, are_pictures, from_picture, to_picture
from ganshrink.exporters.runtime import input_dtypes, open_session, run_session


class OnnxGenerator(nn.Module):
    """An ONNX file, run by ONNX Runtime on the CPU; it takes and gives what the network did that it came from.

    Args:
        path: the file.
        image_io: what pictures the file takes and gives; None: [-1, 1], as the network does.
    """

    def __init__(self, path: str | Path, *, image_io: ImageIO | None = None) -> None:
        super().__init__()
        self.session, self.image_io = open_session(path), image_io
        self.dtypes = input_dtypes(self.session)

    def forward(self, *inputs: Tensor) -> Tensor:
        pictures = are_pictures(inputs) if self.image_io else [False] * len(inputs)
        given = []
        for dtype, tensor, picture in zip(self.dtypes.values(), inputs, pictures, strict=True):
            if picture:
                tensor = to_picture(tensor, torch.uint8 if dtype == "uint8" else torch.float32)
            given.append(torch.from_numpy(tensor.detach().cpu().numpy().astype(dtype)))
        image = run_session(self.session, given)
        return (from_picture(image) if self.image_io else image).to(inputs[0].device)
