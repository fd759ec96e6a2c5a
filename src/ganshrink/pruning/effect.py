"""How much a channel matters to the images that a network makes: what gradients of its output say."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import evaluating
from ganshrink.pruning.extract import check_shapes
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.search.handles import Handle, made_by, norm_handles, producer_handles
from ganshrink.pruning.untouched import random_numbers_kept
from ganshrink.system.generator import Input, as_tuple


@torch.enable_grad()
def output_effect(model: nn.Module, channels: Channels, inputs: Iterable[Input], *, seed: int = 0) -> Tensor:
    """(num_atoms,) float64: the mean over inputs of |d output / d gate|^2, for a gate that multiplies all that an atom is
    made of; frozen atoms are infinite.

    Half of it is, to second order, the squared error that a small change of the gate makes in the output (Gauss and
    Newton's approximation, which Optimal Brain Damage of LeCun et al. 1989 has for single weights). A gate acts on scale
    and shift of the norm that an atom ends in, or else on the weights and bias that make it: give norms scales first
    (`add_affine`), for one without undoes what is before it. The squared norm of the derivative is estimated by that of
    one random sum of outputs, with signs of equal odds, for each input.

    Args:
        model: the trained network that was traced.
        inputs: of the generator, one image each.
    """
    plain = folded_copy(model)
    check_shapes(plain, channels)
    acting = [(handle, atoms) for handle, atoms in _gates(plain, channels)]
    tensors = [handle.tensor for handle, _ in acting]
    signs = torch.Generator().manual_seed(seed)
    total, count = torch.zeros(channels.num_atoms, dtype=torch.float64), 0
    with evaluating(plain), random_numbers_kept():
        for input in inputs:
            leaves = [t for t in pytree.tree_leaves(plain(*as_tuple(input))) if isinstance(t, Tensor)]
            outputs = [t for t in leaves if t.requires_grad]
            drawn = [(torch.rand(t.shape, generator=signs) < 0.5).to(t) * 2 - 1 for t in outputs]
            found = torch.autograd.grad(outputs, tensors, drawn, allow_unused=True)
            slope = torch.zeros(channels.num_atoms + 1, dtype=torch.float64)
            for (handle, atoms), gradient in zip(acting, found, strict=True):
                if gradient is not None:
                    along = (gradient * handle.tensor).detach().double().cpu()
                    slope.index_add_(0, atoms, along.movedim(handle.axis, 0).reshape(len(atoms), -1).sum(1))
            total, count = total + slope[:-1].square(), count + 1
    for group in channels.groups:
        if group.frozen is not None:
            total[group.atoms] = torch.inf
    return total / max(count, 1)


def _gates(model: nn.Module, channels: Channels) -> list[tuple[Handle, Tensor]]:
    """Where gates act: what they multiply, and the atom of each position, `num_atoms` for fixed ones."""
    found: dict[tuple[int, str], tuple[Handle, Tensor]] = {}
    for producer in dict.fromkeys(channels.producers):
        if not len(atoms := made_by(channels, producer)):
            continue
        index = torch.from_numpy(np.where(atoms >= 0, atoms, channels.num_atoms))
        handles = norm_handles(model, channels, producer) or producer_handles(model, channels, producer)
        for handle in handles:
            found.setdefault((id(handle.module), handle.name), (handle, index))
    return list(found.values())


def over_mean(scores: Tensor, channels: Channels) -> Tensor:
    """Scores over the mean of each group's that are finite: one threshold then spares no group for being large."""
    out = scores.clone()
    for group in channels.groups:
        own = scores[group.atoms]
        if group.frozen is None:
            out[group.atoms] = own / own.mean().clamp_min(torch.finfo(own.dtype).tiny)
    return out
