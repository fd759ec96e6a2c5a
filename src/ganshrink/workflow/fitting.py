"""Which sizes a generator takes, in words, where it does not take the data's."""

from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink import nets
from ganshrink.system.copies import in_evaluation
from ganshrink.workflow.net_config import NetConfig

MULTIPLES = [2**power for power in range(1, 10)]
Size = tuple[int, int]


def sizes_told(network: nn.Module, input: Any, net: NetConfig, target: Size | None = None) -> str:
    """What to do about a picture (C, H, W) whose size a generator does not take: the multiple that its sides must be of,
    and a network of its kind that takes it; "" where neither is known.

    Args:
        target: (H, W) of what it should make; none: as large, or a whole multiple or part.
    """
    if not isinstance(input, Tensor) or input.ndim != 3:
        return ""
    size = (input.shape[1], input.shape[2])
    ways = []
    if found := _multiple(network, input, target):
        multiple, (height, width) = found
        asked = height if height == width else f"[{height}, {width}]"
        ways.append(f"its sides must be multiples of {multiple}, such as data.size = {asked}")
    if name := _relative(net, input, target):
        ways.append(f"net.name = {name!r} takes {size[0]} x {size[1]}")
    return "; ".join(ways)


def _multiple(network: nn.Module, input: Tensor, target: Size | None) -> tuple[int, Size] | None:
    """Of what multiple a network wants its sides to be, and the next size that is one."""
    size = (input.shape[1], input.shape[2])
    for multiple in MULTIPLES:
        filled = (ceil(size[0] / multiple) * multiple, ceil(size[1] / multiple) * multiple)
        more = (filled[0] + multiple, filled[1] + multiple)  # another, so that it is no chance
        if filled != size and all(_fits(network, input, each, target) for each in (filled, more)):
            return multiple, filled
    return None


def _relative(net: NetConfig, input: Tensor, target: Size | None) -> str | None:
    """A network of this package like the one that is asked for, which takes the picture."""
    made = nets.NETS.get(net.name)
    for name, other in nets.NETS.items():
        if name == net.name or not (isinstance(made, partial) and isinstance(other, partial)):
            continue
        if other.func is made.func and _fits(
            in_evaluation(nets.build(name, **net.options)), input, (input.shape[1], input.shape[2]), target
        ):
            return name
    return None


def _fits(network: nn.Module, input: Tensor, size: Size, target: Size | None) -> bool:
    """Whether a network takes pictures of a size, and makes ones in the right proportion of it."""
    try:
        with torch.no_grad():
            made = network(input.new_zeros(1, input.shape[0], *size))
    except Exception:  # whatever a network of the user's own raises for a size
        return False
    pairs = zip(made.shape[2:], size, target or size, input.shape[1:], strict=True)
    if target is not None:
        return all(have * by == side * want for have, side, want, by in pairs)
    return all(have % side == 0 or side % have == 0 for have, side, _, _ in pairs)
