"""Which convolutions of a network are quantized, which of them read the network's own input, and which stay in float."""

from collections.abc import Iterator, Mapping, Sequence
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
# What a class, or a convolution itself, must have from torch for its settings and weights to say all that it does.
DECISIVE = (
    "forward",
    "_conv_forward",
    "_output_padding",
    "__call__",
    "_call_impl",
    "__getattr__",
    "__getattribute__",
    "weight",
    "bias",
)


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
    fit = {path: conv for path, conv in convs.items() if path not in left}
    order, stems, read = _watch(model, as_tuple(example), fit)
    left |= {path: "its weight or bias is used outside of it too" for path in order if path in read}
    left |= {path: "it never runs on the example" for path in fit if path not in order}
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
    """Why a convolution stays in float; None if it can be quantized: what takes its place computes what torch's own
    class does, and nothing else."""
    if path in exclude:
        return "it is excluded"
    if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
        return f"a {type(conv).__name__}: only Conv2d and ConvTranspose2d are quantized"
    if not isinstance(conv._parameters.get("weight"), Tensor):
        return "its weight is computed (weight norm, spectral norm): fold it in first"
    if own := _of_its_own(conv):
        return f"{type(conv).__name__} has a {own} of its own, which integers would pass over"
    hooks = (*conv._forward_pre_hooks.values(), *conv._forward_hooks.values())
    if not all((getattr(hook, "__module__", None) or "").startswith("ganshrink.") for hook in hooks):
        return "it has a forward hook, which integers would pass over"
    return None


def _of_its_own(conv: nn.Conv2d | nn.ConvTranspose2d) -> str | None:
    """What a convolution does otherwise than torch's class: `forward`, or whatever else decides what comes out."""
    plain = nn.Conv2d if isinstance(conv, nn.Conv2d) else nn.ConvTranspose2d
    kinds = type(conv).__mro__[: type(conv).__mro__.index(plain)]
    added = {name for kind in kinds for name in vars(kind)} | set(vars(conv))
    return next((name for name in DECISIVE if name in added), None)


def _watch(
    model: nn.Module, example: tuple[Tensor, ...], convs: dict[str, _ConvNd]
) -> tuple[list[str], list[str], set[str]]:
    """The convolutions in the order in which they first run; those that read the network's own input; and those whose
    weight or bias is read while they do not run.

    What was made with a weight of two or more axes is no input any more; padding, resizing, scaling, splitting leave it one.
    """
    order: list[str] = []
    stems: dict[str, bool] = {}
    made = _Made(model, convs)

    def before(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = args[0] if args else kwargs["input"]
            if path not in stems:
                order.append(path)
            stems[path] = stems.get(path, True) and given not in made  # one that reads both is none
            made.running.append(path)

        return hook

    def after(*_: Any) -> None:
        made.running.pop()

    hooks = []
    for path, conv in convs.items():
        hooks.append(conv.register_forward_pre_hook(before(path), with_kwargs=True, prepend=True))
        hooks.append(conv.register_forward_hook(after))
    try:
        with evaluating(model), made:
            model(*(tensor.to(device_of(model)) for tensor in example))
    finally:
        for hook in hooks:
            hook.remove()
    return order, [path for path, is_stem in stems.items() if is_stem], made.read


class _Made(TorchDispatchMode):
    """Follows, operator by operator, which tensors the weights of a network had a part in, and which convolutions'
    tensors are read from outside."""

    def __init__(self, model: nn.Module, convs: Mapping[str, _ConvNd]) -> None:
        super().__init__()
        self.running: list[str] = []  # the convolutions that run now, the innermost last
        self.read: set[str] = set()
        self._owners: dict[int, set[str]] = {}  # by memory, which `.data` and views share
        for path, conv in convs.items():
            for tensor in conv.parameters(recurse=False):
                self._owners.setdefault(_memory(tensor), set()).add(path)
        self._made = WeakIdKeyDictionary()
        for tensor in model.parameters():
            if tensor.dim() > 1:
                self._made[tensor] = True

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in given:
            owners = self._owners.get(_memory(tensor))
            if owners and not (self.running and self.running[-1] in owners):
                self.read |= owners
        if any(tensor in self._made for tensor in given):
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self._made[tensor] = True
        return result


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
