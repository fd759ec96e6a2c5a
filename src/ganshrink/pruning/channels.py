"""What tracing finds out: atoms, groups, where they stand in every parameter, and what a plan costs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.cost import Convention, Cost, CostModel, Mask
from ganshrink.pruning.memory import Memory
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.removal import NOTHING, Removals, Removed
from ganshrink.pruning.statistics import FEWEST, Statistics


@dataclass(frozen=True)
class Producer:
    """A layer that makes channels: those at `indices` of axis `axis` of `parameter`, owned by `module`."""

    module: str
    parameter: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Atoms that stand side by side on the same axes: the unit of width."""

    name: str
    atoms: torch.Tensor  # int64 atom numbers
    producers: tuple[Producer, ...]  # in forward order
    removable: bool  # may reach zero
    frozen: str | None  # why no atom of it may be cut
    statistics: str | None = None  # the norm over channels whose statistics change with a cut

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def least(self) -> int:
        """The fewest atoms that it may keep, if it keeps any: under a norm over channels, two."""
        return min(FEWEST if self.statistics else 1, len(self))


@dataclass(frozen=True)
class Norm:
    """An affine norm directly after a producer: its scale is a handle on the producer's channels."""

    scale: str
    producer: int


@dataclass(frozen=True, eq=False)
class Channels:
    """Every channel of a network as an atom. Made by `trace`; knows nothing of the weights' values."""

    num_atoms: int
    groups: tuple[Group, ...]
    axes: Mapping[
        str, tuple[Index | None, ...]
    ]  # per parameter or buffer and axis: atoms, -1 for a fixed position
    producers: tuple[Producer, ...]
    norms: tuple[Norm, ...]
    scales: Mapping[int, str]  # producers whose channels end in an affine norm alone: its scale
    unscalable: Mapping[int, str]  # producers on which a factor has no effect, and why
    attributes: tuple[tuple[str, str, Index], ...]  # module, attribute, the axis whose size it states
    unzeroed: frozenset[str]
    attention_macs: int  # products of activations at full width, per image; in no budget
    example: tuple[Any, ...]
    model: CostModel = field(repr=False)
    removals: Removals = field(repr=False)
    memory: Memory = field(repr=False)
    call_nodes: tuple[Any, ...] = field(repr=False)
    tensors: tuple[str, ...] = field(repr=False)
    makers: tuple[int | None, ...] = field(default=(), repr=False)  # per call: the producer at work
    literal: tuple[tuple[Index, str], ...] = field(
        default=(), repr=False
    )  # probed: sizes the graph has as numbers
    statistics: tuple[Statistics, ...] = field(default=(), repr=False)  # calls whose statistics change
    calls: tuple[str, ...] = field(default=(), repr=False)  # what the graph's calls call, in order
    exact: bool = False  # traced so that no cut changes statistics
    masks: dict[Removed, tuple[Mask, Mask]] = field(default_factory=dict, repr=False, compare=False)
    refused: bool = False  # a probe froze something
    following: bool = False  # attributes of a user's modules follow widths
    idle: bool = False  # evaluation does not use all parameters: training may

    @cached_property
    def group_of(self) -> Index:
        """(num_atoms,) the number of each atom's group."""
        out = np.zeros(self.num_atoms, np.int64)
        for number, group in enumerate(self.groups):
            out[group.atoms.numpy()] = number
        return out

    @property
    def free(self) -> tuple[Group, ...]:
        """The groups that may be cut."""
        return tuple(group for group in self.groups if group.frozen is None)

    def check_free(self) -> None:
        """Raises ValueError if there are none, with the reasons."""
        if not self.free:
            reasons = "; ".join(sorted({str(group.frozen) for group in self.groups}))
            raise ValueError(f"no channel of this generator may be cut: {reasons}")

    @property
    def prunable(self) -> int:
        """How many atoms may be cut."""
        return sum(map(len, self.free))

    def full_widths(self) -> Index:
        """(groups,) the number of atoms of each group."""
        return np.array([len(g) for g in self.groups], np.int64)

    def widths(self, plan: Plan) -> Index:
        """(groups,) how many atoms each group keeps.

        Raises:
            ValueError: if this plan cannot be carried out on this network.
        """
        if len(plan.keep) != self.num_atoms:
            raise ValueError(f"the plan has {len(plan.keep)} atoms, the network {self.num_atoms}")
        kept = np.bincount(self.group_of[plan.keep.numpy()], minlength=len(self.groups))
        for number in np.flatnonzero((kept < self._least) & ~((kept == 0) & self._removable)):
            raise ValueError(f"the plan {_why_not(self.groups[number], int(kept[number]))}")
        return kept

    def check(self, plan: Plan) -> None:
        """Raises ValueError if this plan cannot be carried out on this network."""
        self.widths(plan)

    @cached_property
    def _least(self) -> Index:
        """(groups,) the fewest atoms that each may keep, if it keeps any."""
        return np.array([g.least if g.frozen is None else len(g) for g in self.groups], np.int64)

    @cached_property
    def _removable(self) -> Mask:
        return np.array([g.removable and g.frozen is None for g in self.groups], bool)

    def cuts(self, plan: Plan) -> dict[str, dict[int, Mask]]:
        """Per parameter and buffer what a plan cuts of it: by axis, which positions stay; without axes that stay whole."""
        alive = np.append(plan.keep.numpy(), True)  # -1, a fixed position, is the last
        return {
            name: {
                axis: alive[atoms]
                for axis, atoms in enumerate(axes)
                if atoms is not None and not alive[atoms].all()
            }
            for name, axes in self.axes.items()
        }

    def stated(self, plan: Plan, removed: Removed) -> dict[tuple[str, str], int]:
        """By module and attribute the widths that modules state, but those that go."""
        alive = np.append(plan.keep.numpy(), True)
        return {
            (path, attribute): int(alive[atoms].sum())
            for path, attribute, atoms in self.attributes
            if removed.around(f"{path}.") is None
        }

    def removed(self, widths: Index) -> Removed:
        """The modules that go at these widths."""
        found = self.removals.resolve(frozenset(np.flatnonzero(widths == 0).tolist()))
        if found.problem is not None:
            names = ", ".join(self.groups[i].name for i in np.flatnonzero(widths == 0))
            raise ValueError(f"{names} cannot all be empty: {found.problem}")
        return found

    def cost(self, plan: Plan | None = None, convention: Convention = "exact") -> Cost:
        """What the network costs under `plan` (None: the whole network), in closed form.

        Args:
            convention: `exact`, or `paper`: transposed convolutions at output resolution.
        """
        if convention not in ("exact", "paper"):
            raise ValueError(f"convention must be exact or paper, got {convention!r}")
        widths = self.full_widths() if plan is None else self.widths(plan)
        return self.cost_at(widths, convention)

    def summary(self, plan: Plan) -> str:
        """What a network costs under `plan`, for the log."""
        cost = self.cost(plan)
        return f"{cost.macs / 1e9:.4g} G MACs (exact), {cost.params / 1e6:.4g} M parameters"

    def cost_at(self, widths: Index, convention: Convention = "exact") -> Cost:
        """The same from the number of kept atoms per group."""
        memory = self.memory_at(widths)
        if widths.all():
            return self.model.evaluate(widths, convention, memory)
        return self.model.evaluate(widths, convention, memory, *self._gone(self.removed(widths)))

    def macs_at(self, widths: Index, convention: Convention = "exact") -> int:
        """Of that the multiply-accumulates alone, which take the least time to count."""
        macs = self.model.by_call(widths, convention)
        gone = None if widths.all() else self._gone(self.removed(widths))[0]
        return int(macs.sum() if gone is None else macs[~gone].sum()) // self.model.images

    def memory_at(self, widths: Index) -> int:
        """The most bytes of activations, in float32, that are alive at once while one image is made at these widths."""
        return self.memory.peak(widths, NOTHING if widths.all() else self.removed(widths))

    def macs_by_call(self, widths: Index) -> Index:
        """(calls,) exact multiply-accumulates of each call per image; 0 where its module is gone. See `makers`."""
        macs = self.model.by_call(widths, "exact") // self.model.images
        return macs if widths.all() else np.where(self._gone(self.removed(widths))[0], 0, macs)

    def macs_by_group(self) -> NDArray[np.float64]:
        """(groups,) exact multiply-accumulates, at full width, of the calls that make each group's channels, or filter them
        one by one (depthwise). A call whose channels are in several groups is shared among them."""
        model, widths, group_of = self.model, self.full_widths(), self.group_of
        out = np.zeros(len(widths))
        for call, (macs, maker) in enumerate(zip(self.macs_by_call(widths), self.makers, strict=True)):
            if maker is not None:
                atoms = self.axes[self.producers[maker].parameter][self.producers[maker].axis]
                assert atoms is not None
                out += macs * np.bincount(group_of[atoms[atoms >= 0]], minlength=len(out)) / len(atoms)
                continue
            rows = [row for row in model.call_axes[call] if row >= 0 and model.members[row].any()]
            if len(rows) == 1:  # else a product, which makes no channels
                of_each = model.members[rows[0]] * widths
                out += macs * of_each / (of_each.sum() + model.always[rows[0]])
        return out

    def _gone(self, removed: Removed) -> tuple[Mask, Mask]:
        if removed not in self.masks:
            self.masks[removed] = self._gone_anew(removed)
        return self.masks[removed]

    def _gone_anew(self, removed: Removed) -> tuple[Mask, Mask]:
        calls = np.array([n in removed.calls for n in self.call_nodes], bool)
        return calls, np.array([removed.around(name) is not None for name in self.tensors], bool)

    def counting(self, tensors: Collection[str]) -> "Channels":
        """A copy in whose costs these parameters and buffers alone count."""
        counted = np.array([name in tensors for name in self.tensors], bool)
        names = tuple(name for name in self.tensors if name in tensors)
        return replace(self, model=self.model.counting(counted), tensors=names, masks={})

    def refrozen(self, reasons: Mapping[int, str], *, fixed_branches: bool = False) -> "Channels":
        """A copy in which some groups, by number, are frozen too, and optionally none may be removed."""
        groups = tuple(
            replace(
                g,
                frozen=g.frozen or reasons.get(i),
                removable=g.removable and i not in reasons and not fixed_branches,
            )
            for i, g in enumerate(self.groups)
        )
        return replace(self, groups=groups, refused=self.refused or bool(reasons))


def _why_not(group: Group, kept: int) -> str:
    """Why a plan cannot keep so few atoms of a group."""
    if group.frozen is not None:
        return f"cuts {group.name}, which is frozen: {group.frozen}"
    if kept == 0:
        return f"keeps no channel of {group.name}; at least one must stay"
    return f"keeps {kept} channel of {group.name}; at least {group.least} must stay: {group.statistics}"
