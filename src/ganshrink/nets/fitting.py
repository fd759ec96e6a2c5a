"""Tensors of any origin put into a network: by their names, or where these differ by order and shape, module by module."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.nets import cartoongan, unet

State = dict[str, Tensor]
Leaves = dict[str, Tensor]  # of one module: its tensors by the last part of their names

STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}
OTHER_WORDS = {"scale": "weight", "gamma": "weight", "shift": "bias", "beta": "bias", "offset": "bias"}
SPECTRAL = {"weight_orig": "weight.original", "weight_u": "weight.0._u", "weight_v": "weight.0._v"}
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
CONVS = nn.modules.conv._ConvNd


class Misfit(ValueError):
    """The tensors are another network's; says the first difference."""


@dataclass
class Fit:
    """Tensors under a network's own names.

    Attributes:
        state: exactly the network's names, shapes and types.
        renamed: (their name, ours) of each module, where they were found by order and shape; else empty.
        notes: what was done to them, in words.
    """

    state: State
    renamed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fit(state: Mapping[str, Tensor], network: nn.Module) -> Fit:
    """The tensors of a state dictionary for a network, whatever made it.

    Statistics that old versions of torch saved for instance norms are dropped, spectral and weight norms are computed,
    and biases may be missing, or too many before norms, which take them off again.

    Raises:
        Misfit: if they are another network's.
    """
    if isinstance(network, cartoongan.CartoonGAN):
        state = cartoongan.from_release(state, network)
    theirs, ours = _by_module(state), _by_module(network.state_dict())
    result, done = Fit({}), set[str]()
    pairs = _pairs(theirs, ours, network)
    result.renamed = [(given, own) for given, own in pairs if given != own]
    if result.renamed and isinstance(network, unet.UNet) and not any(map(unet.RELEASED.match, state)):
        raise Misfit(
            "shapes fit, but names are neither ours nor pix2pix's, and shapes do not tell in which order a U-Net joins skips"
        )
    norms = dict(_followed_by_norm(network))
    folded: State = {}
    zeroed = _without_bias(pairs, theirs, ours, network)
    for given, own in pairs:
        module = network.get_submodule(own)
        found = _as_kept(theirs[given], ours[own], module)
        if "bias" not in found and (own in zeroed or (own in norms and "bias" in ours[own])):
            found["bias"] = torch.zeros(ours[own]["bias"].shape)
            done.add("biases that the file lacks are zero")
        if "bias" in found and "bias" not in ours[own] and own in norms:
            bias = found.pop("bias").float()  # which moves the mean that the norm takes off again
            if network.get_submodule(norms[own]).running_mean is not None:
                folded[f"{norms[own]}.running_mean"] = bias
            done.add("biases before norms went into the means that these take off")
        leaves = _leaves(found, ours[own], module, given, own, done)
        for leaf, tensor in leaves.items():  # of a parametrisation, its two parts
            result.state[_join(own, f"parametrizations.{leaf}" if "." in leaf else leaf)] = tensor
    for name, bias in folded.items():
        result.state[name] = result.state[name] - bias
    result.state = {name: result.state[name] for name in network.state_dict()}
    result.notes = sorted(done)
    return result


def _by_module(state: Mapping[str, Tensor]) -> dict[str, Leaves]:
    """The tensors by the module that they belong to, in order; those of a parametrisation belong to what it is of."""
    modules: dict[str, Leaves] = {}
    for name, tensor in state.items():
        path, _, leaf = name.rpartition(".")
        if path.endswith("parametrizations.weight") or path.endswith("parametrizations.weight.0"):
            path, _, inner = path.rpartition("parametrizations.")
            path, leaf = path.removesuffix("."), f"{inner}.{leaf}"
        modules.setdefault(path, {})[leaf] = tensor
    return modules


def _pairs(
    theirs: Mapping[str, Leaves], ours: Mapping[str, Leaves], network: nn.Module
) -> list[tuple[str, str]]:
    """Their module for each of ours.

    Raises:
        Misfit: if names differ, and in order the modules do too.
    """
    unused = {path for path in theirs.keys() - ours.keys() if theirs[path].keys() <= STATISTICS}
    if theirs.keys() - unused == ours.keys() and all(
        map(_is_instance_norm, map(network.get_submodule, unused))
    ):
        return [(path, path) for path in ours]
    in_order = [path for path in theirs if path not in unused or len(theirs) == len(ours)]
    pairs = list(zip(in_order, ours, strict=False))
    wrong = next(
        (p for p in pairs if not _alike(theirs[p[0]], ours[p[1]], network.get_submodule(p[1]))), None
    )
    if wrong is None and len(in_order) == len(ours):
        return pairs
    shared = theirs.keys() & ours.keys()
    if wrong is None or 2 * len(shared) > len(ours):
        raise Misfit(_difference(theirs, ours))
    given, own = wrong
    raise Misfit(
        f"names differ, and in order {given!r} has {_shapes(theirs[given])} where the network's {own!r} has "
        f"{_shapes(ours[own])}"
    )


def _alike(given: Leaves, own: Leaves, module: nn.Module) -> bool:
    """Whether two modules can be the same layer: the weight's shape decides, and what else both have."""
    found = {leaf: tensor.shape for leaf, tensor in _as_kept(given, own, module).items()}
    mine = {leaf: tensor.shape for leaf, tensor in own.items()}
    decisive = [leaf for leaf in mine if leaf not in STATISTICS and leaf != "bias"] or list(mine)
    return all(found.get(leaf) == mine[leaf] for leaf in decisive)


