"""Differentiable masks (DMAD, section III.B): a factor between 0 and 1 on every channel that may be cut, learned together
with the weights, and less and less soft until it is 0 or 1."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels, Producer
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.search.handles import (
    Factors,
    Handle,
    Silence,
    kept_by_floor,
    made_by,
    multiply,
    norm_handles,
    producer_handles,
)

MaskShape = Literal["quadratic", "linear"]
SPREAD = 0.2  # standard deviation of the inputs at first, as in the released code


def mask_values(inputs: Tensor, boundary: float | Tensor, *, shape: MaskShape = "quadratic") -> Tensor:
    """The mask of learnable inputs p: 0 up to -b, 1 from b on, and between them two parabolas that meet at 1/2 (Eq. 3).

    Args:
        inputs: p, of any shape.
        boundary: b, from 1 (soft) to 0, where the mask is 1 for p > 0 and else 0.
        shape: linear: a straight line from (-b, 0) to (b, 1), for the ablation of Table II, of which the paper prints no
            formula.
    """
    b = torch.as_tensor(boundary, dtype=inputs.dtype, device=inputs.device)
    x = (inputs / torch.where(b > 0, b, 1)).clamp(-1, 1)
    curve = torch.where(x <= 0, (x + 1).square() / 2, 1 - (x - 1).square() / 2)
    soft = (x + 1) / 2 if shape == "linear" else curve
    return torch.where(b > 0, soft, (inputs > 0).to(inputs.dtype))


def boundary_at(step: int, steps: int, *, moves: int | None = None) -> float:
    """b after so many of the `steps` iterations in which it goes from 1 to 0 (Eq. 4): 1 - (e / E)^(1/3).

    Args:
        moves: it stays between so many moves, as in the released code; none: it moves at every step.
    """
    if step >= steps:
        return 0.0
    done = step / steps if moves is None else (step * moves // steps) / moves
    return 1 - done ** (1 / 3)


@dataclass(frozen=True)
class MaskedLayer:
    """One producer's masks: positions `start` to `stop` of the inputs, along its axis."""

    producer: Producer
    start: int
    stop: int
    outer: bool  # neither inside a branch nor part of a sum
    handles: tuple[Handle, ...]


