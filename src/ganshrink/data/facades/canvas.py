"""A label map and a photo painted together, at twice the asked size so that the photo comes out smooth."""

import numpy as np
from PIL import Image, ImageDraw

from ganshrink.data.facades.layout import Box
from ganshrink.data.facades.palette import INDEX, LABEL_COLOURS, Colour, Light

SCALE = 2
Paint = Colour | np.ndarray
Span = tuple[slice, slice]


class Canvas:
    """Pixels being painted. Colours are light intensities, 0 to 1, before the tint of the hour."""

    def __init__(self, height: int, width: int, *, light: Light, rng: np.random.Generator) -> None:
        self.height, self.width = height * SCALE, width * SCALE
        self.light, self.rng = light, rng
        self.labels = np.zeros((self.height, self.width), dtype=np.uint8)
        self.photo = np.zeros((self.height, self.width, 3), dtype=np.float32)
        # One sheet of noise for every texture: random numbers are the dearest part of a picture.
        self.noise = rng.standard_normal((64, 64)).astype(np.float32)

    def span(self, box: Box) -> Span:
        """The pixels of a box, at least one each way unless it is outside the picture."""
        left, top, right, bottom = box
        y0, x0, y1, x1 = (round(value * self.height) for value in (top, left, bottom, right))
        y1, x1 = min(max(y1, y0 + 1), self.height), min(max(x1, x0 + 1), self.width)
        y0, x0 = max(y0, 0), max(x0, 0)
        return slice(y0, max(y1, y0)), slice(x0, max(x1, x0))

    def grid(self, span: Span) -> tuple[np.ndarray, np.ndarray]:
        """Pixel rows (h, 1) and columns (1, w) of a span, in units of the picture's height."""
        rows, columns = span
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] / self.height
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None] / self.height
        return y, x

    def inside(self, box: Box, shape: str) -> tuple[Span, np.ndarray | None]:
        """The pixels of a box and the mask of an outline in it; no mask for a full rectangle."""
        span = self.span(box)
        if shape == "rect":
            return span, None
        rows, columns = span
        mask = Image.new("1", (max(columns.stop - columns.start, 0), max(rows.stop - rows.start, 0)))
        left, top, right, bottom = (value * self.height for value in box)
        x0, x1, y0, y1 = left - columns.start, right - columns.start, top - rows.start, bottom - rows.start
        draw = ImageDraw.Draw(mask)
        if shape == "arch":
            radius = (x1 - x0) / 2
            draw.ellipse((x0, y0, x1, y0 + 2 * radius), fill=1)
            draw.rectangle((x0, min(y0 + radius, y1), x1, y1), fill=1)
        elif shape == "blob" or shape == "ball":
            draw.ellipse((x0, y0, x1, y1), fill=1)
        elif shape == "gable":
            draw.polygon(
                [
                    (x0, y1),
                    (x0, y0 + 0.4 * (y1 - y0)),
                    ((x0 + x1) / 2, y0),
                    (x1, y0 + 0.4 * (y1 - y0)),
                    (x1, y1),
                ],
                fill=1,
            )
        else:
            inset = {"mansard": 0.045, "hip": 0.30}[shape] * (x1 - x0)
            draw.polygon([(x0, y1), (x0 + inset, y0), (x1 - inset, y0), (x1, y1)], fill=1)
        return span, np.asarray(mask)

    def paint(self, box: Box, paint: Paint, *, kind: str | None = None, shape: str = "rect") -> Span:
        """Lay paint (a colour or an array that fits the box), and its label where `kind` is given."""
        span, mask = self.inside(box, shape)
        view = self.photo[span]
        colour = np.broadcast_to(np.asarray(paint, dtype=np.float32), view.shape)
        if mask is None:
            view[:] = colour
        else:
            np.copyto(view, colour, where=mask[..., None])
        if kind is not None:
            self.stamp(span, mask, kind)
        return span

    def stamp(self, span: Span, mask: np.ndarray | None, kind: str) -> None:
        """Write the label of `kind`."""
        if mask is None:
            self.labels[span] = INDEX[kind]
        else:
            self.labels[span][mask] = INDEX[kind]

    def shade(self, box: Box, factor: float | np.ndarray, *, shape: str = "rect") -> None:
        """Multiply the light in a box."""
        span, mask = self.inside(box, shape)
        view = self.photo[span]
        factor = np.asarray(factor, dtype=np.float32)
        factor = factor[..., None] if factor.ndim else factor
        if mask is None:
            view *= factor
        else:
            np.multiply(view, factor, out=view, where=mask[..., None])

    def cast_shadow(self, box: Box, *, length: float, strength: float) -> None:
        """The soft shadow that a part standing out of the wall throws below itself, away from the light."""
        left, _, right, bottom = box
        shift = 0.6 * length * self.light.side
        strength *= 1.0 if self.light.side else 0.65
        span = self.span((left + max(shift, 0) * 0.6, bottom, right + shift, bottom + length))
        rows = span[0].stop - span[0].start
        ramp = 1 - strength * np.linspace(1, 0, max(rows, 0), dtype=np.float32)[:, None, None] ** 1.3
        self.photo[span] *= ramp

    def outline(self, box: Box, *, top: float, bottom: float, thick: float = 0.0) -> None:
        """Relief of a stone part: its upper edge catches the light, its lower edge does not."""
        left, y0, right, y1 = box
        line = max(thick, 1.0 / self.height)
        self.shade((left, y0, right, y0 + line), top)
        self.shade((left, y1 - line, right, y1), bottom)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Label map and photo, both uint8 (H, W, 3) at the asked size."""
        photo = self.photo
        height, width = self.height // SCALE, self.width // SCALE
        rows = photo[::SCALE] + photo[1::SCALE]
        small = (rows[:, ::SCALE] + rows[:, 1::SCALE]) * np.float32(1 / SCALE**2)
        small *= np.array(self.light.tint, dtype=np.float32)
        grain = self.rng.standard_normal((height, width), dtype=np.float32)[..., None]
        small += grain * np.float32(0.009)
        pixels = np.clip(small * 255 + 0.5, 0, 255).astype(np.uint8)
        return LABEL_COLOURS[self.labels[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]], pixels
