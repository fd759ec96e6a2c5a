"""Networks as users bring them: what each makes of tracing, down to the number of channels that may go.

`prunable` is that number; `refused` a part of the one-line error. Where few channels or none may go,
`frozen` names groups with a part of the reason, which is legitimate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from topologies import Net, conv
from torch import Tensor, nn

Shapes = tuple[Any, ...]  # of each input: a shape for noise, or a function that draws it
IMAGE: Shapes = ((2, 3, 8, 12),)
STYLED: Shapes = ((2, 3, 8, 12), (2, 5))


@dataclass(frozen=True)
class Wild:
    make: Callable[[], nn.Module]
    prunable: int | None = None
    refused: str | None = None
    shapes: Shapes = IMAGE
    other: Shapes | None = ((1, 3, 12, 8),)  # a second size, batch 1; None: the network takes one size only
    frozen: Mapping[str, str] = field(default_factory=dict)


WILD: dict[str, Wild] = {}


def wild(name: str, run: Callable[..., Any], parts: Callable[[], dict[str, Any]], **expected: Any) -> None:
    assert name not in WILD, name
    WILD[name] = Wild(lambda: Net(run, **parts()), **expected)


def plain(**more: Any) -> Callable[[], dict[str, Any]]:
    """`a` makes eight channels, `b` takes them; the rest is called when the network is made."""
    return lambda: {"a": conv(3, 8), "b": conv(8, 3)} | {k: v() for k, v in more.items()}


def labels(count: int, *shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(count, shape)


def drawn(shapes: Shapes) -> list[Tensor]:
    return [shape() if callable(shape) else torch.randn(shape) for shape in shapes]


def styled(name: str, run: Callable[..., Any], parts: Callable[[], dict[str, Any]], **expected: Any) -> None:
    wild(name, run, parts, shapes=STYLED, other=((1, 3, 12, 8), (1, 5)), **expected)
