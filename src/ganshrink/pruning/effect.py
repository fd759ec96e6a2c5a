"""How much a channel matters to the images that a network makes: what gradients of its output say."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import evaluating
from ganshrink.pruning.extract import check_shapes
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.linear_layers import is_transposed, unfit
from ganshrink.pruning.search.handles import Handle, axis_atoms, made_by, norm_handles, producer_handles
from ganshrink.pruning.untouched import random_numbers_kept
from ganshrink.system.generator import Input, as_tuple

ROWS = 8192  # places of a layer's input at which activations are compared


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


@torch.no_grad()
def pivoted(
    model: nn.Module, channels: Channels, images: Input, effects: Tensor, *, rows: int = ROWS, seed: int = 0
) -> Tensor:
    """(num_atoms,) float64: what of an atom's effect those chosen before it in its group cannot make up for.

    In each group the atom of the greatest effect is chosen first, then again and again the one with most left of it when
    all that a linear function of the chosen ones says of its activation is taken off: the pivots of a Cholesky
    decomposition of the activations' correlations, weighted by the roots of effects. So of channels that say the same,
    one ranks high. Activations are what convolutions and linear layers read; an atom that none reads, or a group of
    which none reads all, keeps its effect.

    Args:
        images: a batch of the generator's inputs.
        effects: (num_atoms,) such as `output_effect`, or its square root, over the group's mean.
    """
    plain = folded_copy(model)
    moments: dict[int, Any] = dict.fromkeys(range(len(channels.groups)), 0.0)
    drawn = torch.Generator().manual_seed(seed)

    def look(places: Mapping[int, Tensor], module: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0] if isinstance(module, nn.Linear) else inputs[0].movedim(1, -1)
        flat = x.flatten(0, -2)
        chosen = flat
        if len(flat) > rows:
            chosen = flat[torch.randint(len(flat), (rows,), generator=drawn).to(flat.device)]
        for group, place in places.items():
            found = torch.nn.functional.pad(chosen[:, place].double().cpu(), (0, 1), value=1.0)
            moments[group] = moments[group] + found.T @ found

    with evaluating(plain), random_numbers_kept(), ExitStack() as stack:
        for path, places in _readers(plain, channels).items():
            hook = plain.get_submodule(path).register_forward_pre_hook(partial(look, places))
            stack.callback(hook.remove)
        plain(*as_tuple(images))
    scores = effects.double().clone()
    for number, group in enumerate(channels.groups):
        if group.frozen is None and isinstance(moments[number], Tensor):
            scores[group.atoms] = _pivots(_correlations(moments[number]), effects[group.atoms].double())
    return scores


def _readers(model: nn.Module, channels: Channels) -> dict[str, dict[int, Tensor]]:
    """By path of a layer that reads groups whole: by number of a group, at which of its inputs the atoms stand."""
    found: dict[str, dict[int, Tensor]] = {}
    for path, module in model.named_modules():
        own: Any = module
        if unfit(module) is not None or getattr(own, "groups", 1) != 1:
            continue
        atoms = axis_atoms(channels, f"{path}.weight", 0 if is_transposed(own) else 1)
        first = {int(atom): place for place, atom in reversed([*enumerate(atoms)]) if atom >= 0}
        found[path] = {
            number: torch.tensor([first[atom] for atom in group.atoms.tolist()])
            for number, group in enumerate(channels.groups)
            if group.frozen is None and first.keys() >= set(group.atoms.tolist())
        }
    return {path: places for path, places in found.items() if places}


def _correlations(moments: Tensor) -> Tensor:
    """(n, n) from the second moments of n numbers and of 1, the last."""
    mean = moments[:-1, -1:] / moments[-1, -1]
    spread = moments[:-1, :-1] / moments[-1, -1] - mean @ mean.T
    deviation = spread.diagonal().clamp_min(0).sqrt()
    scaled = spread / (deviation[:, None] * deviation).clamp_min(torch.finfo(spread.dtype).tiny)
    return torch.where(torch.eye(len(spread), dtype=torch.bool), 1.0, scaled)


def _pivots(correlations: Tensor, effects: Tensor) -> Tensor:
    """(n,) what is left of each effect when it is chosen, the greatest first."""
    root = effects.sqrt()
    left = correlations * root[:, None] * root
    found = torch.zeros_like(effects)
    waiting = torch.ones(len(effects), dtype=torch.bool)
    for _ in range(len(effects)):
        diagonal = left.diagonal()
        best = int(torch.where(waiting, diagonal, -torch.inf).argmax())
        found[best], waiting[best] = diagonal[best].clamp_min(0), False
        if diagonal[best] > 1e-12 * effects.max():
            left = left - torch.outer(left[:, best], left[best]) / diagonal[best]
    return found
