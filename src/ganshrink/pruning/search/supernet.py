"""One network that is many: any cut of it runs on views of its weights, so that no layer exists twice.

Gradients of a cut reach the kept rows and columns of the shared weights alone. Batch norms of a cut use their batch's
statistics and leave the whole network's running ones as they are: a cut has none of its own until it is extracted and
its statistics are counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.extract import Identity, Zero, check_shapes, named, restate, stated_widths
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.plan import Plan

Runs = tuple[tuple[int, int], ...]  # (start, length) of neighbouring kept positions


@dataclass(frozen=True, eq=False)
class Subnet:
    """A plan, ready to be run on views.

    Attributes:
        pieces: per parameter or buffer and axis that is cut, the runs of kept positions: one run of the first so many, and
            of an axis behind a concatenation one for each tensor that was joined.
        attributes: by module and attribute the width that it states.
        removed: modules that a stand-in takes the place of, by path.
    """

    plan: Plan
    pieces: Mapping[str, tuple[tuple[int, Runs], ...]]
    attributes: Mapping[tuple[str, str], int]
    removed: Mapping[str, nn.Module]


class Supernet(nn.Module):
    """A network of which every plan can be run.

    Args:
        network: the whole network; parametrizations (spectral norms and the like) must be folded.
        channels: its structure.

    Raises:
        ValueError: for a network with parametrizations, or not the one that was traced.
    """

    def __init__(self, network: nn.Module, channels: Channels) -> None:
        super().__init__()
        check_shapes(network, channels)
        if {name for name, _ in network.named_parameters()} != {
            name for name, _ in folded_copy(network).named_parameters()
        }:
            raise ValueError(
                "a supernet shares its weights as they are: fold the network's parametrizations first"
            )
        self.network = network
        self.channels = channels

    def forward(self, *inputs: Tensor, subnet: Subnet | None = None) -> Tensor:
        """The image of the whole network, or of a subnet: what `extract` makes of its plan would give the same from the
        same statistics."""
        if subnet is None:
            return self.network(*inputs)  # type: ignore[no-any-return]
        with _standing_in(self.network, subnet):
            views = self._views(subnet)  # under each of a tensor's names
            return functional_call(self.network, views, inputs, tie_weights=False)  # type: ignore[no-any-return]

    def subnet(self, plan: Plan) -> Subnet:
        """A plan made ready, which takes longer than to run it once on a small image: keep what runs often.

        Raises:
            ValueError: if the plan cannot be carried out on this network.
        """
        channels = self.channels
        removed = channels.removed(channels.widths(plan))
        pieces = {
            name: tuple((axis, _runs(alive)) for axis, alive in cuts.items())
            for name, cuts in channels.cuts(plan).items()
            if cuts and removed.around(name) is None
        }
        attributes = channels.stated(plan, removed)
        for path, module in self.network.named_modules():
            if (weight := f"{path}.weight") in pieces:
                shape = _cut(named(self.network, weight).detach(), pieces[weight]).shape
                stated = stated_widths(module, shape, attributes.get((path, "groups")))
                attributes |= {(path, attribute): width for attribute, width in stated.items()}
        stand_ins: dict[str, nn.Module] = {path: Zero() for path in removed.zeros}
        stand_ins |= {path: Identity() for path in removed.identities}
        return Subnet(plan, pieces, attributes, stand_ins)

    def _views(self, subnet: Subnet) -> dict[str, Tensor]:
        """By name what a subnet has in a tensor's place. A module with several names counts once: its tensors are swapped,
        and put back, one time each."""
        cuts = {id(named(self.network, name)): found for name, found in subnet.pieces.items()}
        views: dict[str, Tensor] = {}
        for path, module in self.network.named_modules():
            at = f"{path}." if path else ""
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
                # a copy, since a norm in training writes into what it is given
                views[at + name] = _cut(buffer.detach(), cuts.get(id(buffer), ())).clone()
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
                if id(parameter) in cuts:
                    views[at + name] = _cut(parameter, cuts[id(parameter)])
        return views


def _cut(tensor: Tensor, cuts: tuple[tuple[int, Runs], ...]) -> Tensor:
    for axis, runs in cuts:
        parts = [tensor.narrow(axis, start, length) for start, length in runs]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    return tensor


def _runs(alive: np.ndarray) -> Runs:
    """The runs of True in a vector; one of length 0 where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], alive.astype(np.int8), [0]])))
    runs = tuple((int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True))
    return runs or ((0, 0),)


@contextmanager
def _standing_in(network: nn.Module, subnet: Subnet) -> Iterator[None]:
    """For one pass: attributes that state widths, and another `forward` for modules that the plan leaves nothing of, which
    may be called from anywhere."""
    changed = [*subnet.attributes, *((path, "forward") for path in subnet.removed)]
    before = [(m, name, vars(m).get(name)) for path, name in changed for m in [network.get_submodule(path)]]
    try:
        for (path, attribute), width in subnet.attributes.items():
            restate(network.get_submodule(path), attribute, width)
        for path, stand_in in subnet.removed.items():
            network.get_submodule(path).forward = stand_in.forward
        yield
    finally:
        for module, name, value in before:
            if value is None:
                delattr(module, name)
            else:
                setattr(module, name, value)
