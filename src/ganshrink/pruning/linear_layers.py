"""Convolutions and linear layers as what they are: at each place of the output, a matrix times a row of the input."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganshrink.pruning.cost import Mask

KINDS: tuple[Any, ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    nn.Linear,
)
CHUNK = 2**22  # numbers of the input at a time


def unfit(module: Any) -> str | None:
    """Why a module is no layer whose output its own weight says; None if it is one."""
    kind = next((kind for kind in KINDS if isinstance(module, kind)), None)
    if kind is None:
        return f"a {type(module).__name__} is no convolution or linear layer"
    same = all(getattr(type(module), n, None) is getattr(kind, n, None) for n in ("forward", "_conv_forward"))
    if not same or "forward" in vars(module):
        return f"{type(module).__name__} computes in a way of its own"
    if not isinstance(module._parameters.get("weight"), nn.Parameter) or "bias" not in module._parameters:
        return "its weight is computed"
    if module._forward_hooks:
        return "it has hooks, which may change what it puts out"
    return None if module.weight.is_floating_point() else "its weight holds no real numbers"


def is_transposed(module: Any) -> bool:
    return bool(getattr(module, "transposed", False))


def by_group(module: Any, rows: Tensor) -> Tensor:
    """(rows, outputs) as (groups, rows, outputs of a group)."""
    return rows.unflatten(1, (getattr(module, "groups", 1), -1)).transpose(0, 1)


def outputs_of(module: Any) -> int:
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)


def unknowns_of(module: Any) -> int:
    """Numbers that make one channel of the output."""
    weight = module.weight
    inputs = weight.shape[0] // module.groups if is_transposed(module) else weight.shape[1]
    return int(inputs * math.prod(weight.shape[2:]) + (module.bias is not None))


def shape_read(module: Any, x: Tensor) -> tuple[int, ...]:
    """The shape of an input but for its channels."""
    channel = x.ndim - 1 if isinstance(module, nn.Linear) else 1
    return tuple(size for d, size in enumerate(x.shape) if d != channel)


def places_of(module: Any, output: Tensor) -> int:
    """How many places an output has, each with all channels."""
    return output.numel() // max(1, outputs_of(module))


def kept_outputs(whole: Any, cuts: Mapping[int, Mask]) -> Tensor:
    """The output channels of the uncut layer that stay, rising.

    Args:
        cuts: which positions stay, by axis of its weight.
    """
    outputs = outputs_of(whole)
    alive = np.ones(outputs, bool)
    if not is_transposed(whole):
        alive &= cuts.get(0, True)
    elif (
        whole.groups == whole.in_channels and whole.groups > 1
    ):  # depthwise: each input has outputs of its own
        alive &= np.repeat(cuts.get(0, np.ones(whole.groups, bool)), outputs // whole.groups)
    elif 1 in cuts:
        alive &= np.tile(cuts[1], whole.groups)
    return torch.from_numpy(np.flatnonzero(alive))


def matrix(module: Any) -> Tensor:
    """(groups, unknowns, outputs of a group) float64: the weight, by place in the kernel and input, and the bias, where
    there is one, as the last unknown."""
    weight, groups = module.weight.detach().double(), getattr(module, "groups", 1)
    if is_transposed(module):
        kernel = list(range(2, weight.ndim))
        parts = weight.flip(kernel).reshape(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
        rows = parts.permute(0, 3, 1, 2).flatten(1, 2)
    else:
        parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        rows = parts.permute(0, 3, 2, 1).flatten(1, 2)
    if module.bias is None:
        return rows
    return torch.cat([rows, module.bias.detach().double().reshape(groups, 1, -1)], 1)


def put(module: Any, rows: Tensor) -> None:
    """Set weight and bias to those of such a matrix, in place."""
    weight = module.weight
    if module.bias is not None:
        module.bias.copy_(rows[:, -1].reshape(-1))
        rows = rows[:, :-1]
    parts = rows.unflatten(1, (math.prod(weight.shape[2:]), -1))
    if is_transposed(module):
        weight.copy_(parts.permute(0, 2, 3, 1).reshape(weight.shape).flip(list(range(2, weight.ndim))))
    else:
        weight.copy_(parts.permute(0, 3, 2, 1).reshape(weight.shape))


def outputs_at(module: Any, output: Tensor, places: Tensor) -> Tensor:
    """(rows, outputs) of a layer at numbered places: samples in order, each with its places in order."""
    if isinstance(module, nn.Linear):
        return output.flatten(0, -2)[places]
    flat = output.flatten(2)
    return flat[places // flat.shape[2], :, places % flat.shape[2]]


def inputs_at(module: Any, x: Tensor, size: torch.Size, places: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """What a layer reads at numbered places of its output, a part of the places at a time: which part, and
    (groups, rows, unknowns) float64, with ones for the bias.

    Args:
        x: its input, (B, C, ...) of a convolution, (..., C) of a linear layer.
        size: of its output.
        places: rising numbers.
    """
    if isinstance(module, nn.Linear):
        flat, step = x.flatten(0, -2), max(1, CHUNK // x.shape[-1])
        for start in range(0, len(places), step):
            part = slice(start, min(start + step, len(places)))
            yield part, _with_ones(module, flat[places[part]].double()[None])
        return
    laid, read = _laid_out(module, size[2:])
    per_sample = math.prod(size[2:])
    step = max(1, CHUNK // (x.shape[1] * math.prod(module.weight.shape[2:])))
    start = 0
    for sample, count in sorted(Counter((places // per_sample).tolist()).items()):
        padded = laid(x[sample : sample + 1])[0]
        shape, by_place = padded.shape[1:], padded.flatten(1).t().contiguous()
        for first in range(start, start + count, step):
            part = slice(first, min(first + step, start + count))
            index = read(places[part] % per_sample, shape)
            found = by_place.index_select(0, index.flatten()).double()
            groups = found.unflatten(1, (module.groups, -1)).transpose(0, 1).contiguous()
            yield part, _with_ones(module, groups.reshape(module.groups, len(index), -1))
        start += count


def _with_ones(module: Any, rows: Tensor) -> Tensor:
    return rows if module.bias is None else torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], 2)


def _laid_out(
    module: Any, size: torch.Size
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, torch.Size], Tensor]]:
    """How a convolution's input is padded, or spread where it is transposed, so that it only has to be slid over; and the
    function that gives, of places in an output of this size, what they read: (rows, kernel), numbers of padded places."""
    dims = range(len(size))
    kernel, dilation, stride = module.weight.shape[2:], module.dilation, module.stride

    def spread(x: Tensor) -> Tensor:
        wide = x.new_zeros(*x.shape[:2], *[(x.shape[2 + d] - 1) * stride[d] + 1 for d in dims])
        every: Any = (..., *[slice(None, None, stride[d]) for d in dims])
        wide[every] = x
        room: list[int] = []
        for d in reversed(dims):
            reach = dilation[d] * (kernel[d] - 1)
            before = reach - module.padding[d]
            room += [before, size[d] + reach - wide.shape[2 + d] - before]
        return pad(wide, room)

    def padded(x: Tensor) -> Tensor:
        if module.padding_mode != "zeros":
            return pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode)
        if isinstance(module.padding, str):
            return pad(x, module._reversed_padding_repeated_twice)
        return pad(x, [side for one in reversed(module.padding) for side in (one, one)])

    steps = [1] * len(size) if module.transposed else stride

    def read(places: Tensor, shape: torch.Size) -> Tensor:
        index = places.new_zeros(len(places), 1)
        for d in dims:
            at = places // math.prod(size[d + 1 :]) % size[d]
            taps = torch.arange(kernel[d], device=places.device) * dilation[d]
            along = at[:, None] * steps[d] + taps
            index = (index[:, :, None] * shape[d] + along[:, None, :]).flatten(1)
        return index

    return (spread if module.transposed else padded), read
