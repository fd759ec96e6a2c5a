"""The openings of a wall, and what hangs in and before them: windows, doors, shops, shutters, awnings."""

import numpy as np

from ganshrink.data.facades.canvas import Canvas
from ganshrink.data.facades.layout import Box, Part
from ganshrink.data.facades.palette import AWNINGS, DOORS, SHUTTERS, Colour
from ganshrink.data.facades.surfaces import mix, place


def _glass(canvas: Canvas, box: Box, *, shape: str = "rect", deep: Colour = (0.13, 0.16, 0.19)) -> None:
    """Panes: the sky mirrored at the top, a slanting gleam, the dark room below."""
    _, v, u = place(canvas, box)
    gleam = np.clip(1 - 5 * np.abs(u * 0.7 + v - 0.62), 0, 1) * 0.22
    share = np.clip(0.62 - 0.75 * v, 0, 1) + gleam
    canvas.paint(box, mix(deep, canvas.light.sky[1], share * 0.8), shape=shape)


def _shade_head(canvas: Canvas, part: Part, *, depth: float) -> None:
    """An opening stands back in the wall: shade under its head, following the curve of an arch."""
    left, top, right, _ = part.box
    y, x = canvas.grid(canvas.span(part.box))
    head: np.ndarray | float = top
    if part.shape == "arch":
        radius = (right - left) / 2
        head = top + radius - np.sqrt(np.clip(radius**2 - (x - left - radius) ** 2, 0, None))
    canvas.shade(part.box, 0.58 + 0.42 * np.clip((y - head) / depth, 0, 1), shape=part.shape)


def paint_window(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    left, top, right, bottom = part.box
    width, height = right - left, bottom - top
    frame = np.minimum(trim * 1.06, 1.0)
    canvas.paint(part.box, frame, kind="window", shape=part.shape)
    rim = min(0.007, 0.16 * width)
    _glass(canvas, (left + rim, top + rim, right - rim, bottom - rim), shape=part.shape)
    bars = max(2, round(width / 0.034)) if width > 0.03 else 1
    for i in range(1, bars):
        x = left + width * i / bars
        span = canvas.span((x - 0.0024, top + rim, x + 0.0024, bottom))
        canvas.photo[span] = frame * 0.96
    cross = top + (min(width / 2, height * 0.5) if part.shape == "arch" else 0.32 * height)
    if height > 0.05:
        canvas.photo[canvas.span((left + rim, cross - 0.0024, right - rim, cross + 0.0024))] = frame * 0.96
    # The window stands back in the wall: shade under its head and on the side of the light.
    _shade_head(canvas, part, depth=0.012)
    if canvas.light.side:
        edge = (
            (left, top, left + 0.006, bottom)
            if canvas.light.side > 0
            else (right - 0.006, top, right, bottom)
        )
        if part.shape == "rect":
            canvas.shade(edge, 0.72)


def paint_blind(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    _, v, _ = place(canvas, part.box)
    y, _ = canvas.grid(canvas.span(part.box))
    tone = (0.80 + 0.07 * np.sin(y * 2 * np.pi / 0.0105)) * np.clip(0.72 + 3 * v, 0, 1)
    paint = np.array([1.0, 0.97, 0.90], dtype=np.float32) * tone[..., None]
    canvas.paint(part.box, paint, kind="blind")
    canvas.cast_shadow(part.box, length=0.008, strength=0.3)


def paint_curtain(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    _, v, _ = place(canvas, part.box)
    _, x = canvas.grid(canvas.span(part.box))
    tone = (0.74 + 0.11 * np.sin(x * 2 * np.pi / 0.011)) * np.clip(0.66 + 1.6 * v, 0, 1)
    canvas.paint(part.box, np.array([0.98, 0.94, 0.88], dtype=np.float32) * tone[..., None], kind="curtain")


def paint_shutter(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    colour = np.asarray(SHUTTERS[part.style][0], dtype=np.float32)
    left, top, right, bottom = part.box
    span = canvas.paint(part.box, colour, kind=f"shutter {part.style}")
    y, _ = canvas.grid(span)
    inner = canvas.span((left + 0.006, top + 0.008, right - 0.006, bottom - 0.008))
    y, _ = canvas.grid(inner)
    canvas.photo[inner] *= (0.84 + 0.16 * np.sin(y * 2 * np.pi / 0.011))[..., None]
    canvas.outline(part.box, top=1.12, bottom=0.70, thick=0.003)


def paint_door(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    colour = np.asarray(DOORS[part.style][0], dtype=np.float32)
    left, top, right, bottom = part.box
    width, height = right - left, bottom - top
    _, v, _ = place(canvas, part.box)
    canvas.paint(part.box, colour * (1.05 - 0.15 * v)[..., None], kind=f"door {part.style}", shape=part.shape)
    fan = top + (width / 2 if part.shape == "arch" else 0.18 * height)
    _glass(
        canvas,
        (left + 0.008, top + 0.008, right - 0.008, fan),
        shape="arch" if part.shape == "arch" else "rect",
    )
    canvas.photo[canvas.span((left, fan - 0.003, right, fan + 0.004))] = colour * 1.2
    for side in (0, 1):
        x0 = left + 0.010 + side * (width / 2)
        x1 = x0 + width / 2 - 0.018
        for low, high in ((0.06, 0.46), (0.56, 0.94)):
            y0, y1 = fan + low * (bottom - fan), fan + high * (bottom - fan)
            canvas.shade((x0, y0, x1, y1), 0.72)
            canvas.shade((x0, y1 - 0.004, x1, y1), 1.7)
    middle = (left + right) / 2
    canvas.shade((middle - 0.0015, fan, middle + 0.0015, bottom), 0.5)
    canvas.photo[
        canvas.span(
            (middle + 0.007, fan + 0.52 * (bottom - fan), middle + 0.013, fan + 0.52 * (bottom - fan) + 0.007)
        )
    ] = (0.85, 0.70, 0.35)
    _shade_head(canvas, part, depth=0.014)


def paint_shop(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    left, top, right, bottom = part.box
    tall, wide = bottom - top, right - left
    wood = np.array([0.20, 0.19, 0.18], dtype=np.float32)
    canvas.paint(part.box, wood, kind="shop")
    sign = (left + 0.008, top + 0.012, right - 0.008, top + 0.15 * tall)
    canvas.photo[canvas.span(sign)] = trim * 0.9
    panes = max(2, round(wide / 0.07))
    for i in range(panes):
        x0, x1 = left + wide * i / panes + 0.005, left + wide * (i + 1) / panes - 0.005
        _glass(canvas, (x0, top + 0.20 * tall, x1, bottom - 0.14 * tall), deep=(0.36, 0.29, 0.20))
    canvas.outline(part.box, top=1.8, bottom=0.6, thick=0.004)


def paint_awning(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    colour = np.asarray(AWNINGS[part.style][0], dtype=np.float32)
    span, v, u = place(canvas, part.box)
    _, x = canvas.grid(span)
    stripe = ((x - part.box[0]) / 0.038) % 1 < 0.5
    paint = np.where(np.broadcast_to(stripe, canvas.labels[span].shape)[..., None], colour, 0.94)
    paint = paint * (1.08 - 0.26 * v + 0.0 * u)[..., None]
    canvas.cast_shadow(part.box, length=0.045, strength=0.55)
    canvas.paint(part.box, paint, kind=f"awning {part.style}")
    left, _, right, bottom = part.box
    canvas.shade((left, bottom - 0.012, right, bottom), 0.82)
