"""The way between 0..255 pictures and the [-1, 1] tensors of a generator, inside the graph."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ganshrink.system.generator import generate

ImageIO = Literal["uint8", "float32"]
DTYPES: dict[str, torch.dtype] = {"uint8": torch.uint8, "float32": torch.float32}


def to_picture(image: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[-1, 1] to 0..255; whole levels, rounded, for an integer type; float64 stays float64."""
    levels = ((image if image.dtype == torch.float64 else image.float()) + 1) * 127.5
    if dtype == torch.uint8:
        return levels.clamp(0, 255).round().to(torch.uint8)
    return levels


def from_picture(picture: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """0..255 of any type to [-1, 1] in float32, or another type."""
    return picture.to(dtype) / 127.5 - 1


def is_one_hot(example: Tensor) -> bool:
    """Whether (B, C, H, W) is a label map: at every pixel one of C > 1 channels is one, the others zero."""
    if example.dim() != 4:
        return False
    binary = bool(((example == 0) | (example == 1)).all())
    return example.shape[1] > 1 and binary and bool((example.sum(1) == 1).all())


def are_pictures(example: Sequence[Tensor]) -> tuple[bool, ...]:
    """Which inputs have levels: a single image unless it is one-hot; of several inputs those of three channels."""
    several = len(example) > 1
    return tuple(
        t.dim() == 4 and t.is_floating_point() and not is_one_hot(t) and (not several or t.shape[1] == 3)
        for t in example
    )


class PictureIO(nn.Module):
    """A generator that takes and gives pictures (B, C, H, W): 0..255, uint8 or float32.

    Inputs that are no pictures stay what they are (one-hot maps have no levels); the output always is one.
    """

    def __init__(self, net: nn.Module, image_io: ImageIO, *, pictures: Sequence[bool]) -> None:
        super().__init__()
        self.net, self.pictures, self.dtype = net, tuple(pictures), DTYPES[image_io]

    def encode(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The generator's own inputs, as this module takes them."""
        marked = zip(inputs, self.pictures, strict=True)
        return tuple(to_picture(t, self.dtype) if picture else t for t, picture in marked)

    def decode(self, inputs: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """What this module takes, as the generator's own inputs."""
        marked = zip(inputs, self.pictures, strict=True)
        own = (from_picture(t, dtype) if picture else t for t, picture in marked)
        return tuple(t.to(dtype) if t.is_floating_point() else t for t in own)

    def forward(self, *inputs: Tensor) -> Tensor:
        image = generate(self.net, self.decode(inputs))
        return to_picture(image.clamp(-1, 1), self.dtype)
