"""Which convolutions of a network are quantized, which of them read the network's own input, and which stay in float."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from ganshrink.system.generator import as_tuple
from ganshrink.system.spelling import did_you_mean

Conv = nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class Layers:
    """The convolutions of a network.

    Attributes:
        quantized: those to quantize by path, in the order in which they first run.
        stems: the paths of those that read the network's own input, padded or resized perhaps: there it stays float.
        left: those that stay in float, by path, with the reason.
    """

    quantized: dict[str, Conv]
    stems: frozenset[str]
    left: dict[str, str]


def find_layers(model: nn.Module, example: Tensor | Sequence[Tensor], exclude: Sequence[str] = ()) -> Layers:
    """Run the network once, in eval mode, and see.

    Args:
        example: inputs (B, C, H, W); only their shapes and types matter.
        exclude: paths to leave in float.

    Raises:
        ValueError: for a path in `exclude` that is no convolution, or if there is nothing to quantize.
    """
    convs = _convolutions(model)
    check_excluded(model, exclude)
    left = {path: reason for path, conv in convs.items() if (reason := _unfit(path, conv, exclude))}
    order, stems = _watch(model, as_tuple(example), convs)
    left |= dict.fromkeys(convs.keys() - left.keys() - set(order), "it never runs on the example")
    quantized: dict[str, Any] = {path: convs[path] for path in order if path not in left}
    if not quantized:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in list(left.items())[:3])
        raise ValueError(f"no convolution of this network can be quantized: {reasons or 'it has none'}")
    return Layers(quantized, frozenset(stems) & quantized.keys(), left)


def check_excluded(model: nn.Module, exclude: Sequence[str]) -> None:
    """Raises ValueError for a path that is no convolution, with the nearest one."""
    convs = _convolutions(model)
    for path in exclude:
        if path not in convs:
            raise ValueError(f"exclude: the network has no convolution {path!r}{did_you_mean(path, convs)}")


def still_there(model: nn.Module, exclude: Sequence[str]) -> tuple[str, ...]:
    """Of the paths to exclude those of a cut network: a layer may have gone with the cut."""
    convs = _convolutions(model)
    return tuple(path for path in exclude if path in convs)


def _convolutions(model: nn.Module) -> dict[str, _ConvNd]:
    return {path: module for path, module in model.named_modules() if isinstance(module, _ConvNd)}


def device_of(model: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients, then every module as it was."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, training in flags:
            module.training = training


def _unfit(path: str, conv: _ConvNd, exclude: Sequence[str]) -> str | None:
    """Why a convolution stays in float; None if it can be quantized."""
    if path in exclude:
        return "it is excluded"
    if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
        return f"a {type(conv).__name__}: only Conv2d and ConvTranspose2d are quantized"
    if not isinstance(conv._parameters.get("weight"), Tensor):
        return "its weight is computed (weight norm, spectral norm): fold it in first"
    return None


def _watch(
    model: nn.Module, example: tuple[Tensor, ...], convs: dict[str, _ConvNd]
) -> tuple[list[str], list[str]]:
    """The convolutions in the order in which they first run, and those that read the network's own input.

    What was made with a weight of two or more axes is no input any more; padding, resizing, scaling, splitting leave it one.
    """
    order: list[str] = []
    stems: dict[str, bool] = {}
    made = _Made(model)

    def watch(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            [given, *_] = (*args, *kwargs.values())
            if path not in stems:
                order.append(path)
            stems[path] = stems.get(path, True) and given not in made  # one that reads both is none

        return hook

    hooks = [
        conv.register_forward_pre_hook(watch(path), with_kwargs=True, prepend=True)
        for path, conv in convs.items()
    ]
    try:
        with evaluating(model), made:
            model(*(tensor.to(device_of(model)) for tensor in example))
    finally:
        for hook in hooks:
            hook.remove()
    return order, [path for path, is_stem in stems.items() if is_stem]


class _Made(TorchDispatchMode):
    """Follows, operator by operator, which tensors the weights of a network had a part in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._made = WeakIdKeyDictionary()
        for tensor in model.parameters():
            if tensor.dim() > 1:
                self._made[tensor] = True

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t in self._made for t in tree_leaves((args, kwargs))):
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self._made[tensor] = True
        return result
