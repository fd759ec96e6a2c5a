"""At which sizes a traced network still computes what its code does: what torch.export took for granted, asked at many.

A branch on the size leaves a condition in the trace. An ONNX file has no place for it, so it must hold at every size
that the file promises.
"""

import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.exporters.probes import Inputs, Size, free_sides, resized, size_of
from ganshrink.system.generator import generate

AXES = ("batch", "channels", "height", "width")
MULTIPLES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
LARGEST = 8192  # sides up to here are asked for
BATCHES = (1, 2, 3, 5, 8)


@dataclass(frozen=True)
class Sizes:
    """Heights and widths: multiples of `multiple`, from `least` on."""

    multiple: int
    least: int

    def about(self) -> dict[str, int]:
        """As an entry of parity.json and the file's metadata have them."""
        return {"size_multiple": self.multiple, "size_least": self.least}

    def compared(self, graph: nn.Module, batch: Inputs) -> list[Size]:
        """Sizes to compare a file at, of those that the network takes: oblong, odd, smaller and larger ones.

        Args:
            batch: inputs of `graph`.

        Raises:
            ValueError: there are none, but the example's.
        """
        (height, width), step, least = size_of(batch), self.multiple, self.least
        half = [max(least, side // 2 // step * step) for side in (height, width)]
        inside = [(height + step, width + 3 * step), (half[0], half[1]), (2 * height, width)]
        others = [size for size in dict.fromkeys(inside) if size != (height, width)]
        sizes = [size for size in others if _made(graph, batch, 1, size) is not None]
        if not sizes:
            tried = ", ".join(f"{h}x{w}" for h, w in inside)
            raise ValueError(
                f"the network runs at {height}x{width} but at none of {tried}: export it with a fixed size"
            )
        return sizes


def _made(graph: nn.Module, batch: Inputs, count: int, size: Size) -> Tensor | None:
    """What a network makes of a batch of that size, always of the same; None where it cannot take it."""
    if not fits(batch, size):
        return None
    generator = torch.Generator().manual_seed(0)
    shapes = ((resized(t, count, size, size_of(batch)), 255 if t.dtype == torch.uint8 else 1) for t in batch)
    drawn = (torch.rand(shape, generator=generator) * most for shape, most in shapes)
    try:
        with torch.no_grad():
            return generate(graph, tuple(new.to(t.dtype) for new, t in zip(drawn, batch, strict=True)))
    except Exception:  # whatever a user's network raises for a size it cannot take
        return None


def fits(batch: Inputs, size: Size) -> bool:
    """Whether every image of a batch, also one that is smaller than the first, has whole sides where that has this size."""
    pairs = itertools.product(batch, zip((2, 3), size, size_of(batch), strict=True))
    return all(t.shape[axis] * to % base == 0 for t, (axis, to, base) in pairs if axis in free_sides(t))


def sizes_of(program: torch.export.ExportedProgram, graph: nn.Module, batch: Inputs) -> Sizes:
    """The sizes that hold for a network traced with free ones.

    Args:
        graph: what was traced; it is run at sizes that are none of these, as it must not take them either.
        batch: what it was traced with.

    Raises:
        ValueError: they have an end, or another form than multiples of a number, or the network takes others as well.
    """
    conditions, (height, width) = _Conditions(program, graph, batch), size_of(batch)
    bad: list[Size] = []
    for step in MULTIPLES:
        if height % step or width % step or not fits(batch, (height + step, width + step)):
            continue
        bad = conditions.broken_at(step)
        least = max((min(size) + 1 for size in bad), default=1)
        least += -least % step
        if least > min(size_of(batch)):
            continue
        between = ((height + 1, width), (height, width + step // 2), (height + step // 2, width + 1))
        if found := next((size for size in between if conditions.taken_otherwise(size)), None):
            raise ValueError(
                "the network has no free size: its code takes another way where height and width are no multiples of "
                f"{step}, as at {found[0]}x{found[1]}: pad in front of the network, or export with a fixed size"
            )
        below = (least - step, least - step)
        if not conditions.taken_otherwise(below):
            return Sizes(step, least)
        bad = [below]
        break
    if not bad:
        raise ValueError("the inputs' sizes have no simple ratio to each other: export with a fixed size")
    raise ValueError(
        f"the network has no free size: at {height}x{width} its code takes a way that it leaves elsewhere (it asks for "
        f"{conditions.broken(bad[-1])}): export with a fixed size"
    )


def check_batches(program: torch.export.ExportedProgram, graph: nn.Module, batch: Inputs) -> None:
    """Raise a ValueError where a network traced with a free batch computes otherwise at another one."""
    conditions = _Conditions(program, graph, batch)
    for count in BATCHES:
        if conditions.taken_otherwise(size_of(batch), count):
            raise ValueError(
                f"the network has no free batch: of {len(batch[0])} images its code takes a way that it leaves for {count} "
                f"(it asks for {conditions.broken(size_of(batch), count)}): export with dynamic_batch=False"
            )


class _Conditions:
    """What a trace took for granted of its inputs' shapes."""

    def __init__(self, program: torch.export.ExportedProgram, graph: nn.Module, batch: Inputs) -> None:
        self.program, self.graph, self.batch = program, graph, batch
        self.signature, self.count = inspect.signature(graph.forward), len(batch[0])
        self.codes = {text: compile(text, "guard", "eval") for text in program._guards_code}

    def broken(self, size: Size, count: int | None = None) -> str | None:
        """The first condition that images of a size do not keep, in words; as many as were traced, or another number."""
        count = count or self.count
        given = [torch.empty(resized(t, count, size, size_of(self.batch)), device="meta") for t in self.batch]
        symbols = (
            torch.fx.experimental.symbolic_shapes.SYMPY_INTERP
        )  # what a trace has imported; it takes a second
        scope: dict[str, Any] = {**symbols, "inf": float("inf")}
        scope["L"] = self.signature.bind(*given).arguments
        return next((_words(text) for text, code in self.codes.items() if not _holds(code, scope)), None)

    def taken_otherwise(self, size: Size, count: int | None = None) -> bool:
        """Whether a condition is broken, and the network takes the size all the same and makes another image of it than its
        trace: some conditions are more careful than need be."""
        if min(size) < 1 or not self.broken(size, count):
            return False
        wanted = _made(self.graph, self.batch, count or self.count, size)
        if wanted is None:
            return False
        found = _made(self.program.module(check_guards=False), self.batch, count or self.count, size)
        return found is None or found.shape != wanted.shape or not torch.allclose(found, wanted, atol=1e-3)

    def broken_at(self, multiple: int) -> list[Size]:
        """The sizes of such sides where a condition is broken, from the small ones on, to the first that is no smaller than
        the example."""
        found = []
        for size in self._asked(multiple):
            if self.broken(size):
                found.append(size)
                if min(size) >= min(size_of(self.batch)):
                    break
        return found

    def _asked(self, multiple: int) -> Iterator[Size]:
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


def _holds(code: CodeType, scope: dict[str, Any]) -> bool:
    try:
        return bool(eval(code, scope))
    except ArithmeticError:  # a remainder by a side of nothing
        return False


def _words(guard: str) -> str:
    return re.sub(r"L\['\w+'\](?:\[\d+\])?\.size\(\)\[(\d)\]", lambda found: AXES[int(found[1])], guard)
