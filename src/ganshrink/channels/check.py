"""Does the small network compute what the big one with dead channels does? Asked on the traced example."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn

SMALLEST = 32  # pixels; where both networks run a shrunken example, it says as much
HALVES = (torch.float16, torch.bfloat16)
TOLERANCE = 1e-4  # of the largest output; instance norms of small maps amplify rounding


def mismatch(
    small: nn.Module, big: nn.Module, tensors: Mapping[str, torch.Tensor], example: tuple[Any, ...]
) -> str | None:
    """What differs between `small` and `big` with these tensors put in, in evaluation; None if nothing does.

    Half precision is compared in float32. Neither network is changed.
    """
    with _evaluating(small), _evaluating(big):
        if any(t.dtype in HALVES for t in big.parameters()):
            small, big = deepcopy(small).float(), deepcopy(big).float()
            tensors = {name: t.float() if t.dtype in HALVES else t for name, t in tensors.items()}

        def reference(*inputs: Any) -> Any:
            return torch.func.functional_call(big, dict(tensors), inputs)

        sizes = list(examples(example))
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
                return f"it fails with {type(error).__name__}: {(str(error) or '-').splitlines()[0]}"
    raise AssertionError("no example ran")


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    flags = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def examples(example: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The example, smaller where its sides allow, in float32; at last as it is. Constant inputs become noise."""
    images = [t for t in example if isinstance(t, torch.Tensor) and t.ndim >= 4]
    for factor in (8, 4, 2):
        sides = [side for t in images for side in t.shape[2:]]
        largest = max((min(t.shape[2:]) for t in images), default=0)
        if sides and largest // factor >= SMALLEST and all(s % factor == 0 for s in sides):
            yield tuple(_probe(t, factor) for t in example)
    yield tuple(_probe(t, 1) for t in example)


def _probe(tensor: Any, factor: int) -> Any:
    if not isinstance(tensor, torch.Tensor):
        return tensor
    small = tensor[:2]
    if tensor.ndim >= 4:
        for d in range(2, tensor.ndim):
            small = small[(slice(None),) * d + (slice(None, None, factor),)]
    if small.is_floating_point():
        small = small.float() if small.dtype in HALVES else small
        if small.numel() and bool((small == small.flatten()[0]).all()):
            noise = torch.randn(small.shape, generator=torch.Generator().manual_seed(0))
            small = noise.to(small)
    return small.contiguous()


def _run(net: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    devices = [t.device.index for t in inputs if isinstance(t, torch.Tensor) and t.device.type == "cuda"]
    with torch.no_grad(), torch.random.fork_rng(devices=[d for d in devices if d is not None]):
        torch.manual_seed(0)
        return net(*(t.clone() if isinstance(t, torch.Tensor) else t for t in inputs))


def _difference(got: Any, expected: Any) -> str | None:
    ours, theirs = _flat(got), _flat(expected)
    if len(ours) != len(theirs):
        return f"it has {len(ours)} outputs instead of {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            return f"an output is {tuple(one.shape)} instead of {tuple(other.shape)}"
        if not other.numel():
            continue
        one, other = one.double(), other.double()
        error = float((one - other).abs().max()) / max(float(other.abs().max()), 1e-12)
        if not error <= TOLERANCE:
            return f"its output is off by {error:.1e} of the output's size"
    return None


def _flat(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [t for part in tree for t in _flat(part)] if isinstance(tree, (list, tuple)) else []
