"""Inputs to compare an exported file on: random ones, real ones, and pictures on which careless arithmetic breaks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import is_one_hot
from ganshrink.system.generator import Input, as_tuple, batch_of_one

RANDOM = 2  # random images at batch 1, beside the batch of two
Inputs = tuple[Tensor, ...]
Size = tuple[int, int]  # height and width of the first image
SPECIAL = ("least value", "middle value", "largest value", "one colour", "one pixel", "saturated")


def free_sides(tensor: Tensor) -> tuple[int, ...]:
    """The axes of an image (B, C, H, W) that can vary; a side of 1, such as a noise level's, is no size."""
    return tuple(axis for axis in (2, 3) if tensor.dim() == 4 and tensor.shape[axis] > 1)


def size_of(inputs: Inputs) -> Size:
    """Height and width of the first image (B, C, H, W) among a generator's inputs."""
    image = next((t for t in inputs if free_sides(t)), None)
    return (1, 1) if image is None else (image.shape[2], image.shape[3])


def resized(tensor: Tensor, count: int, size: Size, base: Size) -> tuple[int, ...]:
    """The shape of an input for another batch, and another size where the first image has that of `base`."""
    shape = [count, *tensor.shape[1:]]
    for axis in free_sides(tensor):
        shape[axis] = shape[axis] * size[axis - 2] // base[axis - 2]
    return tuple(shape)


def probes(
    example: Inputs, sizes: Sequence[Size], inputs: Sequence[Input] = (), *, free_batch: bool = True
) -> list[Inputs]:
    """Batches to run, always the same for the same arguments.

    Args:
        example: what the network takes, batch first. Random images are one-hot or made of zeros and ones where these are,
            other numbers uniform in [-1, 1] or what wider range `example` and `inputs` have, ids those of the example.
        sizes: other heights and widths of the first image.
        inputs: real inputs, of one sample or of a batch, a tensor or a tuple of several.
        free_batch: batches of one and of two; else only batches of the example's size.

    Raises:
        ValueError: a real input has another shape than the example.
    """
    generator = torch.Generator().manual_seed(0)
    real, base = _real(example, inputs, free_batch), size_of(example)
    counts = [1] * RANDOM + [2] if free_batch else [len(example[0])]
    wanted = [(count, base) for count in counts]
    wanted += [(2 if free_batch and place == 0 else min(counts), size) for place, size in enumerate(sizes)]
    kinds = _kinds(example, real)
    drawn = []
    for count, size in wanted:
        shapes = [resized(t, count, size, base) for t in example]
        drawn.append(tuple(kind.random(shape, generator) for kind, shape in zip(kinds, shapes, strict=True)))
    return drawn + real


def special(example: Inputs, inputs: Sequence[Input] = (), *, free_batch: bool = True) -> dict[str, Inputs]:
    """Pictures of one colour, of one pixel, of nothing but extremes; masks of all zeros and all ones; by what they are."""
    generator = torch.Generator().manual_seed(0)
    kinds = _kinds(example, _real(example, inputs, free_batch))
    shapes = [(1 if free_batch else len(t), *t.shape[1:]) for t in example]

    def batch(image: str, mask: str) -> Inputs:
        marked = zip(kinds, shapes, strict=True)
        return tuple(kind.special(mask if kind.mask else image, shape, generator) for kind, shape in marked)

    made = {name: batch(name, name) for name in SPECIAL}
    if len(example) > 1 and any(kind.mask for kind in kinds):
        made |= {f"mask of the {name}": batch("random", name) for name in ("least value", "largest value")}
    return made


@dataclass(frozen=True)
class _Kind:
    """What an input holds: images of a range, masks of zeros and ones, label maps (one-hot), or ids."""

    example: Tensor
    low: float
    high: float
    mask: bool

    def random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if not self.example.is_floating_point():
            values = self.example.unique()
            return values[torch.randint(len(values), shape, generator=generator)]
        if is_one_hot(self.example):
            return _one_hot(torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator), shape[1])
        drawn = torch.rand(shape, generator=generator)
        return drawn.round() if self.mask else drawn * (self.high - self.low) + self.low

    def special(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Anything but an image of numbers is of one value where that is asked for, else random."""
        random = self.random(shape, generator)
        if not free_sides(self.example) or name == "random":
            return random
        ends = {"least value": self.low, "largest value": self.high}
        if is_one_hot(self.example):
            labels = torch.full((shape[0], *shape[2:]), int(ends.get(name, 0) * (shape[1] - 1)))
            return _one_hot(labels, shape[1]) if name in ends else random
        if not self.example.is_floating_point():
            return torch.full_like(random, int(ends[name])) if name in ends else random
        if name == "saturated" or (self.mask and name == "middle value"):
            return torch.where(random > (self.low + self.high) / 2, self.high, self.low)
        image = torch.full(shape, 0.0 if name == "middle value" else ends.get(name, self.low))
        if name == "one colour":
            image[:, 0] = self.high
        if name == "one pixel":
            image[:, :, shape[2] // 2, shape[3] // 2] = self.high
        return image


def _kinds(example: Inputs, real: Sequence[Inputs]) -> list[_Kind]:
    """Of each input: images are in [-1, 1], or as far as the example and the real ones go."""
    found = []
    for place, tensor in enumerate(example):
        given = [tensor, *(batch[place] for batch in real)]
        low, high = min(float(t.min()) for t in given), max(float(t.max()) for t in given)
        single = tensor.dim() == 4 and tensor.shape[1] == 1 and tensor.is_floating_point()
        mask = single and high == 1 and all(bool(((t == 0) | (t == 1)).all()) for t in given)
        if tensor.is_floating_point():
            low, high = (0.0, 1.0) if mask or is_one_hot(tensor) else (min(low, -1.0), max(high, 1.0))
        found.append(_Kind(tensor, low, high, mask))
    return found


def _one_hot(labels: Tensor, channels: int) -> Tensor:
    return nn.functional.one_hot(labels, channels).permute(0, 3, 1, 2).float().contiguous()


def _real(example: Inputs, inputs: Sequence[Input], free_batch: bool) -> list[Inputs]:
    samples = [sample for given in inputs for sample in _samples(example, given)]
    if free_batch:
        return samples
    size = len(example[0])
    whole = len(samples) - len(samples) % size
    return [
        tuple(torch.cat(parts) for parts in zip(*samples[start : start + size], strict=True))
        for start in range(0, whole, size)
    ]


def _samples(example: Inputs, given: Input) -> list[Inputs]:
    """One real input, or a batch of them, as batches of one."""
    if len(as_tuple(given)) != len(example):
        raise ValueError(
            f"a real input has {len(as_tuple(given))} tensors, the example {len(example)}: give as many"
        )
    tensors = tuple(t.detach().cpu().to(e.dtype) for t, e in zip(as_tuple(given), example, strict=True))
    if [t.dim() for t in tensors] != [e.dim() for e in example]:
        tensors = batch_of_one(tensors)
    for tensor, wanted in zip(tensors, example, strict=True):
        if tensor.shape[1:] != wanted.shape[1:]:
            raise ValueError(
                f"a real input has the shape {tuple(tensor.shape[1:])}, the example {tuple(wanted.shape[1:])}: "
                "give inputs of the example's shape"
            )
    return [tuple(t[place : place + 1] for t in tensors) for place in range(len(tensors[0]))]
