"""Carrying out a plan: the small network (`extract`), and the big one with the same channels at zero (`zeroed`)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.check import mismatch
from ganshrink.pruning.cost import Mask
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.fresh import initialise
from ganshrink.pruning.plan import Plan
from ganshrink.pruning.statistics import masked
from ganshrink.pruning.threads import single_threaded
from ganshrink.pruning.untouched import untouched
from ganshrink.system.copies import copied


class Zero(nn.Module):
    """Stands where a module's output was zero, or where nothing reads it: a scalar zero, for the additions it flows into."""

    def forward(self, *inputs: Any, **named: Any) -> torch.Tensor:
        tensors = [t for t in pytree.tree_leaves((inputs, named)) if isinstance(t, torch.Tensor)]
        like = next((t for t in tensors if t.is_floating_point()), tensors[0] if tensors else torch.zeros(()))
        return like.new_zeros(())


class Identity(nn.Module):
    """Stands where a module would return its first input as it came."""

    def forward(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        return x


@single_threaded()
def extract(
    model: nn.Module, channels: Channels, plan: Plan, init: Literal["inherit", "fresh"] = "inherit"
) -> nn.Module:
    """The network that keeps the plan's channels. Module paths, dtype, device and training flags stay; all can be trained.

    Args:
        init: `inherit` the weights, or start `fresh`: N(0, 0.02), scales 1, shifts 0; raw parameters stay.

    Raises:
        ValueError: for a plan that does not fit, or an unknown `init`.
        RuntimeError: if the small network does not compute what `zeroed` does on the traced example.
    """
    if init not in ("inherit", "fresh"):
        raise ValueError(f"init must be inherit or fresh, got {init!r}")
    with untouched(model):
        plain = folded_copy(model)
        small = cut(plain, channels, plan)
        problem = trial(plain, channels, plan, copied(small))
    if problem is not None:
        raise RuntimeError(f"the extracted network is not the planned one: {problem}")
    CUTS[small] = channels.cuts(plan)
    return initialise(small) if init == "fresh" else small


CUTS: WeakKeyDictionary[nn.Module, dict[str, dict[int, Mask]]] = WeakKeyDictionary()


def cuts_of(small: nn.Module) -> dict[str, dict[int, Mask]] | None:
    """What was cut of which tensors to make this very network, as `Channels.cuts` says it; None: nobody knows."""
    return CUTS.get(small)


def trial(plain: nn.Module, channels: Channels, plan: Plan, small: nn.Module) -> str | None:
    """What differs between a cut network and the whole one with nothing but its producers silenced, or None."""
    tensors = silenced(plain, channels, plan, columns=False)
    reference = masked(plain, channels.statistics, plan.keep, channels.calls, tensors)
    if reference is not None:
        return mismatch(small, reference, {}, channels.example)
    return mismatch(small, plain, tensors, channels.example)


def cut(plain: nn.Module, channels: Channels, plan: Plan) -> nn.Module:
    """`extract` without its check, from a network whose parametrizations are folded."""
    removed = channels.removed(channels.widths(plan))
    check_shapes(plain, channels)
    memo: dict[int, Any] = {}  # deepcopy takes these for its copies
    for name, cuts in channels.cuts(plan).items():
        if removed.around(name) is None:
            tensor = named(plain, name)
            memo[id(tensor)] = _selected(tensor, cuts)
    for path in (*removed.zeros, *removed.identities):
        module = plain.get_submodule(path)
        memo[id(module)] = Zero() if path in removed.zeros else Identity()
        memo[id(module)].training = module.training
    small = copied(plain, memo)
    for (path, attribute), width in channels.stated(plan, removed).items():
        restate(small.get_submodule(path), attribute, width)
    for module in small.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor):
            for attribute, width in stated_widths(module, weight.shape).items():
                setattr(module, attribute, width)
    return small


def _selected(tensor: torch.Tensor, cuts: Mapping[int, np.ndarray]) -> torch.Tensor:
    out = tensor.detach()
    for axis, alive in cuts.items():
        out = out.index_select(axis, torch.from_numpy(np.flatnonzero(alive)).to(out.device))
    if not isinstance(tensor, nn.Parameter):
        return out.clone()
    return nn.Parameter(out.clone(), requires_grad=tensor.requires_grad)


