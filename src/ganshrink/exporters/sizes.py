"""At which sizes a traced network still computes what its code does: what torch.export took for granted, asked at many.

A branch on the size leaves a condition in the trace. An ONNX file has no place for it, so it must hold at every size
that the file promises.
"""

import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP

from ganshrink.exporters.probes import Inputs, Size, free_sides, resized, size_of

AXES = ("batch", "channels", "height", "width")
MULTIPLES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
LARGEST = 8192  # sides up to here are asked for
BATCHES = (1, 2, 3, 5, 8)


@dataclass(frozen=True)
class Sizes:
    """Heights and widths: multiples of `multiple`, from `least` on."""

    multiple: int
    least: int

    def __contains__(self, size: Size) -> bool:
        return all(side % self.multiple == 0 and side >= self.least for side in size)

    def about(self) -> dict[str, int]:
        """As an entry of parity.json and the file's metadata have them."""
        return {"size_multiple": self.multiple, "size_least": self.least}

    def compared(self, graph: nn.Module, batch: Inputs) -> list[Size]:
        """Sizes to compare a file at: oblong, odd, smaller and larger ones; and those that the network takes though they are
        not promised, which a file must not get wrong either.

        Args:
            batch: inputs of `graph`.

        Raises:
            ValueError: there are none, but the example's.
        """
        (height, width), step, least = size_of(batch), self.multiple, self.least
        half = [max(least, side // 2 // step * step) for side in (height, width)]
        inside = [(height + step, width + 3 * step), (half[0], half[1]), (2 * height, width)]
        outside = [(height + 1, width), (height, width + step // 2), (height + step // 2, width + 1)]
        below = [(least - step, least - step)] if least > step else []
        others = dict.fromkeys([*inside, *(outside if step > 1 else []), *below])
        sizes = [size for size in others if size != (height, width) and _runs(graph, batch, size)]
        if not sizes:
            tried = ", ".join(f"{h}x{w}" for h, w in inside)
            raise ValueError(
                f"the network runs at {height}x{width} but at none of {tried}: export it with a fixed size"
            )
        return sizes


def _runs(graph: nn.Module, batch: Inputs, size: Size) -> bool:
    if not fits(batch, size):
        return False
    canvas = tuple(t.new_zeros(resized(t, 1, size, size_of(batch))) for t in batch)
    try:
        with torch.no_grad():
            graph(*canvas)
    except Exception:  # whatever a user's network raises for a size it cannot take
        return False
    return True


def fits(batch: Inputs, size: Size) -> bool:
    """Whether every image of a batch, also one that is smaller than the first, has whole sides where that has this size."""
    pairs = itertools.product(batch, zip((2, 3), size, size_of(batch), strict=True))
    return all(t.shape[axis] * to % base == 0 for t, (axis, to, base) in pairs if axis in free_sides(t))


def sizes_of(program: torch.export.ExportedProgram, graph: nn.Module, batch: Inputs) -> Sizes:
    """The sizes that hold for a network traced with free ones.

    Args:
        batch: what it was traced with.

    Raises:
        ValueError: they have an end, or another form than multiples of a number.
    """
    conditions = _Conditions(program, graph, batch)
    for multiple in MULTIPLES:
        if any(side % multiple for side in size_of(batch)):
            continue
        bad = [size for size in conditions.asked(multiple) if conditions.broken(len(batch[0]), size)]
        least = max((min(size) + 1 for size in bad), default=1)
        least += -least % multiple
        if least <= min(size_of(batch)):
            return Sizes(multiple, least)
    height, width = size_of(batch)
    raise ValueError(
        f"the network has no free size: at {height}x{width} its code takes a way that it leaves elsewhere (it asks for "
        f"{conditions.broken(len(batch[0]), bad[-1])}): export with a fixed size"
    )


def check_batches(program: torch.export.ExportedProgram, graph: nn.Module, batch: Inputs) -> None:
    """Raise a ValueError where a network traced with a free batch computes otherwise at another one."""
    conditions = _Conditions(program, graph, batch)
    for count in BATCHES:
        if condition := conditions.broken(count, size_of(batch)):
            raise ValueError(
                f"the network has no free batch: of {len(batch[0])} images its code takes a way that it leaves for {count} "
                f"(it asks for {condition}): export with dynamic_batch=False"
            )


class _Conditions:
    """What a trace took for granted of its inputs' shapes."""

    def __init__(self, program: torch.export.ExportedProgram, graph: nn.Module, batch: Inputs) -> None:
        self.batch, self.signature = batch, inspect.signature(graph.forward)
        self.codes = {text: compile(text, "guard", "eval") for text in program._guards_code}

    def broken(self, count: int, size: Size) -> str | None:
        """The first condition that a batch of so many images of a size does not keep, in words."""
        given = [torch.empty(resized(t, count, size, size_of(self.batch)), device="meta") for t in self.batch]
        scope: dict[str, Any] = {**SYMPY_INTERP, "inf": float("inf")}
        scope["L"] = self.signature.bind(*given).arguments
        return next((_words(text) for text, code in self.codes.items() if not eval(code, scope)), None)

    def asked(self, multiple: int) -> Iterator[Size]:
        """Sizes to ask for: small and large ones, those near the example's, and those near every number in a condition."""
        height, width = size_of(self.batch)
        numbers = {int(n) for text in self.codes for n in re.findall(r"\d+", text)} | {height, width}
        near = {
            n * scale + step * multiple for n in numbers for scale in (1, 2, 4, 8) for step in (-1, 0, 1, 2)
        }
        steps = (*range(1, 10), 13, 16, 23, 32, 64, 65)
        sides = {side - side % multiple for side in (*near, *(multiple * step for step in steps), LARGEST)}
        for side in sorted(side for side in sides if 0 < side <= LARGEST):
            sizes = (
                (side, side),
                (side, width),
                (height, side),
                (side, side + multiple),
                (side + multiple, side),
            )
            yield from (size for size in sizes if fits(self.batch, size))


def _words(guard: str) -> str:
    return re.sub(r"L\['\w+'\](?:\[\d+\])?\.size\(\)\[(\d)\]", lambda found: AXES[int(found[1])], guard)
