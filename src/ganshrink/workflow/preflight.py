"""What would fail after a training, tried before it: on the untrained generator, once for a run."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganshrink.data import Images
from ganshrink.exporters import exporter
from ganshrink.exporters.runtime import has_openvino, open_openvino, runtime_version
from ganshrink.pruning.folding import copy_of
from ganshrink.quant.layers import find_layers
from ganshrink.system.copies import in_evaluation
from ganshrink.system.generator import generate
from ganshrink.system.spelling import one_line
from ganshrink.training.stages import Run
from ganshrink.training.stamps import sources
from ganshrink.workflow import outputs
from ganshrink.workflow.output_stages import stamp_of_metrics
from ganshrink.workflow.recipe import Recipe

logger = logging.getLogger(__name__)

PASSED = "preflight.json"
DRAWS = torch.Tag.nondeterministic_seeded  # on every operator of torch that draws random numbers


def check_single(network: nn.Module) -> None:
    """Refuse a generator whose own code makes it of another precision than float32, which students are trained in."""
    kinds = sorted({str(p.dtype) for p in network.parameters() if p.is_floating_point()} - {"torch.float32"})
    if kinds:
        raise ValueError(f"the generator is in {' and '.join(kinds)}: let its code end with self.float()")


def check_repeatable(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse a generator that makes another image each time: nothing that is made of it could be checked.

    Args:
        network: in eval mode, where dropout draws nothing.

    Raises:
        ValueError: with the operator that draws and its module, or the module where runs first differ.
    """
    drawn: dict[str, str] = {}  # by module, its operator
    with torch.no_grad(), _noticed(network, drawn):
        first = generate(network, inputs)
    alike = _alike(first, generate(network, inputs))
    if alike and drawn:  # noise whose strength starts at zero does not show yet
        shaken = in_evaluation(copy_of(network))
        with torch.no_grad():
            for parameter in shaken.parameters():
                if parameter.is_floating_point() and not parameter.any():
                    parameter.normal_()
            alike = _alike(generate(shaken, inputs), generate(shaken, inputs))
    if alike:
        return
    if drawn:
        where, operator = next(iter(drawn.items()))
        reason = f"{operator} draws random numbers in {_named(network, where)}"
    else:
        reason = f"it differs from run to run, first in {_named(network, _first_other(network, inputs))}"
    raise ValueError(
        f"the generator makes another image each time it runs on the same input: {reason}; keep noise in a buffer, take it "
        "as a further input, or let dropout draw only in training"
    )


def preflight(
    run: Run, recipe: Recipe, network: nn.Module, example: tuple[Tensor, ...], images: Images
) -> None:
    """Try the files that the recipe asks for. What passed is noted in the run and not tried again.

    Args:
        network: the original generator, whose weights play no part.
        images: those that networks are scored on.

    Raises:
        ValueError: what would be missing in the end, and why.
    """
    if passed(run.path, recipe, network, example, images):
        return
    if recipe.quantization.mode != "none":
        with _told("quantization", "set quantization.mode = 'none'"):
            find_layers(network, example, recipe.quantization.exclude)
    with tempfile.TemporaryDirectory() as folder:
        for name in recipe.export.names:
            file = Path(folder) / exporter(name).file
            with _told(file.name, f"leave {name} out of [export]"):
                outputs.export_to(file, name, network, example, (), **recipe.export.options)
            if name == "onnx" and recipe.latency.enabled and has_openvino():
                _try_openvino(file)
    run.write(PASSED, {"key": _key(recipe, network, example, images)})


def passed(
    folder: Path, recipe: Recipe, network: nn.Module, example: tuple[Tensor, ...], images: Images
) -> bool:
    """Whether all that is tried before a training passed in a run already, for the same recipe, generator and images."""
    with suppress(OSError, ValueError):  # what cannot be read is tried again
        noted = json.loads((folder / PASSED).read_bytes())
        return bool(noted == {"key": _key(recipe, network, example, images)})
    return False


def _key(recipe: Recipe, network: nn.Module, example: tuple[Tensor, ...], images: Images) -> str:
    asked = _asked(recipe, network, example) | {"images": images.fingerprint()}
    return hashlib.sha256(repr(sorted(asked.items())).encode()).hexdigest()


def _asked(recipe: Recipe, network: nn.Module, example: tuple[Tensor, ...]) -> dict[str, Any]:
    """What decides whether the files can be made, and the pictures scored."""
    return {
        "network": [recipe.net.model_dump(mode="json"), repr(network), sources(network)],
        "example": [list(tensor.shape) for tensor in example],
        "export": recipe.export.model_dump(mode="json"),
        "quantization": [recipe.quantization.mode != "none", recipe.quantization.exclude],
        "latency": recipe.latency.enabled,
        "metrics": stamp_of_metrics(recipe.metrics),
        "versions": [torch.__version__, runtime_version("onnxruntime") if recipe.export.onnx else None],
    }


@contextmanager
def _told(what: str, way_out: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{what} would fail after the training, as the untrained generator shows: {error}; or {way_out}"
        ) from error


def _try_openvino(file: Path) -> None:
    try:
        open_openvino(file)
    except Exception as error:  # its own kinds, over many lines
        logger.warning(
            "OpenVINO does not run this network and is left out of the timings: %s", one_line(error)
        )


@contextmanager
def _noticed(network: nn.Module, drawn: dict[str, str]) -> Iterator[None]:
    """Note the operators that draw random numbers, by the module that they run in."""
    running = [""]

    class Notice(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if DRAWS in func.tags:
                drawn.setdefault(running[-1], func._schema.name.removeprefix("aten::"))
            return func(*args, **(kwargs or {}))

    def enter(path: str) -> Callable[..., None]:
        return lambda *_: running.append(path)

    def leave(*_: Any) -> None:
        running.pop()

    hooks: list[Any] = []
    for path, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(enter(path), prepend=True))
        hooks.append(module.register_forward_hook(leave))
    try:
        with Notice():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _first_other(network: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """The module whose output is the first to differ between two runs; the network itself where none is."""
    sums: list[list[tuple[str, float]]] = []

    def watch(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            if isinstance(made, Tensor) and path:
                sums[-1].append((path, float(made.double().sum())))

        return hook

    hooks = [module.register_forward_hook(watch(path)) for path, module in network.named_modules()]
    try:
        for _ in range(2):
            sums.append([])
            with torch.no_grad():
                network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return next((one[0] for one, other in zip(*sums, strict=False) if one != other), "")


def _named(network: nn.Module, path: str) -> str:
    return f"module {path!r}" if path else f"the forward of {type(network).__name__}"


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)
