"""The way between 0..255 pictures and the [-1, 1] tensors of a generator, inside the graph."""

from typing import Literal

import torch
from torch import Tensor, nn

ImageIO = Literal["uint8", "float32"]
DTYPES: dict[str, torch.dtype] = {"uint8": torch.uint8, "float32": torch.float32}


def to_picture(image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[-1, 1] to 0..255; whole levels, rounded, for an integer type."""
    levels = (image.float() + 1) * 127.5
    if dtype == torch.uint8:
        return levels.clamp(0, 255).round().to(torch.uint8)
    return levels


def from_picture(picture: Tensor) -> Tensor:
    """0..255 of any type to [-1, 1] in float32."""
    return picture.float() / 127.5 - 1


def is_one_hot(example: Tensor) -> bool:
    """Whether (B, C, H, W) is a label map: at every pixel one of C > 1 channels is one, the others zero."""
    binary = bool(((example == 0) | (example == 1)).all())
    return example.shape[1] > 1 and binary and bool((example.sum(1) == 1).all())


class PictureIO(nn.Module):
    """A generator that takes and gives pictures (B, C, H, W): 0..255, uint8 or float32.

    With `labels` the input stays what it is (one-hot maps have no levels), and only the output is a picture.
    """

    def __init__(self, net: nn.Module, image_io: ImageIO, *, labels: bool) -> None:
        super().__init__()
        self.net, self.labels, self.dtype = net, labels, DTYPES[image_io]

    def encode(self, image: Tensor) -> Tensor:
        """The generator's own input, as this module takes it."""
        return image if self.labels else to_picture(image, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        image = self.net(x if self.labels else from_picture(x))
        return to_picture(image.clamp(-1, 1), self.dtype)
