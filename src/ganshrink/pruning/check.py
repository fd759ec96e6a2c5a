"""Does the small network compute what the big one with dead channels does? Asked on the traced example."""

import linecache
import os
import random
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from ganshrink.pruning.untouched import attributes_kept, random_numbers_kept
from ganshrink.system.copies import copied, in_training

TORCH = os.path.dirname(torch.__file__)  # noqa: PTH120
SMALLEST = 32  # pixels; where both networks run a shrunken example, it says as much
NUMBERS = (bool, int, float, complex, str)
HALVES = (torch.float16, torch.bfloat16)
TOLERANCE = 1e-4  # of the largest output; instance norms of small maps amplify rounding


def mismatch(
    small: nn.Module, big: nn.Module, tensors: Mapping[str, torch.Tensor], example: tuple[Any, ...]
) -> str | None:
    """What differs between `small` and `big` with these tensors put in, in evaluation; None if nothing does.

    Half precision is compared in float32. What a forward moves on, such as counters, moves on.
    """
    with evaluating(small), evaluating(big):
        if any(t.dtype in HALVES for t in big.parameters()):
            small, big, tensors = _cast(small, big, tensors, torch.float32)
        found = _compared(small, big, tensors, examples(example))
        if (
            found is not None
            and "off by" in found
            and all(t.dtype != torch.float64 for t in big.parameters())
        ):
            exact = [tuple(_double(t) for t in inputs) for inputs in examples(example)]
            with suppress(RuntimeError):  # user code may insist on float32
                found = _compared(*_cast(small, big, tensors, torch.float64), exact)
        return found


def training_failure(small: nn.Module, big: nn.Module, example: tuple[Any, ...]) -> str | None:
    """What `small` raises in training where `big` runs: layers that only training calls are in no graph."""
    for inputs in examples(example):
        try:
            _run(in_training(copied(small)), inputs)
            return None
        except Exception as error:  # whatever a cut makes user code raise
            with suppress(Exception):  # such as too small an example
                _run(in_training(copied(big)), inputs)
                return f"in training {_failure(error, small)}"
    return None


class Failure(str):
    """What a network raised, in words.

    Attributes:
        modules: the paths of those that were being called, the innermost first.
        checked: the network's own code objects, by `assert` or `raise`.
    """

    modules: tuple[str, ...] = ()
    place = ""
    checked = False


def _failure(error: Exception, net: nn.Module) -> Failure:
    frames = [*traceback.walk_tb(error.__traceback__)][::-1]
    frame, line = frames[0]
    file = frame.f_code.co_filename
    code = linecache.getline(file, line).strip()
    checked = not file.startswith(TORCH) and bool(re.search(r"\b(assert|raise)\b", code))
    text = next(iter(str(error).splitlines()), "") or code or "-"
    files = ((f.f_code.co_filename, number) for f, number in frames)
    place = next((f" ({name}:{number})" for name, number in files if not name.startswith((TORCH, "<"))), "")
    found = Failure(f"it fails with {type(error).__name__}: {text}{place}")
    found.place = place.strip()
    found.checked = checked
    paths = {id(module): path for path, module in net.named_modules()}
    selves = [id(frame.f_locals.get("self")) for frame, _ in frames]
    found.modules = tuple(dict.fromkeys(paths[known] for known in selves if known in paths))
    return found


def _compared(
    small: nn.Module, big: nn.Module, tensors: Mapping[str, torch.Tensor], sizes: list[Any]
) -> str | None:
    def reference(*inputs: Any) -> Any:
        with attributes_kept(big):  # what it keeps has its widths: no copy may have that
            return torch.func.functional_call(big, dict(tensors), inputs)

    for inputs in sizes:
        try:
            expected = _run(reference, inputs)
        except Exception:  # too small an example for this network, whatever it raises: the next is larger
            if inputs is sizes[-1]:
                raise
            continue
        try:
            return _difference(_run(small, inputs), expected)
        except Exception as error:  # whatever a cut makes user code raise is the answer
            return _failure(error, small)
    raise AssertionError("no example ran")


def finite(net: nn.Module, example: tuple[Any, ...]) -> bool:
    """Whether its outputs are, on the smallest example that it runs."""
    for inputs in examples(example):
        with suppress(Exception):  # too small an example for this network, whatever it raises
            outputs = [t for t in _flat(_run(net, inputs)) if isinstance(t, torch.Tensor)]
            return all(bool(t.isfinite().all()) for t in outputs)
    return False


def _cast(
    small: nn.Module, big: nn.Module, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> tuple[nn.Module, nn.Module, dict[str, torch.Tensor]]:
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    return copied(small).to(dtype), copied(big).to(dtype), cast


def _double(tensor: Any) -> Any:
    return tensor.double() if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() else tensor


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Eval mode, then every module as it was."""
    flags = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def examples(example: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The example, first smaller where its sides allow, at last as it is; two images of it do. Constants become noise."""
    tensors = [t for t in example if isinstance(t, torch.Tensor)]
    images = [t for t in tensors if t.ndim >= 4]
    batched = len({t.shape[:1] for t in tensors}) == 1
    sides = [side for t in images for side in t.shape[2:]]
    largest = max((min(t.shape[2:]) for t in images), default=0)
    factors = [f for f in (8, 4, 2) if largest // f >= SMALLEST and all(s % f == 0 for s in sides)]
    return [tuple(_probe(t, factor, batched) for t in example) for factor in (*factors, 1)]


def _probe(tensor: Any, factor: int, batched: bool) -> Any:
    if not isinstance(tensor, torch.Tensor):
        return tensor
    small = tensor[:2] if batched and tensor.ndim else tensor
    for d in range(2, tensor.ndim if tensor.ndim >= 4 else 0):
        small = small[(slice(None),) * d + (slice(None, None, factor),)]
    if small.is_floating_point():
        small = small.float() if small.dtype in HALVES else small
        if small.numel() > 1 and bool((small == small.flatten()[0]).all()):
            noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(0))
            small = noise.to(small)
    return small.contiguous()


def _run(net: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    with torch.no_grad(), random_numbers_kept():
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        return net(*(t.clone() if isinstance(t, torch.Tensor) else t for t in inputs))


def _difference(got: Any, expected: Any) -> str | None:
    ours, theirs = _flat(got), _flat(expected)
    if len(ours) != len(theirs):
        return f"it has {len(ours)} outputs instead of {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
            if type(one) is not type(other) or (isinstance(other, NUMBERS) and one != other):
                return f"an output is {one} instead of {other}"
            continue
        if one.shape != other.shape:
            return f"an output is {tuple(one.shape)} instead of {tuple(other.shape)}"
        if not other.numel():
            continue
        one, other = one.double(), other.double()
        error = float((one - other).abs().max()) / max(float(other.abs().max()), 1e-12)
        if not error <= TOLERANCE:
            return f"its output is off by {error:.1e} of the output's size"
    return None


def _flat(tree: Any) -> list[Any]:
    """Tensors, and what else a network puts out."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [t for part in tree for t in _flat(part)] if isinstance(tree, (list, tuple)) else [tree]