class Masks(nn.Module):
    """A mask for each producer of a network's free channels, and where its inputs stand between the boundaries.

    A mask multiplies what the norm after its layer puts out (`norm_handles`), or, where there is none, what the layer itself
    does. Several layers that are summed have a mask each, and their channel lives as long as any of
    them is not 0. Inputs that left (-b, b) are settled: their masks are 0 or 1 for good, and optimizers no longer move them.

    `inputs` is what is to be trained. State: it, what is settled and where it left, and the boundary.

    Args:
        model: the network that was traced; hooks stay on it until `fold`.
        channels: its structure, of which `maskable` has frozen what no mask can act on.
        shape: of the masks.
        floor: the least number of channels that live in a group that cannot be removed.
    """

    settled: Tensor  # (inputs,) int8: 1 and -1 for good, 0 not yet
    left: Tensor  # (inputs,) of what settled at 1, the input as it was; the largest float where it stays 1 in any case
    boundary: Tensor  # b of Eq. 3
    summed: Tensor  # (inputs,) whether other layers make the same channel, as in a residual sum
    outer: Tensor  # (inputs,) whether the layer is neither inside a branch nor part of a sum
    index: Tensor  # (inputs,) the atom of each; those of positions that are never cut stand after all others

    def __init__(
        self, model: nn.Module, channels: Channels, *, shape: MaskShape = "quadratic", floor: int = 1
    ) -> None:
        super().__init__()
        self.channels, self.shape, self.floor = channels, shape, floor
        self._silence = Silence(model, channels, columns=False)
        self.layers: list[MaskedLayer] = []
        atoms: list[Index] = []
        for producer, outer in _masked_producers(channels):
            made = made_by(channels, producer)
            start = self.layers[-1].stop if self.layers else 0
            handles = norm_handles(model, channels, producer) or producer_handles(model, channels, producer)
            self.layers.append(MaskedLayer(producer, start, start + len(made), outer, tuple(handles)))
            atoms.append(made)
        self.atoms: Index = np.concatenate(atoms) if atoms else np.zeros(0, np.int64)
        """Per input, the atom that it masks; -1: a position that is never cut."""
        free = np.append([g.frozen is None for g in channels.groups], False)
        fixed = torch.from_numpy(~free[np.append(channels.group_of, -1)[self.atoms]])
        inputs = torch.randn(len(self.atoms)) * SPREAD
        self.inputs = nn.Parameter(torch.where(fixed, 1.0, inputs))
        self.register_buffer("settled", fixed.to(torch.int8))
        self.register_buffer("left", torch.full_like(inputs, torch.finfo(inputs.dtype).max))
        index = np.where(self.atoms >= 0, self.atoms, channels.num_atoms)
        self.register_buffer("index", torch.from_numpy(index), persistent=False)
        self.register_buffer("boundary", torch.ones(()))
        several = np.append([len(group.producers) > 1 for group in channels.groups], False)
        summed = torch.from_numpy(several[np.append(channels.group_of, -1)[self.atoms]])
        self.register_buffer("summed", summed, persistent=False)
        outside = [layer.outer for layer in self.layers for _ in range(layer.start, layer.stop)]
        self.register_buffer("outer", torch.tensor(outside, dtype=torch.bool), persistent=False)
        self._readers = _branch_readers(channels)
        self._now: tuple[Tensor, ...] = ()  # each layer's masks in the forward pass at work
        self._constant: bool | None = None  # whether all is settled; None: not known
        self._factors = Factors()
        self._factors.hooks.append(model.register_forward_pre_hook(self._refresh))
        for number, layer in enumerate(self.layers):
            self._factors.add(layer.handles, partial(self._of, number))

    def values(self) -> Tensor:
        """(inputs,) the masks."""
        return mask_values(self.inputs, self.boundary, shape=self.shape)

    def _refresh(self, *_: Any) -> None:
        """All masks at once, before each pass of the network."""
        if self._constant is None:
            self._constant = bool((self.settled != 0).all())
        values = self.values().detach() if self._constant else self.values()
        self._now = values.split([layer.stop - layer.start for layer in self.layers])

    def _of(self, number: int) -> Tensor:
        return self._now[number]

    def soft(self) -> Tensor:
        """(inputs,) booleans: whether an input is between the boundaries, -b < p < b."""
        return (self.settled == 0) & (self.inputs.abs() < self.boundary)

    def alive(self) -> Tensor:
        """(inputs,) booleans: whether a mask is not 0."""
        return self.inputs > -self.boundary

    def per_atom(self, values: Tensor) -> Tensor:
        """(num_atoms + 1,) the sum of values (inputs,) over each atom's inputs; last, over positions that are never cut."""
        total = torch.zeros(self.channels.num_atoms + 1, dtype=values.dtype, device=values.device)
        return total.index_add_(0, self.index, values)

    def best_inputs(self) -> Tensor:
        """(num_atoms,) the largest of each atom's inputs, on the CPU, of what settled at 1 as they were then; inf where
        nothing is masked."""
        best = np.full(self.channels.num_atoms + 1, -np.inf)
        inputs = torch.where(self.settled > 0, self.left, self.inputs.detach())
        np.maximum.at(best, self.index.cpu().numpy(), inputs.cpu().numpy())
        return torch.from_numpy(np.where(np.isneginf(best), np.inf, best)[:-1])

    def pin(self) -> None:
        """Put settled inputs back to 1 and -1, and all that is left of dead channels to 0. An optimizer with momentum goes
        on moving them: call it after each step."""
        with torch.no_grad():
            settled = self.settled.to(self.inputs.dtype)
            self.inputs.copy_(torch.where(self.settled == 0, self.inputs, settled))
            self._silence.keep(lambda: self._live(self.settled >= 0))

    def move(self, boundary: float) -> int:
        """Draw the boundary closer, and settle what is no longer inside. What settles at 1 had a mask below it, which is
        folded into what it multiplied, so that the network's function stays.

        Returns:
            how many masks became 0.
        """
        free, inputs, edge = self.settled == 0, self.inputs.detach(), torch.full_like(self.boundary, boundary)
        zeros = free & (inputs <= -edge)
        kept = self._must_stay(zeros)
        # A mask below the boundary is 0: folded, it would leave a scale of 0, which hardly learns. Better a jump.
        self._settle(ones=kept, zeros=zeros & ~kept, fold=False)
        ones = free & (inputs > edge)
        self.left[ones] = inputs[ones]
        self._settle(ones=ones, zeros=torch.zeros_like(zeros))
        self.boundary.copy_(edge)
        died = int((zeros & ~kept).sum())
        if died:
            self._leave_with_blocks()
        return died

    def reopen(self, boundary: float) -> None:
        """Draw the boundary back out: what settled at 1 from within it is soft again, where it left. The network's function
        stays: what its masks are below 1 is taken out of what they multiply. What is dead stays so."""
        soft = (self.settled > 0) & (self.left < boundary)
        with torch.no_grad():
            self.boundary.fill_(boundary)
            self.settled[soft] = 0
            self.inputs.copy_(torch.where(soft, self.left, self.inputs))
            factors = torch.where(soft, 1 / self.values(), 1.0)
            for layer in self.layers:
                multiply(layer.handles, factors[layer.start : layer.stop])
        self._constant = None

    def _leave_with_blocks(self) -> None:
        """Masks in a module that is cut whole become 0 too, so that none of them keeps a channel for nobody."""
        channels = self.channels
        removed = channels.removed(channels.widths(self.live()))
        zeros = torch.zeros_like(self.settled, dtype=torch.bool)
        for layer in self.layers:
            if removed.around(layer.producer.parameter) is not None:
                zeros[layer.start : layer.stop] = True
        zeros &= self.settled >= 0
        if bool(zeros.any()):
            none = torch.zeros_like(zeros)
            self._settle(ones=none, zeros=zeros & ~self._must_stay(zeros))

    def freeze(self, share: float) -> None:
        """Settle each layer outside of branches and sums in which more than this share of the masks is 0, so that the rest
        of it cannot die (as the released code does with U-Nets)."""
        dead = ~self.alive()
        for layer in self.layers:
            own = slice(layer.start, layer.stop)
            if (
                layer.outer
                and bool((self.settled[own] == 0).any())
                and float(dead[own].float().mean()) > share
            ):
                chosen = torch.zeros_like(dead)
                chosen[own] = self.settled[own] == 0
                self._settle(ones=chosen & ~dead, zeros=chosen & dead)

    def finish(self, plan: Plan | None = None) -> None:
        """Settle everything: masks above 0 become 1, folded, the others 0, and so does the boundary.

        Args:
            plan: channels that it cuts go to 0, whatever their masks are.
        """
        free = self.settled == 0
        if plan is not None:
            kept = torch.from_numpy(np.append(plan.keep.numpy(), True)[self.atoms]).to(free.device)
            zeros = ~kept & (self.settled >= 0)
            self._settle(ones=torch.zeros_like(free), zeros=zeros)
            free = free & ~zeros
        self._settle(ones=free & self.alive(), zeros=free & ~self.alive())
        self.boundary.zero_()

    def live(self) -> Plan:
        """The plan that cuts channels of which all masks are 0, and branches that end in nothing but such masks."""
        return self._live(self.alive())

    def _live(self, masks: Tensor) -> Plan:
        alive = masks.cpu().numpy()
        keep = np.zeros(self.channels.num_atoms + 1, bool)
        keep[self.atoms[alive]] = True
        masked = np.append(np.bincount(self.atoms[self.atoms >= 0], minlength=self.channels.num_atoms), 0) > 0
        keep |= ~masked
        silent = {
            (layer.producer.parameter, layer.producer.axis)
            for layer in self.layers
            if not alive[layer.start : layer.stop].any()
        }
        for atoms, readers in self._readers:
            if readers <= silent:
                keep[atoms] = False
        return Plan(torch.from_numpy(keep[:-1]))

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        self._constant = None
        super()._load_from_state_dict(*args, **settings)

    def fold(self) -> None:
        """Write the masks into what they multiply, and take the hooks off. The function is the same. Once is enough."""
        self._refresh()
        self._factors.fold()

    def _settle(self, *, ones: Tensor, zeros: Tensor, fold: bool = True) -> None:
        with torch.no_grad():
            if fold and bool(ones.any()):
                factors = torch.where(ones, self.values(), 1.0)
                for layer in self.layers:
                    multiply(layer.handles, factors[layer.start : layer.stop])
            self.settled[ones], self.settled[zeros] = 1, -1
            self._constant = None
            if bool(zeros.any()):
                self._silence.forget()
            self.pin()

    def _must_stay(self, zeros: Tensor) -> Tensor:
        """(inputs,) booleans: of those about to become 0, the largest of groups that would have too few channels left."""
        kept = torch.zeros_like(zeros)
        if not bool(zeros.any()):
            return kept
        left = (self.alive() & ~zeros).cpu().numpy()
        inputs = torch.where(zeros, self.inputs.detach(), -torch.inf).cpu().numpy()  # what is dead stays so
        ids = np.flatnonzero(self.atoms >= 0)
        best = np.full(self.channels.num_atoms, np.inf)  # of an atom's inputs, the largest; inf: it lives
        best[self.atoms[ids]] = -np.inf
        np.maximum.at(best, self.atoms[ids], np.where(left[ids], np.inf, inputs[ids]))
        for atom in kept_by_floor(self.channels, self.floor, best == np.inf, best):
            if np.isfinite(best[atom]):
                own = ids[self.atoms[ids] == atom]
                kept[own[np.argmax(inputs[own])]] = True
        return kept


