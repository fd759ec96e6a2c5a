"""A segmenter from an ONNX file."""

from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ganshrink.metrics.iou import Segmenter, resized_ids
from ganshrink.metrics.weights import find_weights, short_hash

MEAN_RGB, STD_RGB = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # ImageNet's, which most segmenters are trained with
ORIGIN = "metrics.segmenter names it"


def load_onnx(path: str | Path) -> Segmenter:
    """A segmenter from an ONNX file of one input and, first of its outputs, scores (N, classes, h, w).

    A float input is given RGB less ImageNet's mean, by its deviation; a uint8 one RGB 0..255. Pictures are resized to the
    input's size where it is fixed. Labels from `classes` on are not scored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: onnxruntime is not installed, or it is no such file.
    """
    here = Path(path)  # one that was made here, as benchmarks/judge.py does, is not among the weights
    file = here if here.is_file() else find_weights(path, origin=ORIGIN)
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise ValueError(f'{file} needs onnxruntime ({error}): pip install "ganshrink[onnx]"') from None
    try:
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each kind of damage
        raise ValueError(f"{file} is no ONNX file that runs here: {str(error).splitlines()[0]}") from None
    given, shape = session.get_inputs()[0], session.get_outputs()[0].shape
    if (
        len(session.get_inputs()) != 1
        or len(given.shape) != 4
        or len(shape) != 4
        or not isinstance(shape[1], int)
    ):
        raise ValueError(
            f"{file} must take one batch (N, 3, H, W) and give scores (N, classes, h, w), gives {shape}"
        )
    fixed = tuple(side for side in given.shape[2:] if isinstance(side, int))
    small = given.type == "tensor(uint8)"

    def predict(pictures: Tensor, size: tuple[int, int]) -> Tensor:
        x = pictures.cpu().float()
        if len(fixed) == 2:
            x = F.interpolate(x, size=fixed, mode="bilinear", antialias=True)
        if small:
            x = x.round().to(torch.uint8)
        else:
            mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN_RGB, STD_RGB))
            x = (x / 255 - mean) / std
        # One at a time: a file's batch may be fixed.
        scores = [session.run(None, {given.name: one[None].numpy()})[0] for one in x]
        return resized_ids(torch.cat([torch.from_numpy(one) for one in scores]), size)

    resize = f"bilinear, antialiased, to {fixed[1]}x{fixed[0]}" if len(fixed) == 2 else "none"
    levels = "0..255" if small else "ImageNet's mean and deviation"
    return Segmenter(
        name=file.name,
        predict=predict,
        classes=shape[1] + 1,
        resize=f"{resize}; {levels}; scores bilinear to the label size",
        sha256=short_hash(file),
    )
