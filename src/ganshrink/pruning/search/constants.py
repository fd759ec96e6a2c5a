"""What channels of scale zero still carry: constants, made of their shifts, which the layers that read them can take."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from ganshrink.pruning.channels import Channels
from ganshrink.pruning.plan import Plan


def hand_over(
    model: nn.Module,
    channels: Channels,
    plan: Plan,
    batches: Sequence[tuple[Tensor, ...]],
    silence: Callable[[], None],
) -> float:
    """Put what a plan's cut channels add to the layers that read them, on average over places and inputs, into these
    layers' biases, and silence the channels. That is exact where it is the same everywhere: behind reflection or no
    padding, or before an instance norm. Zero padding lets the border differ, a strided transposed convolution every second
    pixel; a reader that is no convolution or linear layer, or has no place for a constant, takes none over.

    Args:
        model: in evaluation, perhaps with hooks that change its weights; on the batches' device.
        silence: sets the channels to zero.

    Returns:
        the root mean square of how far the outputs move, over theirs.
    """
    readers = _readers(model, channels, plan)
    added: dict[str, list[Tensor]] = {path: [] for path in readers}
    with torch.no_grad():
        with ExitStack() as stack:
            for path, alive in readers.items():
                for hook in _watching(model.get_submodule(path), alive, added[path]):
                    stack.callback(hook.remove)
            before = [_outputs(model, inputs) for inputs in batches]
        for path, found in added.items():
            if found:
                _take_over(model, channels, path, torch.stack(found).mean(0))
        silence()
        after = [_outputs(model, inputs) for inputs in batches]
    moved = sum(float((new - old).square().sum()) for new, old in zip(after, before, strict=True))
    return float((moved / max(sum(float(old.square().sum()) for old in before), 1e-12)) ** 0.5)


def _readers(model: nn.Module, channels: Channels, plan: Plan) -> dict[str, Tensor]:
    """By path of a convolution or linear layer that reads cut channels: ones for those of its inputs that stay, zeros for
    the cut ones, in the shape that broadcasts to its weight."""
    made = {(producer.parameter, producer.axis) for producer in channels.producers}
    found = {}
    for name, cuts in channels.cuts(plan).items():
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path)
        whole = isinstance(module, nn.Linear) or (isinstance(module, _ConvNd) and module.groups == 1)
        axis = 0 if getattr(module, "transposed", False) else 1
        if last == "weight" and whole and axis in cuts and (name, axis) not in made:
            weight: Any = module.weight
            shape = [-1 if d == axis else 1 for d in range(weight.ndim)]
            found[path] = torch.from_numpy(cuts[axis]).to(weight).reshape(shape)
    return found


def _watching(module: nn.Module, alive: Tensor, added: list[Tensor]) -> list[Any]:
    """Hooks that note what the cut inputs add to each channel of a layer's output, with the weight that the call uses."""
    used: list[Tensor] = []

    def before(module: Any, *_: Any) -> None:
        used.append(module.weight)  # an earlier hook may have put another in its place

    def after(module: Any, args: Any, named: Any, output: Tensor) -> None:
        module.__dict__["weight"] = used.pop() * alive  # found before the parameter of that name
        rest = output - module.forward(*args, **named)
        del module.__dict__["weight"]
        channel = rest.ndim - alive.ndim + 1
        added.append(rest.mean([d for d in range(rest.ndim) if d != channel]))

    return [
        module.register_forward_pre_hook(before),
        module.register_forward_hook(after, with_kwargs=True),
    ]


def _take_over(model: nn.Module, channels: Channels, path: str, constant: Tensor) -> None:
    """Add a constant (C,) to what a layer puts out: in its bias, or in the mean that the norm after it has counted. An
    instance norm takes it out anyway."""
    module: Any = model.get_submodule(path)
    if module.bias is not None:
        module.bias.add_(constant)
        return
    for norm in channels.norms:
        if channels.producers[norm.producer].parameter == f"{path}.weight":
            counted = getattr(model.get_submodule(norm.scale.rpartition(".")[0]), "running_mean", None)
            if counted is not None:
                counted.sub_(constant)


def _outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """All that it puts out, in one vector."""
    return torch.cat([t.double().flatten() for t in tree_leaves(model(*inputs)) if isinstance(t, Tensor)])
