"""Huge pictures in tiles that overlap by as far as a network looks, so that what they join to is what it makes of the whole.

Both are tried, not taken for granted: how far a pixel is felt, and that tiles agree with a whole. A norm over the image,
attention or a pooling to one pixel feel every pixel everywhere: then there is no such distance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import torch
from torch import Tensor, nn

from ganshrink.data import InputSpec
from ganshrink.data.inputs import one_hot

Run = Callable[[Tensor], Tensor]  # (1, C, H, W) to (1, C', H', W')
LEVEL = 2 / 255  # of 255, in [-1, 1]
FELT = 0.02 * LEVEL  # what changes an output by less is not felt
ALLOWED = 0.5  # levels: below this no rounded pixel moves by more than one
HEIGHT = 64  # of the strips on which it is tried how far a network looks
WIDTHS = (128, 256, 512, 1024, 2048)
GLOBAL = ("InstanceNorm", "GroupNorm", "AdaptiveAvgPool", "AdaptiveMaxPool", "Attention")
NAMED = 3  # layers quoted in an error


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size for one network.

    Attributes:
        tile: side of a tile, in pixels of the input, with what it shares with its neighbours.
        overlap: pixels at each inner edge that are thrown away.
        step: from one tile to the next.
        scale: how many pixels of the output a pixel of the input makes, down and to the right.
        off: how far tiles were from the whole on a trial, in levels of 255.
    """

    tile: int
    overlap: int
    step: int
    scale: tuple[Fraction, Fraction]
    off: float = 0.0

    def count(self, height: int, width: int) -> int:
        """How many tiles a picture takes."""
        return len(self._starts(height)) * len(self._starts(width))

    def run(self, run: Run, picture: Tensor, told: Callable[[], None] = lambda: None) -> Tensor:
        """The image of a picture (C, H, W), whose sides are multiples of what the network wants."""
        height, width = picture.shape[1:]
        whole = None
        for top, left in self._places(height, width):
            made = run(picture[None, :, top : top + self.tile, left : left + self.tile])[0]
            if whole is None:
                whole = made.new_empty(made.shape[0], int(height * self.scale[0]), int(width * self.scale[1]))
            # A later tile writes over the edge of those before it, and leaves its own out.
            y, x = top and top + self.overlap, left and left + self.overlap
            (to_y, from_y), (to_x, from_x) = (
                (int(at * by), int((at - start) * by))
                for at, start, by in zip((y, x), (top, left), self.scale, strict=True)
            )
            piece = made[:, from_y:, from_x:]
            whole[:, to_y : to_y + piece.shape[1], to_x : to_x + piece.shape[2]] = piece
            told()
        assert whole is not None
        return whole

    def _starts(self, side: int) -> list[int]:
        last = max(0, side - self.tile)
        return [*range(0, last, self.step), last]

    def _places(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        return ((top, left) for top in self._starts(height) for left in self._starts(width))


def tiling_of(
    network: nn.Module, run: Run, picture: Tensor, spec: InputSpec, tile: int, multiple: int
) -> Tiling:
    """The tiling of a network by tiles of at most so many pixels.

    Args:
        network: to name what stands in the way.
        run: it at work.
        picture: (C, H, W), one that is to be run: what is tried is tried on parts of it.
        multiple: of which the sides of what it takes must be.

    Raises:
        ValueError: if the network looks at the whole picture, or further than such tiles are wide; or tiles do not agree
            with a whole for another reason.
    """
    tile -= tile % multiple
    piece = _part(picture, tile, tile)
    made = run(piece[None])
    scale = (Fraction(made.shape[2], tile), Fraction(made.shape[3], tile))
    reach = _reach(run, picture, spec, multiple, scale)
    if reach is None:
        raise ValueError(
            f"this student cannot be run in tiles: every pixel changes its whole image{_why(network)}; leave --tile "
            "out, or make the picture smaller by --size"
        )
    overlap = ceil(reach / multiple) * multiple
    step = tile - 2 * overlap
    if step <= 0:
        raise ValueError(
            f"--tile {tile} is too small: this student looks {reach} pixels far, so tiles share {overlap} at each "
            f"edge; take {2 * overlap + multiple} or more, such as {8 * overlap}"
        )
    found = Tiling(tile, overlap, step, scale)
    off = 0.0
    for height, width in ((tile, tile + step), (tile + step, tile)):
        part = _part(picture, height, width)
        off = max(off, float((run(part[None])[0] - found.run(run, part)).abs().max()) / LEVEL)
    if off > ALLOWED:
        raise ValueError(
            f"this student cannot be run in tiles: they differ by {off:.2g} of 255 levels from the whole, since what "
            f"it makes depends on where in the picture it stands{_why(network)}; leave --tile out"
        )
    return Tiling(tile, overlap, step, scale, off)


def _reach(
    run: Run, picture: Tensor, spec: InputSpec, multiple: int, scale: tuple[Fraction, Fraction]
) -> int | None:
    """How many pixels away a pixel is felt; None: everywhere."""
    generator = torch.Generator().manual_seed(0)
    high = ceil(HEIGHT / multiple) * multiple
    for width in WIDTHS:
        half = ceil(width / 2 / multiple) * multiple
        found = []
        for axis, size in ((1, (2 * half, high)), (2, (high, 2 * half))):
            strip, other = _part(picture, *size), _noise(size, spec, generator)
            plain = run(strip[None])[0]
            by = scale[axis - 1]
            for changed in (slice(half, None), slice(0, half)):
                mixed = strip.clone()
                mixed.movedim(axis, 0)[changed] = other.movedim(axis, 0)[changed]
                felt = (run(mixed[None])[0] - plain).abs().movedim(axis, 0).flatten(1).amax(1) > FELT
                places = felt.nonzero().flatten().tolist() or [int(half * by)]
                far = half - places[0] / by if changed.start else (places[-1] + 1) / by - half
                found.append(ceil(far))
        if max(found) < half:
            return max(0, *found)
    return None


def _part(picture: Tensor, height: int, width: int) -> Tensor:
    """The middle of a picture (C, H, W), which is repeated where it is smaller."""
    times = [ceil(want / have) for want, have in zip((height, width), picture.shape[1:], strict=True)]
    picture = picture.repeat(1, *times)
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[:, top : top + height, left : left + width]


def _noise(size: tuple[int, int], spec: InputSpec, generator: torch.Generator) -> Tensor:
    """Random pixels (C, H, W) of what a network takes."""
    if spec.kind == "image":
        return torch.rand(spec.channels, *size, generator=generator) * 2 - 1
    planes = one_hot(torch.randint(spec.classes, size, generator=generator), spec.classes)
    edges = torch.rand(spec.channels - spec.classes, *size, generator=generator).round()
    return torch.cat([planes, edges])


def _why(network: nn.Module) -> str:
    """The layers of a network that look at the whole picture, as far as their names tell."""
    found = [
        f"{path} ({type(layer).__name__})"
        for path, layer in network.named_modules()
        if any(name in type(layer).__name__ for name in GLOBAL)
        and not getattr(layer, "track_running_stats", False)
    ]
    if not found:
        return ""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f", by {', '.join(found[:NAMED])}{more}"
