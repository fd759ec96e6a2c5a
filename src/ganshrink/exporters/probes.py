"""Inputs to compare an exported file on: random ones of several batch and image sizes, and real ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganshrink.exporters.picture import is_one_hot

RANDOM = 3  # random images at batch 1, beside the batch of two


def probes(
    example: Tensor,
    sizes: Sequence[tuple[int, int]],
    inputs: Sequence[Tensor] = (),
    *,
    free_batch: bool = True,
) -> list[Tensor]:
    """Batches to run, always the same for the same arguments.

    Args:
        example: (B, C, H, W); random inputs are one-hot where it is, else uniform in [-1, 1].
        sizes: the (H, W) to draw at, the first one several times.
        inputs: real inputs (C, H, W) or (B, C, H, W).
        free_batch: batches of one and of two; else only batches of B.

    Raises:
        ValueError: a real input has another shape than the example.
    """
    generator = torch.Generator().manual_seed(0)
    counts = [1] * RANDOM + [2] if free_batch else [len(example)]
    shapes = [(count, example.shape[1], *sizes[0]) for count in counts]
    shapes += [(min(counts), example.shape[1], *size) for size in sizes[1:]]
    draw = _random_labels if is_one_hot(example) else _random_image
    return [draw(shape, generator) for shape in shapes] + _real(example, inputs, free_batch)


def _random_image(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _random_labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    batch, channels, height, width = shape
    labels = torch.randint(channels, (batch, height, width), generator=generator)
    return nn.functional.one_hot(labels, channels).permute(0, 3, 1, 2).float().contiguous()


def _real(example: Tensor, inputs: Sequence[Tensor], free_batch: bool) -> list[Tensor]:
    images: list[Tensor] = []
    for given in inputs:
        batch = given.detach().cpu().float()
        images += list(batch if batch.dim() == 4 else batch[None])
    for image in images:
        if image.shape != example.shape[1:]:
            raise ValueError(
                f"a real input has the shape {tuple(image.shape)}, the example {tuple(example.shape[1:])}: "
                "give inputs of the example's shape"
            )
    if free_batch:
        return [image[None] for image in images]
    size = len(example)
    whole = len(images) - len(images) % size
    return [torch.stack(images[start : start + size]) for start in range(0, whole, size)]


def other_size(graph: nn.Module, batch: Tensor) -> tuple[int, int]:
    """Another (H, W), oblong where the network takes that, to show that a graph is free in its size.

    Raises:
        ValueError: the network runs at none of the sizes tried.
    """
    height, width = batch.shape[2:]
    tried = [(height, width // 2), (height // 2, width // 2), (2 * height, width), (2 * height, 2 * width)]
    for size in tried:
        canvas = batch.new_zeros((1, batch.shape[1], *size))
        try:
            with torch.no_grad():
                graph(canvas)
        except Exception:  # whatever a user's network raises for a size it cannot take
            continue
        return size
    raise ValueError(
        f"the network runs at {height}x{width} but at none of {', '.join(f'{h}x{w}' for h, w in tried)}: "
        "export it with a fixed size"
    )
