"""Scales that a search drives to zero: a channel whose scales are all zero is dead, and is cut after the search."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.pruning.channels import Channels, Producer
from ganshrink.pruning.extract import named
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.search.constants import hand_over
from ganshrink.pruning.search.handles import (
    Factors,
    Silence,
    axis_atoms,
    kept_by_floor,
    made_by,
    norm_scales,
    producer_handles,
    same_atoms,
)


class Gates(nn.Module):
    """The scales of a network's free channels, ready to be trained.

    A producer's scale is that of the affine norm directly after it. Where there is none it gets one of its own, which
    multiplies its weights at each call and leaves its bias, as a norm's scale leaves the shift. Own scales and the list of
    the dead are this module's state.

    The dead may come back: their shifts and weights live on, so that their scales have gradients. What they carry is a
    constant, which `settle` hands over. Without `revive` they are gone for good: everything of theirs is kept at zero,
    and own scales multiply the bias too, so that the network computes at any time what it would without them.

    Args:
        model: the network that was traced, without parametrizations; hooks stay on it until `fold`.
        channels: its structure.
        floor: the least number of channels that live in a group that cannot be removed.
        initial: (num_atoms,) what own scales begin with, positive; what they multiply is divided by it, in place, so that
            the function stays. None: 1.
        revive: whether the dead may come back.
    """

    dead: Tensor
    _atoms: Tensor
    _count: Tensor

    def __init__(
        self,
        model: nn.Module,
        channels: Channels,
        *,
        floor: int = 1,
        initial: Tensor | None = None,
        revive: bool = True,
    ) -> None:
        super().__init__()
        self._model = (model,)  # a tuple: no submodule of this one
        self._channels, self.floor, self.revive = channels, floor, revive
        self._initial = torch.ones(channels.num_atoms) if initial is None else initial.float()
        self.groups = channels.free
        self.own = nn.ParameterList()
        self._scales: tuple[nn.Parameter, ...] = ()
        self._factors = Factors()
        self._silence = Silence(model, channels, columns=True)
        norms = norm_scales(channels)
        atoms: list[np.ndarray] = []
        for producer in dict.fromkeys(p for group in self.groups for p in group.producers):
            self._add(producer, norms.get((producer.parameter, producer.axis)), atoms)
        total = channels.num_atoms
        positions = np.concatenate(atoms) if atoms else np.zeros(0, np.int64)
        index = torch.from_numpy(np.where(positions >= 0, positions, total))
        self.register_buffer("_atoms", index, persistent=False)
        count = torch.zeros(total + 1).index_add_(0, index, torch.ones(len(index)))
        count[total] = 0
        self.register_buffer("_count", count, persistent=False)
        self.register_buffer("dead", torch.zeros(total, dtype=torch.bool))

    def _add(self, producer: Producer, norm: str | None, atoms: list[np.ndarray]) -> None:
        model = self._model[0]
        made = made_by(self._channels, producer)
        scale: Any
        if norm is not None and same_atoms(axis_atoms(self._channels, norm, 0), made):
            scale = named(model, norm)
        else:
            scale = nn.Parameter(self._initial[torch.from_numpy(made)].clone())
            self.own.append(scale)
            self._attach(scale, producer)
        if not any(scale is known for known in self._scales):
            self._scales += (scale,)
            atoms.append(made)

    def _attach(self, scale: nn.Parameter, producer: Producer) -> None:
        handles = producer_handles(self._model[0], self._channels, producer)[: 1 if self.revive else None]
        for handle in handles:
            with torch.no_grad():
                handle.tensor.div_(handle.along(scale))
        self._factors.add(handles, lambda: scale)

    @property
    def scales(self) -> tuple[nn.Parameter, ...]:
        """What is to be trained: norms' scales, parameters of the network, and own ones, of this module."""
        return self._scales

    def magnitudes(self) -> Tensor:
        """(num_atoms,) float64: the root mean square of an atom's scales; -inf if it is dead, inf where none is gated."""
        with torch.no_grad():
            values = self._norms()[:-1].double() / self._count[:-1].double().sqrt().clamp_min(1)
        gone = (
            self.dead & (values == 0) if self.revive else self.dead
        )  # a step may have moved those that can come back
        values = torch.where(self._count[:-1] > 0, values, torch.inf)
        return torch.where(gone, -torch.inf, values).cpu()

    def shrink(self, amount: float, *, hold: bool = False) -> None:
        """The proximal step of `amount` times the L1 norm of the scales, from where an optimizer has put them.

        An atom of one scale is soft-thresholded (GAN Slimming, Eq. 14). The scales of an atom that has k of them (tied by
        a residual sum, say) live or die together, so theirs is the group lasso's step: each is multiplied by
        max(0, 1 - amount sqrt(k) / norm) (Yuan and Lin 2006). The largest of a group that must not vanish are left as they
        are.

        Args:
            hold: the dead stay dead in this step, wherever the optimizer has put them.
        """
        with torch.no_grad():
            norms = self._norms()
            if hold or not self.revive:
                norms[:-1][self.dead] = -1  # they stand in for no living one
            limits = amount * self._count.sqrt()
            factors = (1 - limits / torch.where(norms > 0, norms, 1)).clamp_min(0)
            factors[norms <= 0] = 0
            alive, scores = (factors > 0).cpu().numpy(), norms.cpu().numpy()
            factors[kept_by_floor(self._channels, self.floor, alive, scores)] = 1
            factors[-1] = 1  # positions that are never cut
            start = 0
            for scale in self._scales:
                scale.mul_(factors[self._atoms[start : start + len(scale)]])
                start += len(scale)
            dead = (factors[:-1] == 0) & (self._count[:-1] > 0)
            if not torch.equal(dead, self.dead):
                self.dead.copy_(dead)
                self._silence.forget()
            if not self.revive:
                self.silence()

    def settle(self, batches: Sequence[tuple[Tensor, ...]]) -> float:
        """Silence the dead for good. Where they could have come back, what their shifts carried over these inputs goes into
        what reads them.

        Returns:
            by how much that moves the outputs, as a share of their root mean square; 0 where it moves nothing.
        """
        moved = 0.0
        if self.revive and bool(self.dead.any()):
            moved = hand_over(self._model[0], self._channels, self.live(), batches, self.silence)
        self.silence()
        return moved

    def silence(self) -> None:
        """Set everything of the dead to zero, shifts and what reads them included, so that ranges of weights are over what
        lives. Optimizers with momentum move them a little: call it after each step."""
        if bool(self.dead.any()):
            self._silence.keep(self.live)

    def live(self) -> Plan:
        """The plan that cuts the dead."""
        return Plan(~self.dead.cpu())

    def fold(self) -> None:
        """Write own scales into the weights that they multiply, and take the hooks off. The function is the same."""
        self._factors.fold()
        with torch.no_grad():
            for scale in self.own:
                scale.fill_(1)

    def _norms(self) -> Tensor:
        """(num_atoms + 1,): the L2 norm of each atom's scales; the last entry is that of fixed positions."""
        values = torch.cat([scale.detach() for scale in self._scales]) if self._scales else self._count[:0]
        squares = torch.zeros_like(self._count).index_add_(0, self._atoms, values.float().square())
        return squares.sqrt()
