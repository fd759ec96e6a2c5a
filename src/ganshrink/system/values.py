"""What values a network takes and gives: 0..1, 0..255 or normalised colours, where all else here is in [-1, 1].

The only place that converts. A network that is made to convert is of a class between it and its own, so that neither paths
nor weights change (as torch's parametrizations do it), and whoever runs it runs the conversion too.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ganshrink.system.generator import image_of

M = TypeVar("M", bound=nn.Module)
ATTRIBUTE = "ganshrink_values"


class ValueRange(BaseModel):
    """Black and white of a network's pictures: levels in `range`, from which `mean` is taken, divided by `std`; both hold
    a number for each channel, or one for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    range: tuple[float, float] = (-1, 1)
    mean: tuple[float, ...] = Field(default=(0,), min_length=1)
    std: tuple[float, ...] = Field(default=(1,), min_length=1)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range = {list(self.range)}: black must be less than white, such as [0, 1]")
        if min(self.std) <= 0:
            raise ValueError(f"std = {list(self.std)}: numbers above 0 are needed")
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError(
                f"mean has {len(self.mean)} numbers, std {len(self.std)}: give one for each channel"
            )
        return self

    def __str__(self) -> str:
        text = f"[{self.range[0]:g}, {self.range[1]:g}]"
        if self.mean == (0,) and self.std == (1,):
            return text
        numbers = (", ".join(f"{number:g}" for number in given) for given in (self.mean, self.std))
        return "{} minus ({}), divided by ({})".format(text, *numbers)

    def coefficients(self) -> tuple[list[float], list[float]]:
        """Factor and summand, of each channel or of all, by which [-1, 1] becomes the network's values."""
        low, high = self.range
        count = max(len(self.mean), len(self.std))
        means, stds = (given * (count // len(given)) for given in (self.mean, self.std))
        return [(high - low) / 2 / std for std in stds], [
            ((high + low) / 2 - mean) / std for mean, std in zip(means, stds, strict=True)
        ]

    def encode(self, image: Tensor) -> Tensor:
        """[-1, 1] to the network's values."""
        factor, summand = self.coefficients()
        return image * _numbers(factor, image) + _numbers(summand, image)

    def decode(self, image: Tensor) -> Tensor:
        """The network's values to [-1, 1]."""
        factor, summand = self.coefficients()
        back = [1 / number for number in factor]
        return image * _numbers(back, image) - _numbers(
            [number * by for number, by in zip(summand, back, strict=True)], image
        )


PLAIN = ValueRange()


class Values(BaseModel):
    """What a network takes and gives; of its inputs only `pictures` are converted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: ValueRange = PLAIN
    output: ValueRange = PLAIN
    pictures: tuple[bool, ...] = (True,)

    def encode(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A network's inputs, of [-1, 1], as it takes them."""
        marked = zip(inputs, self.pictures, strict=True)
        return tuple(self.input.encode(t) if picture else t for t, picture in marked)

    def facts(self) -> dict[str, str]:
        """In words, for a file's metadata and the report."""
        return {"input_values": str(self.input), "output_values": str(self.output)}


def _numbers(numbers: list[float], image: Tensor) -> Any:
    """Numbers as they are multiplied with an image (B, C, H, W)."""
    if len(numbers) == 1:
        return numbers[0]
    return torch.tensor(numbers, dtype=image.dtype, device=image.device).view(-1, 1, 1)


class _Converting:
    def forward(self, *inputs: Tensor) -> Tensor:
        values: Values = getattr(self, ATTRIBUTE)
        image = super().forward(*values.encode(inputs))  # type: ignore[misc]
        return values.output.decode(image_of(image))


def converting(network: M, values: Values | None = None) -> M:
    """The network itself, from now on with pictures in [-1, 1] on both sides.

    Args:
        values: what it takes and gives by itself; None: as an earlier call said, or [-1, 1].
    """
    values = values or values_of(network)
    if values is None or (values.input, values.output) == (PLAIN, PLAIN):
        return network
    own = type(network)
    setattr(network, ATTRIBUTE, values)
    if not isinstance(network, _Converting):
        named = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
        network.__class__ = type(own.__name__, (_Converting, own), named)
    return network


def raw(network: M) -> M:
    """A network as its user knows it, with its own values on both sides; it has the weights of the given one."""
    if not isinstance(network, _Converting):
        return network
    plain = copy.copy(network)
    plain.__class__ = type(network).__bases__[1]
    return plain


def values_of(network: nn.Module) -> Values | None:
    """What a network takes and gives by itself, where that was ever said."""
    return getattr(network, ATTRIBUTE, None)


def decoded(image: Tensor, network: nn.Module) -> Tensor:
    """What a network gave, in [-1, 1]."""
    values = values_of(network)
    return image if values is None or isinstance(network, _Converting) else values.output.decode(image)
