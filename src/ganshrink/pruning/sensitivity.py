"""Layers looked at one by one: how much a network's images change without some channels, and how many have to stay."""

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.extract import silenced
from ganshrink.pruning.plan import Plan
from ganshrink.system.generator import Input, as_tuple, generate, image_of

STRIDES = 32  # at most, from the least width up to the whole layer: six looks tell where to stop


@torch.no_grad()
def image_change(
    network: nn.Module, channels: Channels, inputs: Sequence[Input]
) -> Callable[[Tensor], float]:
    """A function of atoms: the relative L1 change (mean absolute difference over mean absolute value) of the images in
    [-1, 1] that the network makes without them, all others whole.

    Args:
        network: the one that was traced, parametrizations folded, in evaluation mode.
        inputs: batches of its input.
    """
    whole = [generate(network, input) for input in inputs]
    size = max(sum(float(image.abs().sum()) for image in whole), sys.float_info.min)

    @torch.no_grad()
    def change(atoms: Tensor) -> float:
        keep = torch.ones(channels.num_atoms, dtype=torch.bool)
        keep[atoms] = False
        tensors = silenced(network, channels, Plan(keep), columns=True)
        made = (image_of(functional_call(network, tensors, as_tuple(input))) for input in inputs)
        return sum(float((new - old).abs().sum()) for new, old in zip(made, whole, strict=True)) / size

    return change


def least_unseen(
    change: Callable[[int], float], least: int, full: int, *, eps: float, step: int = 1
) -> tuple[int, float]:
    """The lowest width of a layer, from `least` on, at which the images are found to change by no more than `eps`; and that
    change. Where `least` itself shows, a bisection over at most 32 wider ones follows, up to `full`, which changes nothing.

    Args:
        change: of the images, by how many channels stay.
        step: what widths other than `full` are apart, or a multiple of this.
    """
    changes = {full: 0.0}

    def shows(width: int) -> bool:
        changes[width] = changes[width] if width in changes else change(width)
        return changes[width] > eps

    if not shows(least):
        return least, changes[least]
    stride = -(-(full - least) // (STRIDES * step)) * step
    falling = [full, *reversed(range(least + stride, full, stride))]
    width = falling[bisect_left(falling, True, lo=1, key=shows) - 1]
    return width, changes[width]
