"""Where a factor on a producer's channels can act, and how a layer is made to compute with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels, Producer
from ganshrink.pruning.cost import Mask
from ganshrink.pruning.extract import named, silencing
from ganshrink.pruning.plan import Plan


@dataclass(frozen=True)
class Handle:
    """An axis of a layer's own tensor, on which a producer's channels stand."""

    module: nn.Module
    name: str
    axis: int

    @property
    def tensor(self) -> Tensor:
        return getattr(self.module, self.name)

    def along(self, factor: Tensor) -> Tensor:
        """A factor (C,) in the shape that broadcasts along the axis."""
        return factor.reshape([-1 if d == self.axis else 1 for d in range(self.tensor.ndim)])

    def attach(self, factor: Callable[[], Tensor]) -> list[Any]:
        """Let the module compute with the tensor times `factor()`, taken anew at each call; hooks, to be removed."""
        return substituted(self.module, self.name, lambda tensor: tensor * self.along(factor()))


class Factors:
    """Factors on layers' channels that a network computes with, until they are folded into its weights."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []
        self._of: list[tuple[Sequence[Handle], Callable[[], Tensor]]] = []

    def add(self, handles: Sequence[Handle], factor: Callable[[], Tensor]) -> None:
        """Let a layer compute with `factor()`, taken anew at each call."""
        self._of.append((handles, factor))
        for handle in handles:
            self.hooks += handle.attach(factor)

    def fold(self) -> None:
        """Write the factors into what they multiply, and take the hooks off. The function is the same. Once is enough."""
        for handles, factor in self._of:
            multiply(handles, factor())
        for hook in self.hooks:
            hook.remove()
        self.hooks, self._of = [], []


def multiply(handles: Sequence[Handle], factor: Tensor) -> None:
    """Multiply what a layer puts out by a factor (C,), in place."""
    with torch.no_grad():
        for handle in handles:
            handle.tensor.mul_(handle.along(factor))


def kept_by_floor(channels: Channels, floor: int, alive: Mask, scores: np.ndarray) -> Index:
    """The atoms that must live for no group to fall below its least width: of each group of which too few are alive, so many
    with the highest scores.

    Args:
        floor: the least width of a group that cannot be removed.
        alive, scores: (num_atoms,).
    """
    found = [np.zeros(0, np.int64)]
    for group in channels.groups:
        atoms = group.atoms.numpy()
        least = 0 if group.removable or group.frozen is not None else min(floor, len(group))
        if int(alive[atoms].sum()) < least:
            found.append(atoms[np.argsort(-scores[atoms], kind="stable")[:least]])
    return np.concatenate(found)


def producer_handles(model: nn.Module, channels: Channels, producer: Producer) -> list[Handle]:
    """A layer's weight and, where its axis is the same, its bias: together a factor on what the layer puts out."""
    path, _, weight = producer.parameter.rpartition(".")
    owner = model.get_submodule(path)
    return [Handle(owner, weight, producer.axis), *_shift(owner, path, channels, made_by(channels, producer))]


def norm_handles(model: nn.Module, channels: Channels, producer: Producer) -> list[Handle]:
    """The scale and shift of the norm after a layer: a factor on what the norm puts out. It is the last affine norm that
    reads the layer's channels through operators that treat each alone (an activation, padding, a depthwise convolution),
    while nothing else reads them on the way: it undoes any factor before it. None: there is no such norm."""
    read_by = {channels.producers[number]: scale for number, scale in channels.scales.items()}
    scale, made = read_by.get(producer), made_by(channels, producer)
    if scale is None or not same_atoms(axis_atoms(channels, scale, 0), made):
        return []
    path, _, name = scale.rpartition(".")
    owner = model.get_submodule(path)
    return [Handle(owner, name, 0), *_shift(owner, path, channels, made)]


def norm_scales(channels: Channels) -> dict[tuple[str, int], str]:
    """Per producing parameter and axis, the scale of the first affine norm directly after it."""
    found = {}
    for norm in reversed(channels.norms):
        producer = channels.producers[norm.producer]
        found[producer.parameter, producer.axis] = norm.scale
    return found


def made_by(channels: Channels, producer: Producer) -> Index:
    """The atoms on a producer's axis."""
    return axis_atoms(channels, producer.parameter, producer.axis)


def axis_atoms(channels: Channels, name: str, axis: int) -> Index:
    axes = channels.axes.get(name, ())
    found = axes[axis] if len(axes) > axis else None
    return np.zeros(0, np.int64) if found is None else found


def same_atoms(left: Index, right: Index) -> bool:
    return len(left) == len(right) and bool((left == right).all())


def _shift(owner: nn.Module, path: str, channels: Channels, made: Index) -> list[Handle]:
    prefix = f"{path}." if path else ""
    if "bias" in owner._parameters and same_atoms(axis_atoms(channels, f"{prefix}bias", 0), made):
        return [Handle(owner, "bias", 0)]
    return []


def substituted(module: nn.Module, name: str, compute: Callable[[Tensor], Tensor]) -> list[Any]:
    """Let a module compute with `compute(its tensor)` in place of a parameter, whose name and value stay.

    Substitutions of one name build on each other, in the order in which they were made.

    Returns:
        the hooks, to be removed.
    """

    def before(module: nn.Module, inputs: Any) -> None:
        module.__dict__[name] = compute(getattr(module, name))  # found before the parameter of that name

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        module.__dict__.pop(name, None)

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)]


class Silence(nn.Module):
    """Keeps everything of dead channels at zero: what makes them, shifts, and the shifts of modules that go with them.

    Args:
        columns: also what reads them, so that ranges of weights are over what lives.
    """

    def __init__(self, model: nn.Module, channels: Channels, *, columns: bool) -> None:
        super().__init__()
        self._model, self._channels, self._columns = (model,), channels, columns  # a tuple: no submodule
        self._masks: dict[str, Tensor] | None = None

    def forget(self) -> None:
        """Other channels are dead than before, or tensors are elsewhere."""
        self._masks = None

    def _apply(self, *args: Any, **settings: Any) -> Any:
        self.forget()  # its tensors are on the device that this leaves
        return super()._apply(*args, **settings)

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        self.forget()

    def keep(self, plan: Callable[[], Plan]) -> None:
        """Zero what the plan cuts; it is asked for when something was forgotten. Optimizers with momentum move zeros a
        little: call it after each step."""
        if self._masks is None:
            self._masks = silencing(self._model[0], self._channels, plan(), columns=self._columns)
        with torch.no_grad():
            for name, mask in self._masks.items():
                named(self._model[0], name).mul_(mask)
