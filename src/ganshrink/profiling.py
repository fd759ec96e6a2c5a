"""What a network costs, before anything is done to it."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from ganshrink import nets
from ganshrink.channels import trace
from ganshrink.recipe import parse_overrides


def profile(net: str, options: Sequence[str] = (), input_: str = "3x256x256") -> dict[str, Any]:
    """Parameters and MACs of a network for one image, in both conventions, and how much of it can be pruned.

    Args:
        net: a network's name.
        options: `key=value` for its constructor.
        input_: channels, height and width of one input, as `3x256x256`.

    Raises:
        ValueError: for an unknown network or option, or a size that does not parse or that the network cannot take.
    """
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", input_):
        raise ValueError(f"--input must be CxHxW, such as 3x256x256, got {input_!r}")
    channels, height, width = map(int, input_.split("x"))
    given = parse_overrides(options)
    if "in_channels" in nets.net_options(net):
        given.setdefault("in_channels", channels)
    network = nets.build(net, **given)
    example = torch.zeros(1, channels, height, width)
    try:
        with torch.no_grad():
            network.eval()(example)
    except RuntimeError as error:
        raise ValueError(f"{net} cannot take an input of {input_}: {str(error).splitlines()[0]}") from None
    structure = trace(network, example)
    return {
        "net": net,
        "options": given,
        "input": [channels, height, width],
        "params": structure.cost().params,
        "macs": {convention: structure.cost(None, convention).macs for convention in ("exact", "paper")},
        "bytes": sum(t.numel() * t.element_size() for t in network.state_dict().values()),
        "groups": len(structure.groups),
        "prunable": sum(group.frozen is None for group in structure.groups),
    }
