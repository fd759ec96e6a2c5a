"""DECIG's Stage II: whether a hinge can be seen. A norm undoes how small a layer's weights have become, and a bias speaks
for a channel whose weights are nothing: what the curve calls dead may still paint the picture.

The paper looks at curves alone; everything here is ours.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganshrink.data import Images
from ganshrink.data.batches import stack
from ganshrink.data.images import num_inputs
from ganshrink.methods.decig.hinges import by_size
from ganshrink.pruning import Channels, Group, Plan
from ganshrink.pruning.extract import silenced
from ganshrink.system.generator import Input, as_tuple, generate, image_of

BATCH = 4  # images at once
STRIDES = 32  # at most, from a hinge up to the whole layer: six looks tell where to stop


@dataclass(frozen=True)
class Checked:
    """A hinge after it was looked at.

    Attributes:
        kept: how many channels stay, the largest ones.
        change: the relative L1 change of the pictures without the others, while all other layers are whole.
    """

    kept: int
    change: float


def calibration_batches(images: Images, count: int) -> list[Input]:
    """Inputs (B, C, H, W) of so many images at most, spread over the data set, without augmentation."""
    available = num_inputs(images)
    count = min(count, available)
    inputs = [images.sample(i * available // count, None)["input"] for i in range(count)]
    return [stack(inputs[at : at + BATCH]) for at in range(0, count, BATCH)]


@torch.no_grad()
def checked_hinges(
    network: nn.Module,
    channels: Channels,
    magnitudes: Mapping[str, Tensor],
    hinges: Mapping[str, int],
    batches: Sequence[Input],
    *,
    eps: float,
    round_to: int = 1,
) -> dict[str, Checked]:
    """Each hinge, moved up until the pictures change by no more than `eps` without what is behind it.

    One layer is looked at at a time, all others whole. Where the hinge itself shows, a bisection over at most 32 wider ones
    follows, up to all of the layer, which changes nothing.

    Args:
        network: the one that was traced, parametrizations folded, in evaluation mode.
        magnitudes: per group name (len(group),).
        hinges: per group name how many channels stay, above 0; the groups to be looked at.
        batches: inputs of the network.
        eps: mean absolute difference over mean absolute value, of images in [-1, 1].
        round_to: what `hinges` are multiples of, or else all channels; so is what is kept.
    """
    whole = [generate(network, input) for input in batches]
    size = max(sum(float(image.abs().sum()) for image in whole), sys.float_info.min)

    def change_without(group: Group, kept: int) -> float:
        keep = torch.ones(channels.num_atoms, dtype=torch.bool)
        keep[group.atoms[by_size(magnitudes[group.name])[kept:]]] = False
        tensors = silenced(network, channels, Plan(keep), columns=True)
        made = (image_of(functional_call(network, tensors, as_tuple(input))) for input in batches)
        return sum(float((new - old).abs().sum()) for new, old in zip(made, whole, strict=True)) / size

    return {
        group.name: _moved_up(partial(change_without, group), hinges[group.name], len(group), eps, round_to)
        for group in channels.groups
        if group.name in hinges
    }


def _moved_up(
    change_without: Callable[[int], float], hinge: int, full: int, eps: float, round_to: int
) -> Checked:
    """The lowest width that is found not to show."""
    seen = change_without(hinge)
    if seen <= eps or hinge == full:
        return Checked(hinge, seen)
    stride = -(-(full - hinge) // (STRIDES * round_to)) * round_to
    widths = [*range(hinge, full, stride), full]
    shows, best = 0, Checked(full, 0.0)
    hidden = len(widths) - 1
    while hidden - shows > 1:
        middle = (shows + hidden) // 2
        seen = change_without(widths[middle])
        if seen <= eps:
            hidden, best = middle, Checked(widths[middle], seen)
        else:
            shows = middle
    return best
