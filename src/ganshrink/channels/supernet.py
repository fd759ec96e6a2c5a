"""One network that is many: any cut of it runs on views of its weights, so that no layer exists twice.

Gradients of a cut reach the kept rows and columns of the shared weights alone. Batch norms of a cut use their batch's
statistics and leave the whole network's running ones as they are: a cut has none of its own until it is extracted and
its statistics are counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganshrink.channels.folding import folded_copy
from ganshrink.channels.graph import Channels
from ganshrink.channels.plan import Plan
from ganshrink.channels.surgery import Identity, Zero, check_shapes, named

Runs = tuple[tuple[int, int], ...]  # (start, length) of neighbouring kept positions


@dataclass(frozen=True, eq=False)
class Subnet:
    """A plan, ready to be run on views.

    Attributes:
        pieces: per parameter or buffer and axis that is cut, the runs of kept positions: one run of the first so many, and
            of an axis behind a concatenation one for each tensor that was joined.
        attributes: module, attribute and the width that it states.
        removed: modules that a stand-in takes the place of, by path.
    """

    plan: Plan
    pieces: Mapping[str, tuple[tuple[int, Runs], ...]]
    attributes: tuple[tuple[str, str, int], ...]
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
            return functional_call(self.network, self._views(subnet), inputs)  # type: ignore[no-any-return]

    def subnet(self, plan: Plan) -> Subnet:
        """A plan made ready, which takes longer than to run it once on a small image: keep what runs often.

        Raises:
            ValueError: if the plan cannot be carried out on this network.
        """
        channels = self.channels
        removed = channels.removed(channels.widths(plan))
        gone = tuple(f"{path}." for path in (*removed.zeros, *removed.identities))
        alive = np.append(plan.keep.numpy(), True)
        pieces = {}
        for name, axes in channels.axes.items():
            cuts = tuple(
                (axis, _runs(alive[atoms]))
                for axis, atoms in enumerate(axes)
                if atoms is not None and not alive[atoms].all()
            )
            if cuts and not name.startswith(gone):
                pieces[name] = cuts
        attributes = tuple(
            (path, attribute, int(alive[atoms].sum()))
            for path, attribute, atoms in channels.attributes
            if not alive[atoms].all() and not f"{path}.".startswith(gone)
        )
        stand_ins: dict[str, nn.Module] = {path: Zero() for path in removed.zeros}
        stand_ins |= {path: Identity() for path in removed.identities}
        return Subnet(plan, pieces, attributes, stand_ins)

    def _views(self, subnet: Subnet) -> dict[str, Tensor]:
        views: dict[str, Tensor] = {}
        for name, buffer in self.network.named_buffers():
            # a copy, since a norm in training writes into what it is given
            views[name] = _cut(buffer.detach(), subnet.pieces.get(name, ())).clone()
        for name, cuts in subnet.pieces.items():
            if name not in views:
                views[name] = _cut(named(self.network, name), cuts)
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
    """For one pass: attributes that state widths, and stand-ins for modules that the plan leaves nothing of."""
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for path, attribute, width in subnet.attributes:
            module = network.get_submodule(path)
            before.append((module, attribute, getattr(module, attribute)))
            setattr(module, attribute, width)
        for path, stand_in in subnet.removed.items():
            owner, _, name = path.rpartition(".")
            parent = network.get_submodule(owner)
            before.append((parent, name, getattr(parent, name)))
            setattr(parent, name, stand_in)
        yield
    finally:
        for module, attribute, value in reversed(before):
            setattr(module, attribute, value)
