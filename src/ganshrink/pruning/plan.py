"""A plan: which atoms live. Saved as JSON per layer, so that a person can read it and another tool can use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from ganshrink.pruning.channels import Channels


@dataclass(frozen=True, eq=False)
class Plan:
    """One boolean per atom of a `Channels`: True keeps it."""

    keep: torch.Tensor

    def __post_init__(self) -> None:
        if self.keep.dtype != torch.bool or self.keep.ndim != 1:
            raise ValueError(
                f"a plan is a vector of booleans, got {self.keep.dtype} of {tuple(self.keep.shape)}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and torch.equal(self.keep, other.keep)

    def __hash__(self) -> int:
        return hash(self.keep.numpy().tobytes())

    @staticmethod
    def full(channels: "Channels") -> "Plan":
        return Plan(torch.ones(channels.num_atoms, dtype=torch.bool))

    @staticmethod
    def random(channels: "Channels", removed: float, seed: int = 0) -> "Plan":
        """Drop this fraction (0 to 1, rounded) of every group that is not frozen, but `Group.least` atoms of it."""
        if not 0 <= removed <= 1:
            raise ValueError(f"removed must be a fraction from 0 to 1, got {removed}")
        rng = np.random.default_rng(seed)
        keep = torch.ones(channels.num_atoms, dtype=torch.bool)
        for group in channels.free:
            count = min(round(removed * len(group)), len(group) - group.least)
            keep[group.atoms[torch.from_numpy(rng.permutation(len(group))[:count])]] = False
        return Plan(keep)

    def whole(self, small: "Channels", channels: "Channels", first: "Plan") -> "Plan":
        """This plan of a network that an earlier plan made, as one plan of the network before both.

        Args:
            small: the structure of the network that this plan is for.
            channels: that of the network before.
            first: the plan of `channels` by which that became the small one.
        """
        keep = first.keep.clone()
        for name, axes in small.axes.items():
            for left, before in zip(axes, channels.axes[name], strict=True):
                if left is not None and before is not None:
                    stayed = before[first._kept(before)]
                    keep[stayed[~self._kept(left)]] = False
        return Plan(keep)

    def to_json(self, channels: "Channels", *, basis: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Kept indices per layer, and per group its width, whether it may go, why it is frozen, and which norm's statistics
        a cut of it changes; `exact` for channels that were traced so.

        Args:
            basis: per group name, what its scores were read from; recorded for the reader.
        """
        channels.check(self)
        layers = [
            {"path": path, "axis": axis, "kept": np.flatnonzero(self._kept(atoms)).tolist(), "of": len(atoms)}
            for path, axis, atoms in _layers(channels)
        ]
        groups = []
        for group in channels.groups:
            entry: dict[str, Any] = {
                "name": group.name,
                "kept": int(self.keep[group.atoms].sum()),
                "of": len(group),
            }
            entry |= {"removable": group.removable, "frozen": group.frozen}
            if group.statistics is not None and group.frozen is None:
                entry["statistics"] = group.statistics
            if basis is not None and group.name in basis and group.frozen is None:
                entry["basis"] = basis[group.name]
            groups.append(entry)
        return {"layers": layers, "groups": groups} | ({"exact": True} if channels.exact else {})

    def _kept(self, atoms: np.ndarray) -> np.ndarray:
        return np.append(self.keep.numpy(), True)[atoms]

    @staticmethod
    def from_json(channels: "Channels", obj: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote.

        Raises:
            ValueError: if a layer is missing, unknown, of another size, or contradicts a layer tied to it.
        """
        if not isinstance(obj, Mapping) or not isinstance(obj.get("layers"), list):
            raise ValueError("a plan needs a list named 'layers'")
        given = {(entry.get("path"), entry.get("axis")): entry for entry in obj["layers"]}
        keep = np.ones(channels.num_atoms, bool)
        said = np.zeros(channels.num_atoms, bool)
        for path, axis, atoms in _layers(channels):
            entry = given.pop((path, axis), None)
            if entry is None:
                raise ValueError(f"the plan says nothing about layer {path} ({axis})")
            alive = _indices(entry, path, len(atoms))
            numbered = atoms >= 0
            if not alive[~numbered].all():
                raise ValueError(f"the plan cuts fixed channels of layer {path}")
            ours, wanted = atoms[numbered], alive[numbered]
            if (said[ours] & (keep[ours] != wanted)).any():
                raise ValueError(f"the plan's layer {path} contradicts a layer that shares its channels")
            keep[ours], said[ours] = wanted, True
            if (keep[ours] != wanted).any():
                raise ValueError(f"the plan's layer {path} cuts only some of the channels that go together")
        if given:
            raise ValueError(f"the plan names layer {next(iter(given))[0]}, which this network does not have")
        plan = Plan(torch.from_numpy(keep))
        channels.check(plan)
        return plan


def _indices(entry: Mapping[str, Any], path: str, size: int) -> np.ndarray:
    if entry.get("of") != size:
        raise ValueError(f"layer {path} has {size} channels, the plan was made for {entry.get('of')}")
    kept = entry.get("kept")
    if not isinstance(kept, list) or not all(isinstance(i, int) and 0 <= i < size for i in kept):
        raise ValueError(f"layer {path}: kept must list channel numbers from 0 to {size - 1}")
    alive = np.zeros(size, bool)
    alive[kept] = True
    return alive


def _layers(channels: "Channels") -> list[tuple[str, str, np.ndarray]]:
    """One entry per producing layer; atoms without one are written down where they stand first."""
    out: list[tuple[str, str, np.ndarray]] = []
    seen = np.zeros(channels.num_atoms, bool)
    names: set[tuple[str, str]] = set()
    for producer in channels.producers:
        atoms = channels.axes[producer.parameter][producer.axis]
        key = (producer.module, "out")
        if key in names or not producer.parameter.endswith("weight"):
            key = (producer.parameter, str(producer.axis))
        if atoms is not None and key not in names:
            names.add(key)
            out.append((*key, atoms))
            seen[atoms[atoms >= 0]] = True
    for name, axes in channels.axes.items():
        for number, axis in enumerate(axes):
            if axis is not None and not seen[axis[axis >= 0]].all():
                out.append((name, str(number), axis))
                seen[axis[axis >= 0]] = True
    return out
