"""Memory of activations in closed form: the most bytes that are alive at any step while one image is made.

The steps are the operators of the graph, one after another. A tensor is alive from the step that makes it to the last one
that reads it; the model's inputs and outputs stay to the end, for they are the caller's. Weights, and what is made of
weights alone, do not count. Reshapes share the memory of what they reshape. An elementwise operator takes the memory of an
input of its output's shape that nothing reads afterwards, as runtimes do. A transposed convolution also holds its columns
while it works, as ONNX Runtime's does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import fx

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.removal import Removed


@dataclass(frozen=True)
class Step:
    """One operator, in forward order."""

    node: fx.Node
    tensor: int | None  # its row among the tensors; None: it makes none of its own
    reads: tuple[fx.Node, ...]
    shares: fx.Node | None = None  # whose memory its result is in
    reuses: tuple[fx.Node, ...] = ()  # inputs whose memory it takes if they are not read again
    piece: bool = False  # made by the operator that it reads, one of several results
    work: int | None = None  # the row of what it needs while it works


@dataclass(frozen=True)
class Tensors:
    """Bytes of every tensor for one image: `unit * product of axis sizes`, an axis's size being linear in the widths."""

    shares: NDArray[
        np.float64
    ]  # (axes, groups): positions per atom; a fraction where a group stands there in part
    always: Index  # (axes,): positions that are never cut
    axes: Index  # (tensors, dims): indices into the axes; -1 stands for 1
    unit: NDArray[np.float64]  # (tensors,) bytes per product

    def bytes(self, widths: Index) -> NDArray[np.float64]:
        """(tensors,) at these kept widths per group."""
        sizes = np.append(self.shares @ widths + self.always, 1)
        return np.rint(self.unit * sizes[self.axes].prod(axis=1))


Lives = tuple[
    Index, Index, Index
]  # of each tensor that is made: its row, the step that makes it, the first without it


@dataclass(frozen=True)
class Memory:
    """What is alive when."""

    steps: tuple[Step, ...]
    inputs: Mapping[fx.Node, int]  # with their tensors
    outputs: Sequence[fx.Node]
    tensors: Tensors
    lives: dict[Removed, Lives] = field(default_factory=dict, repr=False, compare=False)

    def peak(self, widths: Index, removed: Removed) -> int:
        """The most bytes at once, at `widths` kept atoms per group, without the operators of removed modules."""
        if removed not in self.lives:
            self.lives[removed] = self._follow(removed)
        rows, made, freed = self.lives[removed]
        sizes, count = self.tensors.bytes(widths)[rows], len(self.steps) + 3
        changes = np.bincount(made, sizes, count) - np.bincount(freed, sizes, count)
        return int(changes.cumsum().max())

    def _follow(self, removed: Removed) -> Lives:
        handed, end = dict(removed.handed), len(self.steps) + 1
        holder = {
            node: node for node in self.inputs
        }  # what comes of the inputs: the node whose memory it is in
        rows, made, last = dict(self.inputs), dict.fromkeys(self.inputs, 0), dict.fromkeys(self.inputs, end)
        at, work = dict[fx.Node, int](), list[tuple[int, int, int]]()
        for now, step in enumerate(self.steps, 1):
            node, at[step.node] = step.node, now
            if node in removed.calls:
                if handed.get(node) in holder:
                    holder[node] = holder[handed[node]]
                continue
            read = [holder[source] for source in step.reads if source in holder]
            for source in read:
                last[source] = max(now, last[source])
            if not read:
                continue
            holder[node] = node if step.shares is None else holder.get(step.shares, node)
            if step.work is not None:
                work.append((step.work, now, now + 1))
            if holder[node] is node:
                made[node] = at[step.reads[0]] if step.piece else now
                last[node] = now
                if step.tensor is not None:
                    rows[node] = step.tensor
        last |= {holder[node]: end for node in self.outputs if node in holder}
        freed = {node: when + 1 for node, when in last.items()}
        for now, step in enumerate(self.steps, 1):
            if holder.get(step.node) is step.node:
                spent = [holder[n] for n in step.reuses if n in holder and last[holder[n]] == now]
                if spent:
                    freed[spent[0]] = now
        table = [(row, made[node], freed[node]) for node, row in rows.items()] + work
        found = np.array(table, np.int64).reshape(len(table), 3)
        return found[:, 0], found[:, 1], found[:, 2]