def restate(module: nn.Module, attribute: str, width: int) -> None:
    """Set an attribute that states a width, or is a tuple of it alone (`normalized_shape`)."""
    old = getattr(module, attribute)
    setattr(module, attribute, type(old)([width]) if isinstance(old, (tuple, list)) else width)


def stated_widths(module: nn.Module, weight: Sequence[int], groups: int | None = None) -> dict[str, int]:
    """Attributes that torch's own layers state beside their weights, for a weight of this shape.

    Args:
        groups: of a convolution; none: its own.
    """
    if isinstance(module, nn.Linear):
        return {"out_features": weight[0], "in_features": weight[1]}
    if isinstance(module, nn.Embedding):
        return {"num_embeddings": weight[0], "embedding_dim": weight[1]}
    if isinstance(module, nn.PReLU):
        return {"num_parameters": weight[0]}
    if not isinstance(module, nn.modules.conv._ConvNd):
        return {}
    (first, second), groups = weight[:2], groups or module.groups
    if module.transposed:
        return {"in_channels": first, "out_channels": second * groups}
    return {"in_channels": second * groups, "out_channels": first}


@single_threaded()
def zeroed(model: nn.Module, channels: Channels, plan: Plan) -> nn.Module:
    """A copy of the same shape in which all that the plan cuts is zero: rows, biases, scales, shifts and the consumers'
    columns; where all inputs of a layer are dead, its bias too. Parametrizations are folded.

    Where the plan changes the statistics of norms over channels it is the masked network, in evaluation: these norms run
    over live channels alone.
    """
    big = folded_copy(model)
    tensors = silenced(big, channels, plan, columns=True)
    reference = masked(big, channels.statistics, plan.keep, channels.calls, tensors)
    if reference is not None:
        return reference
    with torch.no_grad():
        for name, tensor in tensors.items():
            named(big, name).copy_(tensor)
    return big


def silenced(plain: nn.Module, channels: Channels, plan: Plan, *, columns: bool) -> dict[str, torch.Tensor]:
    """The parameters and buffers that `zeroed` changes. Without the consumers' columns nothing hides a dead channel that
    is not zero: that is what networks are checked against."""
    check_shapes(plain, channels)
    masks = silencing(plain, channels, plan, columns=columns)
    return {name: named(plain, name).detach() * mask for name, mask in masks.items()}


def silencing(plain: nn.Module, channels: Channels, plan: Plan, *, columns: bool) -> dict[str, torch.Tensor]:
    """What `zeroed` multiplies parameters and buffers by, by name: ones and zeros that broadcast to their shapes."""
    removed = channels.removed(channels.widths(plan))
    made = {(p.parameter, p.axis) for p in channels.producers}
    weights = {name for name, _ in made}
    out: dict[str, torch.Tensor] = {}
    for name, cuts in channels.cuts(plan).items():
        tensor = named(plain, name)
        if name in channels.unzeroed or not tensor.is_floating_point():
            continue
        for axis, alive in cuts.items():
            if columns or name not in weights or (name, axis) in made:
                mask = torch.from_numpy(alive).to(tensor)
                mask = mask.reshape([-1 if d == axis else 1 for d in range(tensor.ndim)])
                out[name] = out.get(name, tensor.new_ones(())) * mask
    return out | {name: torch.zeros_like(named(plain, name)) for name in removed.kills}


def check_shapes(model: nn.Module, channels: Channels) -> None:
    """Raises ValueError if this is not the network that was traced."""
    for name, axes in channels.axes.items():
        try:
            shape = named(model, name).shape
        except AttributeError:
            raise ValueError(f"this network has no {name}; trace the network that is to be cut") from None
        if len(shape) != len(axes) or any(
            a is not None and len(a) != s for a, s in zip(axes, shape, strict=True)
        ):
            raise ValueError(
                f"{name} has shape {tuple(shape)}, not that of the traced network; trace this one"
            )


def named(model: nn.Module, name: str) -> torch.Tensor:
    """The parameter or buffer of that path.

    Raises:
        AttributeError: there is none.
    """
    *path, last = name.split(".")
    module: Any = model
    for part in path:
        module = module._modules.get(part)  # `get_submodule` asks five times as long
    return getattr(module, last)  # type: ignore[no-any-return]