def _is_instance_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.instancenorm._InstanceNorm)


def _followed_by_norm(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Convolutions and the norms that come right after them in a sequence, by path."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Sequential):
            for (first, conv), (second, norm) in pairwise(module.named_children()):
                if isinstance(conv, CONVS) and isinstance(norm, NORMS):
                    yield _join(path, first), _join(path, second)


def _without_bias(
    pairs: list[tuple[str, str]],
    theirs: Mapping[str, Leaves],
    ours: Mapping[str, Leaves],
    network: nn.Module,
) -> set[str]:
    """Our convolutions whose biases are zero because theirs have none, as a habit: most of them, not a lost one."""
    biased = [
        (given, own)
        for given, own in pairs
        if "bias" in ours[own] and isinstance(network.get_submodule(own), CONVS)
    ]
    lacking = {own for given, own in biased if "bias" not in theirs[given]}
    return lacking if len(lacking) > 1 and 2 * len(lacking) > len(biased) else set()


def _leaves(
    found: Leaves, own: Leaves, module: nn.Module, given_at: str, own_at: str, done: set[str]
) -> Leaves:
    """A module's own tensors from those that were found for it.

    Raises:
        Misfit: if there are others, or of other shapes.
    """
    if _is_instance_norm(module) and (dropped := (found.keys() & STATISTICS) - own.keys()):
        found = {leaf: tensor for leaf, tensor in found.items() if leaf not in dropped}
        done.add("running statistics of instance norms, which these do not use, were dropped")
    if "num_batches_tracked" in own:
        found.setdefault("num_batches_tracked", torch.zeros((), dtype=torch.long))
    for leaf in sorted(own.keys() | found.keys()):
        if leaf not in found or leaf not in own:
            where, at = ("network", given_at) if leaf not in own else ("file", own_at)
            raise Misfit(f"the {where} has no {_join(at, leaf)!r}")
        got, wanted = found[leaf], own[leaf]
        if got.shape != wanted.shape:
            raise Misfit(
                f"{_join(given_at, leaf)!r} is {tuple(got.shape)} in the file, {tuple(wanted.shape)} in the network"
            )
        if got.is_floating_point() != wanted.is_floating_point():
            raise Misfit(
                f"{_join(given_at, leaf)!r} is {got.dtype} in the file, {wanted.dtype} in the network"
            )
        if got.is_floating_point() and got.dtype.itemsize < wanted.dtype.itemsize:
            done.add(
                f"{str(got.dtype).removeprefix('torch.')} became {str(wanted.dtype).removeprefix('torch.')}"
            )
    return {leaf: found[leaf].detach().to(own[leaf].dtype).contiguous() for leaf in own}


def _as_kept(given: Leaves, own: Leaves, module: nn.Module) -> Leaves:
    """The tensors of a module as ours keeps them: a spectral norm in the new style where ours has one, else computed."""
    if "weight.0._u" not in own:
        return _computed(given, module)
    found = {SPECTRAL.get(leaf, leaf): tensor for leaf, tensor in given.items()}
    if "weight.0._u" in found and "weight.0._v" not in found:  # of torch before 0.4.1
        matrix = found["weight.original"].float().flatten(1)
        found["weight.0._v"] = nn.functional.normalize(matrix.T @ found["weight.0._u"].float(), dim=0)
    return found


def _computed(given: Leaves, module: nn.Module) -> Leaves:
    """The tensors of a module with its weight computed from a spectral or weight norm, old style or new."""
    found = {OTHER_WORDS.get(leaf, leaf): tensor for leaf, tensor in given.items()}
    axis = (
        1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
    )  # of the outputs, as torch's norms take it
    for raw, left in (("weight_orig", "weight_u"), ("weight.original", "weight.0._u")):
        if raw in found and left in found:
            weight, u = found.pop(raw).float(), found.pop(left).float()
            right = found.pop(left[:-1] + "v", None)
            matrix = weight.movedim(axis, 0).flatten(1)
            if u.numel() == matrix.shape[0]:
                v = nn.functional.normalize(matrix.T @ u, dim=0) if right is None else right.float()
                found["weight"] = weight / torch.dot(u, matrix @ v)
    for scale, direction in (("weight_g", "weight_v"), ("weight.original0", "weight.original1")):
        if scale in found and direction in found:
            length, weight = found.pop(scale).float(), found.pop(direction).float()
            axes = [axis for axis, size in enumerate(length.shape) if size == 1]
            found["weight"] = (
                length * weight / torch.linalg.vector_norm(weight, dim=axes or None, keepdim=True)
            )
    return found


def _difference(theirs: Mapping[str, Leaves], ours: Mapping[str, Leaves]) -> str:
    """The first tensor, by name, that only one of them has."""
    have, want = ({_join(path, leaf) for path in side for leaf in side[path]} for side in (theirs, ours))
    if not have & want:
        return f"no name is the network's, and it has {len(theirs)} modules with weights, the network {len(ours)}"
    name = min(have ^ want)
    return f"the {'network' if name in have else 'file'} has no {name!r}"


def _shapes(leaves: Leaves) -> str:
    return ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in leaves.items())


def _join(path: str, leaf: Any) -> str:
    return f"{path}.{leaf}" if path else str(leaf)
