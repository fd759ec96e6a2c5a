"""How much a channel matters, read off the weights: one number per atom, frozen ones infinite."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn
from torch.linalg import vector_norm

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.extract import check_shapes, named
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.threads import single_threaded

NORM_SCALE, L2 = "norm scale", "L2"


@single_threaded()
def norm_scale(model: nn.Module, channels: Channels) -> torch.Tensor:
    """|gamma| of the first affine norm directly after an atom's producer (CAT, section 3.2), (num_atoms,) float64.

    Of several producers the first in forward order with such a norm counts, so a residual trunk reads its last
    down-sampling norm. A norm whose scales are all equal ranks nothing (it was never trained: `add_affine` made it, say)
    and does not count. Atoms without one are ranked within their group by `l2`, and get the scales that have the same
    ranks in the whole network: a threshold cuts such a group like the others on average. (L2 norms themselves lie close
    together, so that it would keep or cut them all.) In a network without any such norm they score `l2` over the
    group's mean.
    """
    plain = folded_copy(model)
    check_shapes(plain, channels)
    scores = _norms(plain, channels)
    weights = _l2(plain, channels)
    free = torch.cat([group.atoms for group in channels.free] or [torch.zeros(0).long()])
    scales = scores[free][~torch.isnan(scores[free])]
    for group in channels.groups:
        missing = group.atoms[torch.isnan(scores[group.atoms])]
        if len(missing) and len(scales):
            ranks = weights[missing].argsort(stable=True).argsort().double()
            scores[missing] = torch.quantile(scales, (ranks + 0.5) / len(missing))
        elif len(missing):
            scores[missing] = weights[missing] / weights[group.atoms].mean().clamp_min(1e-12)
    return _with_frozen(scores, channels)


def norm_scale_basis(model: nn.Module, channels: Channels) -> dict[str, str]:
    """Per group name, what `norm_scale` reads: "norm scale" or "L2"."""
    scores = _norms(folded_copy(model), channels)
    read = {True: NORM_SCALE, False: L2}
    return {g.name: read[not bool(torch.isnan(scores[g.atoms]).any())] for g in channels.groups}


@single_threaded()
def l2(model: nn.Module, channels: Channels) -> torch.Tensor:
    """The L2 norm of all weights that make an atom: its slices of every producer, biases never. (num_atoms,) float64."""
    plain = folded_copy(model)
    check_shapes(plain, channels)
    return _with_frozen(_l2(plain, channels), channels)


def l1(model: nn.Module, channels: Channels, *, readers: bool = False) -> torch.Tensor:
    """(num_atoms,) the L1 norm of the weights that make each atom, summed over all layers that add up to it.

    Biases and the norms' scales and shifts do not count; a depthwise convolution counts to the channel that it filters.
    Differentiable, by the network's own parameters, whose parametrizations are folded.

    Args:
        readers: the weights that read an atom count too.
    """
    rows: list[torch.Tensor] = []
    atoms: list[np.ndarray] = []
    for name, axis in _weights_of_atoms(model, channels, readers):
        weight, found = named(model, name), channels.axes[name][axis]
        assert found is not None
        rows.append(vector_norm(weight, 1, dim=[d for d in range(weight.ndim) if d != axis]))
        atoms.append(np.where(found >= 0, found, channels.num_atoms))
    if not rows:
        return torch.zeros(channels.num_atoms)
    norms = torch.cat(rows)
    index = torch.from_numpy(np.concatenate(atoms)).to(norms.device)
    return norms.new_zeros(channels.num_atoms + 1).index_add(0, index, norms)[:-1]


def evenly(
    channels: Channels, *, by: torch.Tensor | None = None, without: Iterable[int] = ()
) -> torch.Tensor:
    """(num_atoms,): an atom's place in its group, counted from the end, over the group's width. One threshold on this keeps
    the same share of every group.

    Args:
        by: (num_atoms,) of a group the highest of these come first; none: as they stand.
        without: numbers of groups that nothing is to be kept of.
    """
    scores = torch.ones(channels.num_atoms)
    for group in channels.groups:
        width = len(group.atoms)
        order = torch.arange(width) if by is None else by[group.atoms].argsort(descending=True, stable=True)
        scores[group.atoms[order]] = 1 - torch.arange(width) / width
    for number in without:
        scores[channels.groups[number].atoms] = -torch.inf
    return scores


def unevenly(channels: Channels, *, seed: int, most: float = 2.0) -> torch.Tensor:
    """(num_atoms,): as `evenly`, each group's scores raised to a random power between 1/`most` and `most`, log-uniform: one
    threshold on this keeps a random share of every group, some more and some less than the even one."""
    draw = np.random.default_rng(seed)
    scores = evenly(channels)
    for group in channels.groups:
        scores[group.atoms] **= float(most ** draw.uniform(-1, 1))
    return scores


def _norms(model: nn.Module, channels: Channels) -> torch.Tensor:
    scores = torch.full((channels.num_atoms,), torch.nan, dtype=torch.float64)
    for norm in sorted(channels.norms, key=lambda n: n.producer):
        atoms = channels.axes.get(norm.scale, (None,))[0]
        if atoms is None:
            continue
        values = named(model, norm.scale).abs()
        if bool((values == values[0]).all()):
            continue
        scale = _per_atom(values, atoms, channels.num_atoms)
        count = _per_atom(torch.ones(len(atoms)), atoms, channels.num_atoms)
        made = np.zeros(channels.num_atoms, bool)
        made[_atoms(channels, norm.producer)] = True
        new = torch.from_numpy(made) & torch.isnan(scores) & (count > 0)
        scores[new] = (scale / count.clamp_min(1))[new]
    return scores


def _l2(model: nn.Module, channels: Channels) -> torch.Tensor:
    squares = torch.zeros(channels.num_atoms, dtype=torch.float64)
    made = torch.zeros(channels.num_atoms, dtype=torch.bool)
    for producer in channels.producers:
        atoms = channels.axes.get(producer.parameter, ())
        if atoms and atoms[producer.axis] is not None:
            squares += _axis_squares(model, channels, producer.parameter, producer.axis)
            made[_atoms(channels, channels.producers.index(producer))] = True
    others = torch.zeros_like(squares)  # atoms that no layer makes: all that stands on their axes
    for name, axes in channels.axes.items():
        for number, axis in enumerate(axes):
            if axis is not None and name not in channels.unzeroed and not made[axis[axis >= 0]].all():
                others += _axis_squares(model, channels, name, number)
    return torch.where(made, squares, others).sqrt()


def _weights_of_atoms(model: nn.Module, channels: Channels, readers: bool) -> Iterator[tuple[str, int]]:
    """The weights, and their axes, whose slices make channels, filter them one by one, or with `readers` read them."""
    made = {(p.parameter, p.axis) for p in channels.producers}
    weights = {name for name, _ in made}
    buffers = {name for name, _ in model.named_buffers()}
    for name, axes in channels.axes.items():
        on = [number for number, axis in enumerate(axes) if axis is not None]
        if name in weights:
            yield from ((name, d) for d in on if (name, d) in made or readers)
        elif len(on) == 1 and name not in buffers:
            # no layer makes channels with it: a depthwise filter or a learned constant, or a scale or shift, which is none
            owner, tensor = model.get_submodule(name.rpartition(".")[0]), named(model, name)
            depthwise = isinstance(owner, nn.modules.conv._ConvNd) and name.endswith("weight")
            if depthwise or tensor.numel() > tensor.shape[on[0]]:
                yield name, on[0]


def _axis_squares(model: nn.Module, channels: Channels, name: str, axis: int) -> torch.Tensor:
    tensor = named(model, name).double()
    rest = [d for d in range(tensor.ndim) if d != axis]
    atoms = channels.axes[name][axis]
    assert atoms is not None
    return _per_atom(tensor.square().sum(rest) if rest else tensor.square(), atoms, channels.num_atoms)


def _per_atom(values: torch.Tensor, atoms: np.ndarray, count: int) -> torch.Tensor:
    """Sum values over the positions of each atom."""
    index = torch.from_numpy(np.where(atoms >= 0, atoms, count))
    return torch.zeros(count + 1, dtype=torch.float64).index_add_(0, index, values.detach().double().cpu())[
        :count
    ]


def _atoms(channels: Channels, producer: int) -> np.ndarray:
    found = channels.producers[producer]
    atoms = channels.axes.get(found.parameter, ())
    axis = atoms[found.axis] if atoms else None
    return np.zeros(0, np.int64) if axis is None else axis[axis >= 0]


def _with_frozen(scores: torch.Tensor, channels: Channels) -> torch.Tensor:
    for group in channels.groups:
        if group.frozen is not None:
            scores[group.atoms] = torch.inf
    return scores
