"""The surfaces of a street front: sky, walls, roofs, ground, leaves."""

import numpy as np

from ganshrink.data.facades.canvas import Canvas, Span
from ganshrink.data.facades.layout import Box, Part
from ganshrink.data.facades.palette import LIGHTS, ROOFS, WALLS, Colour

_BLOSSOM = np.array([0.80, 0.25, 0.30], dtype=np.float32)


def mix(first: Colour | np.ndarray, second: Colour | np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Colours (h, w, 3) between two, `share` (h, w) of the second."""
    weight = np.asarray(share, dtype=np.float32)[..., None]
    start = np.asarray(first, dtype=np.float32)
    return start + (np.asarray(second, dtype=np.float32) - start) * weight


def place(canvas: Canvas, box: Box) -> tuple[Span, np.ndarray, np.ndarray]:
    """Span of a box and its pixels' place in it: v (h, 1) from top 0 to bottom 1, u (1, w) left to right."""
    span = canvas.span(box)
    y, x = canvas.grid(span)
    left, top, right, bottom = box
    return span, (y - top) / max(bottom - top, 1e-6), (x - left) / max(right - left, 1e-6)


def masonry(
    canvas: Canvas, span: Span, *, course: float, stone: float, joint: float, vary: float
) -> np.ndarray:
    """Brightness (h, w) of courses of stones in running bond: each stone its own tone, and the joints."""
    y, x = canvas.grid(span)
    row = np.floor(y / course)
    along = x / stone + 0.5 * (row % 2)
    column = np.floor(along)
    tone = 1 + vary * canvas.noise[row.astype(np.int64) % 64, column.astype(np.int64) % 64]
    edge = 1.1 / canvas.height
    in_joint = ((y / course - row) * course < edge) | ((along - column) * stone < edge)
    return np.where(in_joint, 1 - joint, tone)


def _plaster(canvas: Canvas, span: Span) -> np.ndarray:
    """Brightness (h, w) of a plastered wall: faint clouds of wear."""
    y, x = canvas.grid(span)
    wave = np.sin(17 * y + 3 * np.sin(11 * x)) * np.sin(13 * x + 2 * np.sin(9 * y))
    fine = canvas.noise[(y * 90).astype(np.int64) % 64, (x * 90).astype(np.int64) % 64]
    return 1 + 0.018 * wave + 0.012 * fine


def _wall_paint(canvas: Canvas, box: Box, style: str) -> np.ndarray:
    wall, span = WALLS[style], canvas.span(box)
    if wall.pattern == "brick":
        tone = masonry(canvas, span, course=0.0125, stone=0.034, joint=-0.16, vary=0.07)
    elif wall.pattern == "ashlar":
        tone = masonry(canvas, span, course=0.042, stone=0.095, joint=0.13, vary=0.025)
    else:
        tone = _plaster(canvas, span)
    _, v, u = place(canvas, box)
    tone = tone * (1.03 - 0.10 * v**3 + 0.05 * canvas.light.side * (0.5 - u))
    return np.asarray(wall.colour, dtype=np.float32) * tone[..., None].astype(np.float32)


def paint_sky(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    span, v, _ = place(canvas, part.box)
    top, horizon = LIGHTS[part.style].sky
    share = np.broadcast_to(np.clip(v * 2.2, 0, 1), canvas.labels[span].shape)
    canvas.paint(part.box, mix(top, horizon, share), kind=f"sky {part.style}")


def paint_cloud(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    span, v, u = place(canvas, part.box)
    # v goes on below the middle faster: clouds are flat underneath
    radius = (2 * u - 1) ** 2 + ((2 * v - 1) * np.where(v > 0.5, 1.5, 1.0)) ** 2
    density = np.clip(1.25 * (1 - radius), 0, 1)
    view = canvas.photo[span]
    view += (np.array(LIGHTS[part.style].cloud, dtype=np.float32) - view) * (0.85 * density)[..., None]
    canvas.stamp(span, density > 0.4, f"cloud {part.style}")


def paint_wall(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    canvas.paint(part.box, _wall_paint(canvas, part.box, part.style), kind=f"wall {part.style}")


def paint_neighbour(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    box = part.box
    canvas.paint(box, 0.86 * _wall_paint(canvas, box, part.style), kind=f"neighbour {part.style}")
    cap = (box[0], box[1], box[2], box[1] + 0.014)
    canvas.paint(cap, 0.82 * np.asarray(WALLS[part.style].trim), kind="cornice")
    canvas.cast_shadow(cap, length=0.02, strength=0.35)


def paint_roof(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    colour = np.asarray(ROOFS[part.style][0], dtype=np.float32)
    span, v, u = place(canvas, part.box)
    size = {"slate": (0.013, 0.022), "tile": (0.015, 0.015), "copper": (0.5, 0.03)}[part.style]
    tone = masonry(canvas, span, course=size[0], stone=size[1], joint=0.16, vary=0.05)
    tone = tone * (1.12 - 0.22 * v + 0.10 * canvas.light.side * (0.5 - u))
    canvas.paint(part.box, colour * tone[..., None], kind=f"roof {part.style}", shape=part.shape)


def paint_chimney(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    box = part.box
    canvas.paint(box, 0.9 * _wall_paint(canvas, box, "red brick"), kind="chimney")
    canvas.paint((box[0] - 0.004, box[1], box[2] + 0.004, box[1] + 0.011), trim * 0.8, kind="chimney")
    canvas.cast_shadow((box[0], box[1], box[2], box[1] + 0.011), length=0.012, strength=0.4)


def paint_plinth(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    span, v, _ = place(canvas, part.box)
    tone = masonry(canvas, span, course=0.03, stone=0.08, joint=0.2, vary=0.03) * (0.84 - 0.16 * v)
    canvas.paint(part.box, trim * tone[..., None], kind="plinth")
    canvas.shade((part.box[0], part.box[1], part.box[2], part.box[1] + 0.006), 1.14)


def paint_plant(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    box = part.box
    if part.shape == "ball":  # a clipped tree in a tub
        tub = (box[0] + 0.012, box[3] - 0.026, box[2] - 0.012, box[3])
        canvas.paint(tub, (0.55, 0.34, 0.24), kind="plinth")
        box = (box[0], box[1], box[2], box[3] - 0.022)
    span, v, u = place(canvas, box)
    y, x = canvas.grid(span)
    leaf = canvas.noise[(y / 0.006).astype(np.int64) % 64, (x / 0.006).astype(np.int64) % 64]
    tone = 1.15 - 0.55 * v + 0.2 * leaf + 0.3 * canvas.light.side * (0.5 - u)
    paint = np.array([0.22, 0.40, 0.15], dtype=np.float32) * np.clip(tone, 0.3, 1.9)[..., None]
    if part.shape == "rect":
        paint = np.where((leaf > 0.85)[..., None], _BLOSSOM, paint)
    canvas.paint(box, paint, kind="plant", shape=part.shape)


def paint_steps(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    span, v, _ = place(canvas, part.box)
    tone = np.where((v * 2) % 1 < 0.4, 1.0, 0.72)
    canvas.paint(
        part.box, np.broadcast_to(trim * tone[..., None], canvas.photo[span].shape) * 0.92, kind="steps"
    )


def paint_pavement(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    span = canvas.span(part.box)
    tone = masonry(canvas, span, course=0.022, stone=0.07, joint=0.14, vary=0.03)
    canvas.paint(part.box, np.array([0.66, 0.64, 0.61], dtype=np.float32) * tone[..., None], kind="pavement")


def paint_road(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    span = canvas.span(part.box)
    y, x = canvas.grid(span)
    speck = canvas.noise[(y * 300).astype(np.int64) % 64, (x * 300).astype(np.int64) % 64]
    canvas.paint(
        part.box, np.array([0.33, 0.33, 0.35], dtype=np.float32) * (1 + 0.05 * speck)[..., None], kind="road"
    )
    left, top, right, _ = part.box
    canvas.photo[canvas.span((left, top, right, top + 0.009))] = (0.74, 0.72, 0.69)
