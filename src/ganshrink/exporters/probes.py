"""Inputs to compare an exported file on: random ones of several batch and image sizes, and real ones."""

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import is_one_hot
from ganshrink.system.generator import Input, as_tuple, batch_of_one

RANDOM = 3  # random images at batch 1, beside the batch of two
Inputs = tuple[Tensor, ...]
Scale = tuple[Fraction, Fraction]  # of height and width


def probes(
    example: Inputs,
    scales: Sequence[Scale],
    inputs: Sequence[Input] = (),
    *,
    free_batch: bool = True,
) -> list[Inputs]:
    """Batches to run, always the same for the same arguments.

    Args:
        example: what the network takes, batch first. Random images are one-hot where these are, other numbers uniform
            in [-1, 1], ids drawn from those of the example.
        scales: of heights and widths to draw at, relative to the example's; the first several times.
        inputs: real inputs, of one sample or of a batch, a tensor or a tuple of several.
        free_batch: batches of one and of two; else only batches of the example's size.

    Raises:
        ValueError: a real input has another shape than the example.
    """
    generator = torch.Generator().manual_seed(0)
    counts = [1] * RANDOM + [2] if free_batch else [len(example[0])]
    wanted = [(count, scales[0]) for count in counts] + [(min(counts), scale) for scale in scales[1:]]
    drawn = [tuple(_random(t, count, scale, generator) for t in example) for count, scale in wanted]
    return drawn + _real(example, inputs, free_batch)


def _random(example: Tensor, count: int, scale: Scale, generator: torch.Generator) -> Tensor:
    shape = (count, *_scaled(example, scale)[1:])
    if not example.is_floating_point():
        values = example.unique()
        return values[torch.randint(len(values), shape, generator=generator)]
    return (_random_labels if is_one_hot(example) else _random_image)(shape, generator)


def _random_image(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _random_labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    batch, channels, height, width = shape
    labels = torch.randint(channels, (batch, height, width), generator=generator)
    return nn.functional.one_hot(labels, channels).permute(0, 3, 1, 2).float().contiguous()


def _scaled(example: Tensor, scale: Scale) -> tuple[int, ...]:
    """The example's shape with the sides of an image scaled."""
    if example.dim() != 4:
        return tuple(example.shape)
    return (*example.shape[:2], *(int(side * by) for side, by in zip(example.shape[2:], scale, strict=True)))


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


def other_scale(graph: nn.Module, inputs: Inputs) -> Scale:
    """Another height and width, oblong where the network takes that, to show that a graph is free in its size.

    Args:
        inputs: what the graph takes, with at least one image (B, C, H, W).

    Raises:
        ValueError: the network runs at none of the sizes tried.
    """
    half, one, two = Fraction(1, 2), Fraction(1), Fraction(2)
    tried = [(one, half), (half, half), (two, one), (two, two)]
    for scale in tried:
        canvas = tuple(t[:1].new_zeros((1, *_scaled(t, scale)[1:])) for t in inputs)
        try:
            with torch.no_grad():
                graph(*canvas)
        except Exception:  # whatever a user's network raises for a size it cannot take
            continue
        return scale
    image = next(t for t in inputs if t.dim() == 4)
    sizes = ["x".join(map(str, _scaled(image, scale)[2:])) for scale in tried]
    raise ValueError(
        f"the network runs at {image.shape[2]}x{image.shape[3]} but at none of {', '.join(sizes)}: "
        "export it with a fixed size"
    )
