"""A student that takes pictures of any size, as far as it can: filled up to the multiple that it wants and cropped again."""

import logging
from collections.abc import Callable
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganshrink.data import InputSpec, prepare
from ganshrink.exporters.sizes import Sizes
from ganshrink.system.generator import generate
from ganshrink.system.spelling import one_line
from ganshrink.workflow.tiling import Tiling, tiling_of

logger = logging.getLogger(__name__)

MULTIPLES = [2**power for power in range(10)]  # of which a network may want its sides to be
Size = tuple[int, int]


class Runner:
    """A student at work.

    Args:
        network: (1, C, H, W) to an image, both in [-1, 1].
        spec: what pictures it takes.
        sizes: what is known of the sizes that it takes; others are tried beyond that.
        tile: side of the tiles in which larger pictures are run; None: no tiles.
        told: called with how many tiles are done, and of how many.

    Attributes:
        channels: of what it makes.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        sizes: Sizes = Sizes(1, 1),  # noqa: B008  frozen
        *,
        tile: int | None = None,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.network, self.spec, self.tile, self.told = network, spec, tile, told
        made = self._run(torch.zeros(1, spec.channels, *spec.size)).shape
        self.channels = made[1]
        self.scale = (Fraction(made[2], spec.size[0]), Fraction(made[3], spec.size[1]))
        self.multiple, self.least = sizes.multiple, sizes.least  # that were right for the last picture
        self.tiling: Tiling | None = None
        self._said: set[str] = set()

    def __call__(self, source: Path | np.ndarray, size: Size | None = None) -> Tensor:
        """The image (C, H, W) that it makes of a picture, resized to (H, W) before where that is given; `source` as for
        `ganshrink.data.prepare`.

        Raises:
            ValueError: if the picture cannot be used, or the student takes no such size.
        """
        picture = prepare(source, self.spec, size=size or "own")
        own = (picture.shape[1], picture.shape[2])
        if self.tile is not None and max(own) > self.tile:
            return self._in_tiles(picture)
        image, reason = self._whole(picture)
        if image is not None:
            return image
        trained = f"{self.spec.size[1]}x{self.spec.size[0]}"
        if size is not None and size != self.spec.size:
            raise ValueError(
                f"the student does not run at {own[1]}x{own[0]} ({reason}): leave --size out, or take --size trained"
            )
        self._say(
            logging.WARNING,
            f"pictures of {own[1]}x{own[0]} are resized to {trained}, at which the student was trained: it does not run "
            "at their size",
        )
        return self._run(prepare(source, self.spec)[None])[0]

    def _whole(self, picture: Tensor) -> tuple[Tensor | None, str]:
        """The image of a picture by the least multiple that works; else why none does."""
        reason = ""
        for multiple in self._multiples():
            filled = self._filled(picture, multiple)
            try:
                image = self._run(filled[None])[0]
            except Exception as error:  # whatever a network of the user's own raises for a size
                reason = one_line(error)
                if isinstance(error, MemoryError) or "allocate" in reason:
                    height, width = picture.shape[1:]
                    raise ValueError(
                        f"there is not enough memory for {width}x{height} pixels at once: run them in tiles, --tile 1024"
                    ) from error
                continue
            if self._fits(image, filled):
                self.multiple = multiple
                return self._cropped(image, picture), ""
            reason = reason or f"it makes {image.shape[2]}x{image.shape[1]} of it"
        return None, reason

    def _in_tiles(self, picture: Tensor) -> Tensor:
        """The image of a picture that is larger than a tile."""
        assert self.tile is not None
        if self.tiling is None:
            self.multiple = self._tile_multiple(picture)
            self.tiling = tiling_of(self.network, self._run, picture, self.spec, self.tile, self.multiple)
            self._say(
                logging.INFO,
                f"tiles of {self.tiling.tile} pixels that share {self.tiling.overlap} at each edge; on a trial at most "
                f"{self.tiling.off:.2g} of 255 levels from the whole",
            )
        filled = self._filled(picture, self.multiple)
        total, done = self.tiling.count(filled.shape[1], filled.shape[2]), 0

        def told() -> None:
            nonlocal done
            done += 1
            self.told(done, total)

        return self._cropped(self.tiling.run(self._run, filled, told), picture)

    def _tile_multiple(self, picture: Tensor) -> int:
        """The least multiple of which the sides of tiles can be, tried at an odd multiple of it."""
        assert self.tile is not None
        for multiple in self._multiples():
            count = self.tile // multiple
            side = multiple * (count - 1 + count % 2)
            if side < max(self.least, 1):
                break
            part = torch.zeros(1, picture.shape[0], side, side)
            part[..., : picture.shape[1], : picture.shape[2]] = picture[:, :side, :side]
            try:
                image = self._run(part)[0]
            except Exception:  # as above
                continue
            if self._fits(image, part[0]):
                return multiple
        raise ValueError(
            f"the student does not run on tiles of {self.tile} pixels: it takes larger ones, or those of "
            f"{self.spec.size[1]}x{self.spec.size[0]} alone; leave --tile out (an exported file has a free size by "
            "ganshrink export RUN --dynamic-size)"
        )

    def _multiples(self) -> list[int]:
        """To be tried, in order: a file's own multiple and its multiples, or powers of two from the last one on."""
        return [self.multiple, *(by for by in MULTIPLES if by > self.multiple and by % self.multiple == 0)]

    def _filled(self, picture: Tensor, multiple: int) -> Tensor:
        """A picture (C, H, W) whose sides are brought to a multiple, at the right and below."""
        height, width = picture.shape[1:]
        down, right = (ceil(max(side, self.least) / multiple) * multiple - side for side in (height, width))
        if not down and not right:
            return picture
        return pad(picture[None], (0, right, 0, down), mode="replicate")[0]

    def _fits(self, image: Tensor, filled: Tensor) -> bool:
        sides = [side * by for side, by in zip(filled.shape[1:], self.scale, strict=True)]
        return list(image.shape[1:]) == sides

    def _cropped(self, image: Tensor, picture: Tensor) -> Tensor:
        height, width = (ceil(side * by) for side, by in zip(picture.shape[1:], self.scale, strict=True))
        if (height, width) != tuple(image.shape[1:]):
            step = f"multiples of {self.multiple} pixels"
            self._say(
                logging.INFO, f"pictures are filled up at the right and below to {step}, and cropped again"
            )
        return image[:, :height, :width]

    def _run(self, batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return generate(self.network, batch)

    def _say(self, level: int, line: str) -> None:
        """A line, once."""
        if line not in self._said:
            self._said.add(line)
            logger.log(level, line)
