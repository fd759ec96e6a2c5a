"""Outputs from the inside of a network, by module path."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ganshrink.system.copies import in_evaluation
from ganshrink.system.spelling import did_you_mean


class Taps:
    """Catches the outputs of submodules during the next forward pass.

    Install on the bare module, and before it is compiled: hooks that come later are not seen. A context manager;
    the network must be closed again before it is exported or copied.

    Args:
        model: the network.
        paths: paths of submodules, such as "blocks.2".

    Raises:
        ValueError: for a path that is not there, with the nearest one that is.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        modules = dict(model.named_modules())
        for path in paths:
            if path not in modules:
                raise ValueError(f"the network has no submodule {path!r} to tap{did_you_mean(path, modules)}")
        self.paths = tuple(paths)
        self._caught: dict[str, Tensor] = {}
        self._hooks = [modules[path].register_forward_hook(self._catch(path)) for path in paths]

    def _catch(self, path: str) -> Any:
        caught = self._caught

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            caught[path] = output

        return hook

    def take(self) -> dict[str, Tensor]:
        """What the last forward pass gave, by path, handed over: nothing is kept alive here.

        Raises:
            ValueError: if there was no forward pass since the last time, or it did not reach every tap.
        """
        missing = [path for path in self.paths if path not in self._caught]
        if missing:
            raise ValueError(f"nothing passed through {missing[0]!r} since its tap was last read")
        outputs = {path: self._caught[path] for path in self.paths}
        self.clear()
        return outputs

    def clear(self) -> None:
        """Let go of what earlier forward passes gave."""
        self._caught.clear()

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def widths_at(model: nn.Module, paths: Sequence[str], example: Sequence[Tensor]) -> dict[str, int]:
    """How many channels the outputs of submodules have, by path.

    Raises:
        ValueError: for a path that is not there.
    """
    return {path: shape[1] for path, shape in shapes_at(model, paths, example).items()}


def shapes_at(
    model: nn.Module, paths: Sequence[str], example: Sequence[Tensor]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the outputs of submodules, by path; raises as `widths_at`."""
    with Taps(model, paths) as taps, torch.no_grad():
        in_evaluation(model)(*example)
        return {path: tuple(features.shape) for path, features in taps.take().items()}


def default_taps(
    model: nn.Module, example: Sequence[Tensor], width: int, *, count: int = 4, least: int = 1
) -> tuple[str, ...]:
    """Places to tap in a network nobody has chosen taps for: evenly spaced outputs `width` channels wide.

    On a residual generator with the width of its trunk these are the papers' four: the end of the stem, and three
    blocks. Maps less than `least` high or wide do not count. Within a chain of single layers only the last counts, and
    nothing inside a module that itself counts; what makes a weight, such as a spectral norm, makes no features.

    Raises:
        ValueError: if no submodule has an output of that width.
    """

    def fits(features: Tensor) -> bool:
        return features.shape[1] == width and min(features.shape[2:]) >= least

    ends = list(_places(model, example, fits))
    if not ends:
        raise ValueError(
            f"no submodule has an output {width} channels wide: name taps, such as taps=['blocks.2']"
        )
    return tuple(_spaced(ends, min(count, len(ends))))


def taps_of_sizes(
    model: nn.Module, example: Sequence[Tensor], sizes: Sequence[tuple[int, ...]]
) -> tuple[str | None, ...]:
    """Places to tap in a network, beside features of another one: for each of these a place with maps of its size (H, W),
    None where there is none. Of one size they are evenly spaced among those as wide as most of that size."""
    chosen: list[str | None] = [None] * len(sizes)
    for size in dict.fromkeys(sizes):

        def fits(features: Tensor, size: tuple[int, ...] = size) -> bool:
            return tuple(features.shape[2:]) == size

        found = _places(model, example, fits)
        if not found:
            continue
        [(usual, _)] = Counter(found.values()).most_common(1)
        wanted = [place for place, other in enumerate(sizes) if other == size]
        spaced = _spaced([path for path, width in found.items() if width == usual], len(wanted))
        for place, path in zip(wanted, spaced, strict=True):
            chosen[place] = path
    return tuple(chosen)


def _spaced(paths: Sequence[str], count: int) -> list[str]:
    """So many of them, evenly spaced, the first among them."""
    return [paths[place] for place in torch.linspace(0, len(paths) - 1, count).round().int().tolist()]


def _places(model: nn.Module, example: Sequence[Tensor], fits: Callable[[Tensor], bool]) -> dict[str, int]:
    """The submodules whose output, a map (B, C, H, W), fits, in the order of their calls, with its channels; see
    `default_taps` for what does not count."""
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def watch(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[path] += 1
            known = any(
                output is other for other in found.values()
            )  # a container's output is its last layer's
            if isinstance(output, Tensor) and output.ndim == 4 and fits(output) and not known:
                found[path] = output

        return hook

    flags = [(module, module.training) for module in model.modules()]
    of_weights = {
        id(part)
        for module in model.modules()
        if isinstance(module, ParametrizationList)
        for part in module.modules()
    }
    watched = [
        (path, module) for path, module in model.named_modules() if path and id(module) not in of_weights
    ]
    hooks = [module.register_forward_hook(watch(path)) for path, module in watched]
    try:
        with torch.no_grad():
            in_evaluation(model)(*example)
    finally:
        for module, training in flags:
            module.training = training
        for handle in hooks:
            handle.remove()
    once = [path for path in found if calls[path] == 1]  # a tap on a shared module would catch its last call
    outer = [path for path in once if not any(path.startswith(f"{other}.") for other in once)]
    ends = [path for path, after in itertools.pairwise([*outer, ""]) if not _chained(model, path, after)]
    return {path: found[path].shape[1] for path in ends}


def activations(network: nn.Module) -> list[str]:
    """The paths of a discriminator's activations, in order.

    Raises:
        ValueError: if it has none.
    """
    found = [path for path, module in network.named_modules() if isinstance(module, nn.LeakyReLU | nn.ReLU)]
    if not found:
        raise ValueError(f"the discriminator, a {type(network).__name__}, has no activation to look at")
    return found


def features_of(judge: nn.Module, image: Tensor, paths: Sequence[str]) -> list[Tensor]:
    """What a discriminator makes of images at these paths, such as its `activations`."""
    with Taps(judge, paths) as taps:
        judge(image)
        return list(taps.take().values())


def check_maps(network: nn.Module, paths: Sequence[str], example: Sequence[Tensor]) -> None:
    """Refuse taps that catch nothing of which attention could be made.

    Raises:
        ValueError: for a path that is not there, or that gives no feature map (B, C, H, W) of several pixels.
    """
    with Taps(network, paths) as taps, torch.no_grad():
        network(*example)
        for path, features in taps.take().items():
            if not isinstance(features, Tensor) or features.ndim != 4:
                raise ValueError(
                    f"taps: what {path} puts out is no feature map (B, C, H, W): name another layer"
                )
            if features.shape[2] * features.shape[3] == 1:
                raise ValueError(
                    f"taps: attention on a single pixel, as {path} has it, is 1 always: name another layer"
                )


def _chained(model: nn.Module, path: str, after: str) -> bool:
    """Whether two single layers of one parent follow each other."""
    layers = [path, after]
    same_parent = path.rpartition(".")[0] == after.rpartition(".")[0]
    return (
        bool(after)
        and same_parent
        and not any(list(model.get_submodule(layer).children()) for layer in layers)
    )
