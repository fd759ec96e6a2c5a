"""From a building to its two pictures: every part painted in turn; here also the stone and iron on the wall."""

from collections.abc import Callable

import numpy as np

from ganshrink.data.facades import openings, surfaces
from ganshrink.data.facades.canvas import Canvas
from ganshrink.data.facades.layout import Building, Part
from ganshrink.data.facades.palette import LIGHTS, WALLS
from ganshrink.data.facades.surfaces import place


def draw(
    building: Building, height: int, width: int, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Label map and photo of a building, uint8 (height, width, 3) each; `rng` gives only the texture."""
    canvas = Canvas(height, width, light=LIGHTS[building.light], rng=rng)
    trim = np.array(WALLS[building.wall].trim, dtype=np.float32)
    for part in building.parts:
        rows, columns = canvas.span(part.box)
        if rows.stop > rows.start and columns.stop > columns.start:
            _PAINTERS[part.kind](canvas, part, trim)
    return canvas.finish()


def _molding(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    _, v, u = place(canvas, part.box)
    tone = 1.02 - 0.08 * v + 0.05 * canvas.light.side * (0.5 - u)
    canvas.cast_shadow(part.box, length=0.010, strength=0.28)
    canvas.paint(part.box, trim * tone[..., None], kind="molding", shape=part.shape)
    if part.shape == "gable":
        left, top, right, bottom = part.box
        inner = (left + 0.010, top + 0.010, right - 0.010, bottom - 0.006)
        if inner[3] > inner[1]:
            canvas.shade(inner, 0.86, shape="gable")
    elif part.shape == "rect":
        canvas.outline(part.box, top=1.06, bottom=0.82, thick=0.004)


def _cornice(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    left, top, right, bottom = part.box
    tall = bottom - top
    span, v, _ = place(canvas, part.box)
    tone = np.where(v < 0.3, 1.06, np.where(v < 0.62, 0.93, 0.80))
    paint = np.broadcast_to(trim * tone[..., None], canvas.photo[span].shape)
    canvas.paint(part.box, paint, kind="cornice")
    if tall > 0.025:  # dentils under the main cornice
        row = canvas.span((left, top + 0.55 * tall, right, bottom - 0.12 * tall))
        _, x = canvas.grid(row)
        canvas.photo[row] *= np.where((x / 0.016) % 1 < 0.55, 1.16, 0.72)[..., None]
    canvas.cast_shadow(part.box, length=0.030 if tall > 0.025 else 0.014, strength=0.45)


def _sill(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    canvas.paint(part.box, trim * 0.98, kind="sill")
    canvas.outline(part.box, top=1.10, bottom=0.72, thick=0.004)
    canvas.cast_shadow(part.box, length=0.016, strength=0.42)


def _pillar(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    left, top, right, bottom = part.box
    span, _, u = place(canvas, part.box)
    tone = 0.72 + 0.34 * np.sin(np.pi * np.clip(u + 0.12 * canvas.light.side, 0.02, 0.98))
    paint = np.broadcast_to(trim * tone[..., None], canvas.photo[span].shape)
    canvas.paint(part.box, paint, kind="pillar")
    for y in (top, bottom - 0.016):
        block = (left - 0.004, y, right + 0.004, y + 0.016)
        canvas.paint(block, trim, kind="pillar")
        canvas.outline(block, top=1.05, bottom=0.76, thick=0.004)


def _quoin(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    canvas.paint(part.box, trim * 0.96, kind="quoin")
    canvas.outline(part.box, top=1.06, bottom=0.74, thick=0.004)


def _balcony(canvas: Canvas, part: Part, trim: np.ndarray) -> None:
    left, top, right, bottom = part.box
    span = canvas.span(part.box)
    canvas.stamp(span, None, part.kind)
    slab = (left, bottom - 0.014, right, bottom)
    y, x = canvas.grid(span)
    if part.kind == "iron balcony":
        canvas.shade(part.box, 0.82)
        bars = ((x - left) / 0.0125) % 1 < 0.34
        rings = np.abs(y - (top + 0.35 * (bottom - top))) < 0.0028
        iron = bars | rings | (y - top < 0.006)
        canvas.photo[span][np.broadcast_to(iron, canvas.labels[span].shape)] = (0.10, 0.11, 0.12)
    else:
        u = ((x - left) / 0.020) % 1
        tone = np.where(u < 0.62, 0.78 + 0.26 * np.sin(np.pi * np.clip(u / 0.62, 0, 1)), 0.36)
        tone = np.where(y - top < 0.011, 1.04, tone)
        canvas.photo[span] = trim * tone[..., None]
    canvas.photo[canvas.span(slab)] = trim * 0.97
    canvas.outline(slab, top=1.06, bottom=0.70, thick=0.005)
    canvas.cast_shadow(part.box, length=0.034, strength=0.50)


_PAINTERS: dict[str, Callable[[Canvas, Part, np.ndarray], None]] = {
    "sky": surfaces.paint_sky,
    "cloud": surfaces.paint_cloud,
    "wall": surfaces.paint_wall,
    "neighbour": surfaces.paint_neighbour,
    "roof": surfaces.paint_roof,
    "chimney": surfaces.paint_chimney,
    "window": openings.paint_window,
    "blind": openings.paint_blind,
    "curtain": openings.paint_curtain,
    "molding": _molding,
    "cornice": _cornice,
    "sill": _sill,
    "pillar": _pillar,
    "quoin": _quoin,
    "plinth": surfaces.paint_plinth,
    "iron balcony": _balcony,
    "stone balcony": _balcony,
    "shutter": openings.paint_shutter,
    "door": openings.paint_door,
    "shop": openings.paint_shop,
    "awning": openings.paint_awning,
    "plant": surfaces.paint_plant,
    "steps": surfaces.paint_steps,
    "pavement": surfaces.paint_pavement,
    "road": surfaces.paint_road,
}
