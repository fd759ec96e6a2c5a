"""What hangs on a channel, seen on images: how far the outputs move without it, and which channels others stand in for.

A channel is looked at where a factor on it acts: behind the norm after its layer, or where there is none behind the layer.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ganshrink.pruning.channels import Channels, Group, Producer
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.search.handles import Factors, Handle, made_by, norm_handles, producer_handles

DRAWS = 8  # random directions in which the outputs are looked at
NUGGET = 1e-3  # share of a channel's variance that no others give: only some places are compared
PLACES = 256  # places of a layer's output that are compared, of each batch


def output_effect(
    model: nn.Module,
    channels: Channels,
    batches: Sequence[tuple[Tensor, ...]],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Tensor:
    """By how much the outputs move when a channel is silenced, (num_atoms,) float64: the mean square over all their
    numbers, to first order in a factor g on the channel. That is the squared error to second order (LeCun et al. 1990, with
    the Gauss-Newton matrix in the Hessian's place). Infinite for what may not be cut.

    It is the mean over random signs r of (d<outputs, r> / dg)^2, whose expectation is |d outputs / dg|^2.

    Args:
        batches: inputs of the network, at its device.
        draws: directions r for each batch.
    """
    network = folded_copy(model).eval()
    gates = torch.ones(
        channels.num_atoms + 1, requires_grad=True, device=batches[0][0].device
    )  # the last one: fixed places
    factors, total, numbers = Factors(), torch.zeros(channels.num_atoms + 1, dtype=torch.float64), 0
    for producer in _producers(channels):
        factors.add(_handles(network, channels, producer), partial(_at, gates, made_by(channels, producer)))
    generator = torch.Generator().manual_seed(seed)
    for inputs in batches:
        outputs = [
            out for out in tree_leaves(network(*inputs)) if isinstance(out, Tensor) and out.requires_grad
        ]
        numbers += sum(out.numel() for out in outputs)
        for draw in range(draws):
            signs = [torch.randint(0, 2, out.shape, generator=generator).to(out) * 2 - 1 for out in outputs]
            [slope] = torch.autograd.grad(outputs, gates, signs, retain_graph=draw + 1 < draws)
            total += slope.detach().double().cpu().square()
    scores = total[:-1] / (draws * max(numbers, 1))
    for group in channels.groups:
        if group.frozen is not None:
            scores[group.atoms] = torch.inf
    return scores


def pivoted(
    model: nn.Module,
    channels: Channels,
    batches: Sequence[tuple[Tensor, ...]],
    effect: Tensor,
    *,
    places: int = PLACES,
    seed: int = 0,
) -> Tensor:
    """What each channel adds to those that are chosen before it, (num_atoms,) float64: its effect times the share of its
    variance that the chosen ones of its group cannot give. They are chosen greedily, by a pivoted Cholesky factorisation of
    the channels' correlations, weighted by the roots of their effects. Infinite for what may not be cut.

    Args:
        effect: (num_atoms,) what `output_effect` says.
        places: of a layer's output that are compared, of each batch.
    """
    network, scores = folded_copy(model).eval(), effect.clone()
    generator = torch.Generator().manual_seed(seed)
    moments = {
        number: _Moments(len(group)) for number, group in enumerate(channels.groups) if group.frozen is None
    }
    with ExitStack() as stack, torch.no_grad():
        for producer in _producers(channels):
            module, axis = _looked_at(network, channels, producer)
            made = made_by(channels, producer)
            columns = {
                n: _columns(channels.groups[n], made)
                for n in moments
                if n in set(channels.group_of[made[made >= 0]])
            }

            def look(_: Any, __: Any, output: Tensor, columns: Any = columns, axis: int = axis) -> None:
                rows = output.movedim(axis, -1).flatten(0, -2)
                rows = rows[torch.randint(len(rows), (places,), generator=generator)].double().cpu()
                for number, (there, here) in columns.items():
                    moments[number].add(rows[:, here], there)

            stack.callback(module.register_forward_hook(look).remove)
        for inputs in batches:
            network(*inputs)
    for number, found in moments.items():
        atoms = channels.groups[number].atoms
        scores[atoms] = _greedily(found.correlations(), effect[atoms].sqrt())
    return scores


def balanced(scores: Tensor, channels: Channels) -> Tensor:
    """Scores over the mean of their group, so that one threshold cuts every group about alike: sums over many layers, such
    as a residual trunk's, would keep all of their channels at the cost of all others."""
    found = scores.clone()
    for group in channels.groups:
        if group.frozen is None:
            found[group.atoms] /= scores[group.atoms].mean().clamp_min(1e-300)
    return found


class _Moments:
    """Sums over rows of a group's channels, of all layers that make them."""

    def __init__(self, width: int) -> None:
        self.sums = torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Tensor, there: Tensor) -> None:
        """Rows (N, some) of the channels at `there`, less their means: layers that add up have each their own."""
        rows = rows - rows.mean(0)
        self.products[there[:, None], there] += rows.T @ rows

    def correlations(self) -> Tensor:
        """(width, width); 0 for a channel that is constant."""
        scale = self.products.diagonal().clamp_min(0).sqrt()
        scale = torch.where(scale > 0, 1 / scale.clamp_min(1e-300), 0)
        noise = NUGGET * torch.diag(self.products.diagonal() > 0)
        return (self.products * scale[:, None] * scale + noise) / (1 + NUGGET)


def _greedily(correlations: Tensor, weights: Tensor) -> Tensor:
    """(width,): by pivoted Cholesky of the weighted correlations, what was left of each when it was chosen."""
    left = correlations * weights[:, None] * weights
    found, open_ = torch.zeros(len(left), dtype=left.dtype), torch.ones(len(left), dtype=torch.bool)
    for _ in range(len(left)):
        diagonal = torch.where(open_, left.diagonal(), -torch.inf)
        chosen = int(diagonal.argmax())
        value = float(diagonal[chosen])
        if value <= 0:
            break
        found[chosen], open_[chosen] = value, False
        column = left[:, chosen] / value**0.5
        left = left - column[:, None] * column
    return found


def _producers(channels: Channels) -> list[Producer]:
    """Layers that make channels which may be cut."""
    return list(
        dict.fromkeys(p for group in channels.groups if group.frozen is None for p in group.producers)
    )


def _handles(model: nn.Module, channels: Channels, producer: Producer) -> list[Handle]:
    return norm_handles(model, channels, producer) or producer_handles(model, channels, producer)


def _looked_at(model: nn.Module, channels: Channels, producer: Producer) -> tuple[nn.Module, int]:
    """The module whose output has a producer's channels, and their axis there."""
    module = _handles(model, channels, producer)[0].module
    last = isinstance(module, nn.Linear | nn.LayerNorm)
    return module, -1 if last else 1


def _columns(group: Group, made: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where a group's channels stand among its own, and on a producer's axis."""
    here = np.flatnonzero(np.isin(made, group.atoms.numpy()))
    order = {int(atom): place for place, atom in enumerate(group.atoms)}
    return torch.tensor([order[int(atom)] for atom in made[here]]), torch.from_numpy(here)


def _at(gates: Tensor, made: np.ndarray) -> Tensor:
    return gates[torch.from_numpy(made).to(gates.device)]  # -1, a fixed place: the last
