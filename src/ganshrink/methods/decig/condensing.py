"""DECIG's Stage I: what pulls the weights of a layer together into few channels (Eqs. 1 and 2).

What the paper calls a layer is a group here: a residual trunk is one, and so are the two halves of a gated convolution.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from ganshrink.latency.profiles import DeviceProfile
from ganshrink.pruning import Channels, Group
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.extract import named
from ganshrink.pruning.search.handles import made_by

Shape = Literal["uniform", "linear", "exponential"]
Importance = Literal["own", "own_plus_consumer"]
RATE = 0.01  # of the exponential f
NEXT_TO_NOTHING = 1e-6  # milliseconds


def channel_factors(n: int, shape: Shape, *, device: torch.device | None = None) -> Tensor:
    """(n,) f(j) of Eq. 1 for j = 1 .. n: 1, j, or e^(0.01 j)."""
    ranks = torch.arange(1, n + 1, dtype=torch.float32, device=device)
    if shape == "uniform":
        return torch.ones_like(ranks)
    return ranks if shape == "linear" else (RATE * ranks).exp()


def magnitudes(model: nn.Module, channels: Channels, *, importance: Importance) -> dict[str, Tensor]:
    """gamma of section 3 per free group, (len(group),): the L1 norm of the weights that make each of its channels.

    They are summed over all layers that add up to a channel. Biases and the norms' scales and shifts do not count; a
    depthwise convolution counts to the channel that it filters. Differentiable, by the network's own parameters.

    Args:
        model: the network that was traced, parametrizations folded.
        importance: `own`, the paper's, or `own_plus_consumer`, not in the paper: also the weights that read the channel,
            since a norm undoes what its layer's own weights lose.
    """
    rows: list[Tensor] = []
    atoms: list[Index] = []
    for name, axis in _axes_that_count(model, channels, importance):
        weight = named(model, name)
        rows.append(vector_norm(weight, 1, dim=[d for d in range(weight.ndim) if d != axis]))
        found = channels.axes[name][axis]
        assert found is not None
        atoms.append(np.where(found >= 0, found, channels.num_atoms))
    if not rows:
        return {}
    norms = torch.cat(rows)
    index = torch.from_numpy(np.concatenate(atoms)).to(norms.device)
    total = norms.new_zeros(channels.num_atoms + 1).index_add(0, index, norms)
    parts = total[:-1].split([len(group) for group in channels.groups])  # atoms are numbered group by group
    return {g.name: part for g, part in zip(channels.groups, parts, strict=True) if g.frozen is None}


def layer_factors(channels: Channels, *, measured: Mapping[str, float] | None = None) -> dict[str, float]:
    """l(i) of Eq. 2 per free group, divided by their mean (which is ours, so that alpha can be read).

    By default the exact multiply-accumulates of a layer, the paper's "DECIG MAC"; every call of a shared one counts. For a
    group that several layers add up to it is their mean: `magnitudes` sums over these layers already. What a depthwise
    convolution costs goes to the layer whose channels it filters.

    Args:
        measured: per group name the milliseconds of (one of) its layers on the target device, instead ("DECIG CPU", "GPU").

    Raises:
        ValueError: if a group's time is missing, is not above 0, or is of no free group.
    """
    free = [group for group in channels.groups if group.frozen is None]
    if measured is not None:
        _check_measured(free, measured)
        costs = {group.name: float(measured[group.name]) for group in free}
    else:
        macs = _macs_of_makers(channels)
        costs = {
            group.name: float(macs[number]) / max(1, len(group.producers))
            for number, group in enumerate(channels.groups)
            if group.frozen is None
        }
    mean = sum(costs.values()) / max(1, len(costs)) or 1.0
    return {name: cost / mean for name, cost in costs.items()}


def maker_times(channels: Channels, profile: DeviceProfile) -> dict[str, float]:
    """Per free group the milliseconds of one of the layers that make its channels, at full width on a device.

    What a depthwise convolution takes goes to the layer whose channels it filters, and so do the norms and activations
    after a layer. Channels that no timed layer makes (a learned constant's) take next to nothing.
    """
    by_weight = profile.times().by_weight(channels, channels.full_widths())
    makers = {producer.parameter for producer in channels.producers}
    found = {}
    for group in (group for group in channels.groups if group.frozen is None):
        own = {producer.parameter for producer in group.producers}
        inside = set(group.atoms.tolist())
        filters = {
            weight
            for weight in by_weight.keys() - makers
            for axis in channels.axes.get(weight, ())
            if axis is not None and inside.intersection(axis.tolist())
        }
        total = sum(by_weight.get(weight, 0.0) for weight in own | filters)
        found[group.name] = max(total / max(1, len(group.producers)), NEXT_TO_NOTHING)
    return found


def penalty(
    model: nn.Module,
    channels: Channels,
    *,
    factors: Mapping[str, float],
    shape: Shape = "linear",
    importance: Importance = "own",
) -> Tensor:
    """L_PENAL (Eq. 2), a scalar: sum over groups of l(i) * sum over channels of f(rank) * magnitude (Eq. 1).

    Rank 1 is the largest channel, so that small ones are pulled hardest. The paper does not say which way it sorts; the
    other way shrinks the largest most and makes channels alike. Ranks are constants in the gradient: l(i) f(rank) sign(w).

    Args:
        factors: l(i) by group name, of `layer_factors`.
        shape: f; the paper's standard is linear.
        importance: as in `magnitudes`.
    """
    terms = []
    for name, values in magnitudes(model, channels, importance=importance).items():
        order = values.detach().argsort(descending=True, stable=True)
        factor = channel_factors(len(values), shape, device=values.device).to(values.dtype)
        terms.append(factors[name] * (factor * values[order]).sum())
    if not terms:
        raise ValueError("no channel of this network may be cut, so there is nothing to condense")
    return torch.stack(terms).sum()


def calibrated(penalty: Tensor | float, reconstruction: Tensor | float, *, ratio: float = 0.1) -> float:
    """alpha of Eq. 2, such that at the first iteration alpha * L_PENAL / L_l1 is `ratio`: 0.1 in the paper ("high-reg"), a
    tenth of that for "low-reg".

    Args:
        penalty: L_PENAL at the first iteration.
        reconstruction: L_l1 then. Eq. 2 prints it without the weight that pix2pix gives it (100); with the weight alpha
            is that much larger.

    Raises:
        ValueError: if either is not a number above 0.
    """
    given = {"L_PENAL": penalty, "L_l1": reconstruction}
    of = {name: v.item() if isinstance(v, Tensor) else v for name, v in given.items()}
    for name, value in of.items():
        if not 0 < value < float("inf"):
            raise ValueError(
                f"alpha cannot be found: {name} is {value:g} at the first iteration, not above 0"
            )
    return ratio * of["L_l1"] / of["L_PENAL"]


def _axes_that_count(
    model: nn.Module, channels: Channels, importance: Importance
) -> Iterator[tuple[str, int]]:
    """The weights whose slices along an axis are magnitudes of the channels there."""
    made = {(p.parameter, p.axis) for p in channels.producers}
    weights = {name for name, _ in made}
    buffers = {name for name, _ in model.named_buffers()}
    for name, axes in channels.axes.items():
        on = [number for number, axis in enumerate(axes) if axis is not None]
        if name in weights:
            yield from ((name, d) for d in on if (name, d) in made or importance == "own_plus_consumer")
        elif len(on) == 1 and name not in buffers and _filters(model, name, on[0]):
            yield name, on[0]


def _filters(model: nn.Module, name: str, axis: int) -> bool:
    """Whether what no layer makes channels with is a depthwise filter or a learned constant, and not a scale or shift."""
    owner, tensor = model.get_submodule(name.rpartition(".")[0]), named(model, name)
    depthwise = isinstance(owner, nn.modules.conv._ConvNd) and name.endswith("weight")
    return depthwise or tensor.numel() > tensor.shape[axis]


def _macs_of_makers(channels: Channels) -> np.ndarray:
    """(groups,) the multiply-accumulates of the calls that make each group's channels, or filter them one by one."""
    model, widths, group_of = channels.model, channels.full_widths(), channels.group_of
    sizes = np.append(model.members @ widths + model.always, 1)
    macs = model.exact * sizes[model.call_axes].prod(axis=1)
    out = np.zeros(len(channels.groups))
    for call, maker in enumerate(channels.makers):
        if maker is not None:
            atoms = made_by(channels, channels.producers[maker])
            at, size = np.bincount(group_of[atoms[atoms >= 0]], minlength=len(out)), len(atoms)
        else:
            rows = [row for row in model.call_axes[call] if row >= 0 and model.members[row].any()]
            if len(rows) != 1:  # a product that makes no channels
                continue
            at, size = model.members[rows[0]] * widths, sizes[rows[0]]
        out += macs[call] * at / size
    return out


def _check_measured(free: list[Group], measured: Mapping[str, float]) -> None:
    names = {group.name for group in free}
    for name in names - set(measured):
        raise ValueError(f"no time was measured for {name}; every group that may be cut needs one")
    for name, time in measured.items():
        if name not in names:
            raise ValueError(f"a time was measured for {name}, which is no group that may be cut")
        if not 0 < time < float("inf"):
            raise ValueError(f"the time measured for {name} is {time:g} ms, not above 0")