def maskable(channels: Channels) -> Channels:
    """The same structure, with groups frozen that have a layer on which no mask could act."""
    unscalable = {
        (channels.producers[number].parameter, channels.producers[number].axis): reason
        for number, reason in channels.unscalable.items()
    }
    reasons = {
        number: unscalable[made.parameter, made.axis]
        for number, group in enumerate(channels.groups)
        for made in group.producers
        if (made.parameter, made.axis) in unscalable
    }
    return channels.refrozen(reasons)


def _masked_producers(channels: Channels) -> list[tuple[Producer, bool]]:
    """Each layer that makes free channels, in forward order, and whether all of these are outside of branches and sums."""
    outer: dict[tuple[str, int], bool] = {}
    for group in channels.free:
        for made in group.producers:
            key = (made.parameter, made.axis)
            outer[key] = outer.get(key, True) and not group.removable and len(group.producers) == 1
    keys = ((p, (p.parameter, p.axis)) for p in channels.producers)
    return [(producer, outer[key]) for producer, key in keys if key in outer]


def _branch_readers(channels: Channels) -> list[tuple[Index, frozenset[tuple[str, int]]]]:
    """The atoms of each removable group, and the layers (producing parameter and axis) that read them."""
    found = []
    for group in channels.free:
        if group.removable:
            atoms = group.atoms.numpy()
            readers = frozenset(
                (producer.parameter, producer.axis)
                for producer in channels.producers
                for other, on in enumerate(channels.axes[producer.parameter])
                if other != producer.axis and on is not None and np.isin(on, atoms).any()
            )
            if readers:
                found.append((atoms, readers))
    return found
