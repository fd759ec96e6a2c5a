"""What a network costs, before anything is done to it."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.system.copies import in_evaluation
from ganshrink.workflow.overrides import parse_overrides


def profile(net: str, options: Sequence[str] = (), inputs: Sequence[str] = ()) -> dict[str, Any]:
    """Parameters, MACs in both conventions and memory of a network for one image, and how much of it can be pruned.

    Args and Raises: as `network_of`.
    """
    network, example, given = network_of(net, options, inputs)
    structure = trace(network, *example)
    cost = structure.cost()
    return {
        "net": net,
        "options": given,
        "inputs": [list(tensor.shape[1:]) for tensor in example],
        "params": cost.params,
        "macs": {"exact": cost.macs, "paper": structure.cost(None, "paper").macs},
        "bytes": sum(t.numel() * t.element_size() for t in network.state_dict().values()),
        "memory": cost.memory,
        "groups": len(structure.groups),
        "prunable": len(structure.free),
    }


def network_of(
    net: str, options: Sequence[str] = (), inputs: Sequence[str] = ()
) -> tuple[nn.Module, list[torch.Tensor], dict[str, Any]]:
    """A network with fresh weights, inputs that it takes, and the options it was built with.

    Args:
        net: a network's name, or `MODULE:NAME` of the user's own, whose code is run.
        options: `key=value` for its constructor.
        inputs: channels, height and width of each input of the network, such as `3x256x256`, or of a vector its length;
            none: 3x256x256, or a latent vector where the network takes one.

    Raises:
        ValueError: for an unknown network or option, or sizes that do not parse or that the network cannot take.
    """
    for text in inputs:
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*x[1-9]\d*)?", text):
            raise ValueError(f"--input must be CxHxW, such as 3x256x256, or C for a vector, got {text!r}")
    given, known = parse_overrides(options), nets.net_options(net)
    inputs = inputs or (str(given.get("latent", known["latent"])) if "latent" in known else "3x256x256",)
    sizes = [[int(number) for number in text.split("x")] for text in inputs]
    if len(sizes) == 1:
        for option in {"in_channels", "latent"} & known.keys():
            given.setdefault(option, sizes[0][0])
    network = nets.build(net, **given)
    example = [torch.zeros(1, *size) for size in sizes]
    try:
        with torch.no_grad():
            in_evaluation(network)(*example)
    except Exception as error:  # whatever a network of the user's own raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{net} cannot take an input of {' and '.join(inputs)}: {reason}") from error
    return network, example, given
