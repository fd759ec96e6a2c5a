"""What a generator takes and gives: one input tensor, or several in the order of its forward's arguments, for one image."""

from collections.abc import Sequence, Sized
from typing import Any

from torch import Tensor, nn

Input = Tensor | tuple[Tensor, ...]
"""A generator's input: of one sample without a batch axis, of a batch with one."""


def as_tuple(input: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One input or several as the arguments of a call."""
    return (input,) if isinstance(input, Tensor) else tuple(input)


def batch_of_one(input: Input) -> tuple[Tensor, ...]:
    """A sample's input as that of a batch which holds it alone."""
    return tuple(tensor[None] for tensor in as_tuple(input))


def generate(network: nn.Module, input: Input) -> Tensor:
    """The images (B, C, H, W) that a network makes of a batch's input.

    Raises:
        ValueError: if it returns anything but one tensor.
    """
    return image_of(network(*as_tuple(input)))


def image_of(output: Any) -> Tensor:
    """What a generator returned, where that is one tensor.

    Raises:
        ValueError: for a tuple, a dict or anything else.
    """
    if isinstance(output, Tensor):
        return output
    size = f" of {len(output)}" if isinstance(output, Sized) else ""
    raise ValueError(
        f"the generator returns a {type(output).__name__}{size}, not one image: wrap it in a module whose forward "
        "returns the image alone"
    )


def image_like(inputs: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
    """Of a batch's inputs those that are images, floating-point (B, C, H, W) of that (H, W): what a discriminator can
    see beside an image, and a person can look at."""
    return [t for t in inputs if t.ndim == 4 and t.is_floating_point() and t.shape[2:] == tuple(size)]
