"""Where the parts of a synthetic building stand: storeys, bays, and what fills them. Knows no pixels.

Heights run from 0 (top) to 1 (bottom of the picture), widths from 0 to its aspect, so that a building is the
same at every resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ganshrink.data.facades.palette import AWNINGS, DOORS, LIGHTS, ROOFS, SHUTTERS, WALLS

Box = tuple[float, float, float, float]  # left, top, right, bottom
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """One thing to draw: `kind` of the palette, where, its variety (also in the palette), and its outline."""

    kind: str
    box: Box
    style: str = ""
    shape: str = "rect"


@dataclass(frozen=True)
class Building:
    """A street front: light and wall by name, and the parts in the order in which they cover each other."""

    light: str
    wall: str
    parts: tuple[Part, ...]

    def mirrored(self, aspect: float) -> "Building":
        """The same parts mirrored left to right under the same light."""
        turned = tuple(
            replace(p, box=(aspect - p.box[2], p.box[1], aspect - p.box[0], p.box[3])) for p in self.parts
        )
        return replace(self, parts=turned)


@dataclass
class _Sketch:
    """A building being designed: the choices made so far, and the parts they gave."""

    rng: np.random.Generator
    aspect: float
    parts: list[Part] = field(default_factory=list)
    left: float = 0.0
    right: float = 1.0
    top: float = 0.12
    ground: float = 0.94
    edges: list[float] = field(default_factory=list)  # x of the bay limits

    def add(self, kind: str, box: Box, style: str = "", shape: str = "rect") -> None:
        self.parts.append(Part(kind, box, style, shape))

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def design(rng: np.random.Generator, aspect: float) -> Building:
    """A random building for pictures of this aspect (width / height)."""
    sketch = _Sketch(rng, aspect)
    light, wall = sketch.pick(list(LIGHTS)), sketch.pick(list(WALLS))
    sketch.top, sketch.ground = sketch.between(0.10, 0.20), sketch.between(0.92, 0.955)
    sketch.add("sky", (0, 0, aspect, 1), light)
    _clouds(sketch, light)
    _sides(sketch, wall)
    _roof(sketch)
    storeys = int(rng.integers(2, 5))
    ground_floor = (sketch.ground - sketch.top) * sketch.between(1.05, 1.4) / (storeys + 1.2)
    sketch.add("wall", (sketch.left, sketch.top, sketch.right, sketch.ground), wall)
    _bays(sketch)
    lines = np.linspace(sketch.top + 0.025, sketch.ground - ground_floor, storeys + 1)
    _edges(sketch, float(lines[-1]))
    _upper_storeys(sketch, lines)
    _ground_floor(sketch, float(lines[-1]))
    _street(sketch)
    return Building(light, wall, tuple(sketch.parts))


def _clouds(sketch: _Sketch, light: str) -> None:
    for _ in range(int(sketch.rng.integers(0, 4))):
        x, y, width = sketch.between(0, sketch.aspect), sketch.between(0.01, 0.11), sketch.between(0.09, 0.18)
        for _ in range(3):
            middle, half = x + sketch.between(-0.6, 0.6) * width, width * sketch.between(0.5, 1.0)
            tall = 0.28 * half
            sketch.add("cloud", (middle - half, y - tall, middle + half, y + tall), light, "blob")


def _sides(sketch: _Sketch, wall: str) -> None:
    """Free sides, or neighbours of another material."""
    sketch.left, sketch.right = 0.0, sketch.aspect
    for side in (0, 1):
        if sketch.chance(0.35):
            continue
        width = sketch.between(0.05, 0.13)
        box_left = 0.0 if side == 0 else sketch.aspect - width
        if side == 0:
            sketch.left = width
        else:
            sketch.right = sketch.aspect - width
        if sketch.chance(0.3):
            continue
        style = sketch.pick([name for name in WALLS if name != wall])
        top = sketch.between(0.14, 0.42)
        sketch.add("neighbour", (box_left, top, box_left + width, sketch.ground), style)
        rows = int(sketch.rng.integers(2, 5))
        for y in np.linspace(top + 0.06, sketch.ground - 0.16, rows):
            middle = box_left + width / 2
            half = min(0.032, width * 0.28)
            sketch.add("window", (middle - half, float(y), middle + half, float(y) + 0.095))


def _roof(sketch: _Sketch) -> None:
    style, top = sketch.pick(list(ROOFS)), sketch.top
    left, right = sketch.left, sketch.right
    kind = sketch.pick(["flat", "mansard", "hip", "mansard"])
    if kind == "flat":
        for _ in range(int(sketch.rng.integers(0, 3))):
            x = sketch.between(left + 0.05, right - 0.1)
            sketch.add("chimney", (x, top - 0.06, x + 0.045, top))
        return
    height = top - sketch.between(0.02, 0.045)
    for x in (left + 0.12 * (right - left), right - 0.12 * (right - left) - 0.05):
        if sketch.chance(0.6):
            sketch.add("chimney", (x, top - height - 0.015, x + 0.05, top))
    sketch.add("roof", (left - 0.008, top - height, right + 0.008, top), style, kind)
    if kind == "mansard" and height > 0.075:
        count = int(sketch.rng.integers(1, 4))
        for i in range(count):
            middle = left + (right - left) * (i + 0.5) / count
            dormer = (middle - 0.034, top - 0.74 * height, middle + 0.034, top - 0.06 * height)
            sketch.add("molding", dormer, shape="gable")
            inner = (
                dormer[0] + 0.012,
                dormer[1] + 0.36 * (dormer[3] - dormer[1]),
                dormer[2] - 0.012,
                dormer[3],
            )
            sketch.add("window", inner)


def _bays(sketch: _Sketch) -> None:
    width = sketch.right - sketch.left
    count = max(2, round(width / sketch.between(0.15, 0.24)))
    weights = np.ones(count)
    if count % 2 and sketch.chance(0.5):
        weights[count // 2] = sketch.between(1.15, 1.45)
    margin = 0.03
    inner = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])
    sketch.edges = [float(sketch.left + margin + (width - 2 * margin) * e) for e in inner]


def _edges(sketch: _Sketch, floor_line: float) -> None:
    """What runs along the corners and between the bays: quoins, or pillars, or nothing."""
    left, right, top = sketch.left, sketch.right, sketch.top
    kind = sketch.pick(["quoin", "pillar", "none"])
    if kind == "quoin":
        step = 0.034
        for i in range(int((sketch.ground - top) / step)):
            wide = 0.036 if i % 2 else 0.024
            y = top + i * step
            sketch.add("quoin", (left, y, left + wide, y + step * 0.92))
            sketch.add("quoin", (right - wide, y, right, y + step * 0.92))
    elif kind == "pillar":
        every = 1 if sketch.chance(0.5) else len(sketch.edges) - 1
        for x in sketch.edges[::every]:
            sketch.add("pillar", (x - 0.011, top + 0.02, x + 0.011, floor_line))


def _upper_storeys(sketch: _Sketch, lines: np.ndarray) -> None:
    sketch.add("cornice", (sketch.left - 0.01, sketch.top - 0.018, sketch.right + 0.01, sketch.top + 0.022))
    fill = sketch.between(0.38, 0.56)
    shutters = sketch.pick(list(SHUTTERS)) if sketch.chance(0.35) else ""
    frame = sketch.pick(["", "molding", "pediment", "molding"])
    courses = sketch.chance(0.6)
    arched = sketch.pick(["none", "none", "top", "all"])
    count = len(lines) - 1
    for row in range(count):
        top, bottom = float(lines[row]), float(lines[row + 1])
        shape = "arch" if arched == "all" or (arched == "top" and row == 0) else "rect"
        balconies = _balcony_bays(sketch, row, count)
        stone = sketch.chance(0.35)
        if courses or row == count - 1:
            sketch.add("cornice", (sketch.left, bottom - 0.011, sketch.right, bottom + 0.005))
        for bay, (left, right) in enumerate(zip(sketch.edges[:-1], sketch.edges[1:], strict=True)):
            half = (right - left) * fill / 2 * (0.72 if shutters else 1.0)
            middle, tall = (left + right) / 2, bottom - top
            box = (middle - half, top + 0.24 * tall, middle + half, top + 0.82 * tall)
            if bay in balconies:
                box = (*box[:3], bottom - 0.012)
            _window(sketch, box, shape=shape, frame=frame, shutters=shutters)
            if bay in balconies:
                reach = min(0.3 * (right - left), half + 0.02)
                rail = (middle - reach - 0.012, bottom - 0.34 * tall, middle + reach + 0.012, bottom - 0.002)
                sketch.add("stone balcony" if stone else "iron balcony", rail)
            else:
                sill = (box[0] - 0.010, box[3], box[2] + 0.010, box[3] + 0.013)
                sketch.add("sill", sill)
                if sketch.chance(0.14):
                    sketch.add("plant", (box[0] - 0.002, box[3] - 0.026, box[2] + 0.002, box[3] + 0.003))


def _balcony_bays(sketch: _Sketch, row: int, rows: int) -> set[int]:
    """Symmetric by construction: none, the middle, every bay, or the outer ones."""
    bays = len(sketch.edges) - 1
    if row == 0 and rows > 2 and sketch.chance(0.6):
        return set()
    kind = sketch.pick(["none", "none", "middle", "all", "outer"])
    middle = {bays // 2, (bays - 1) // 2}
    return {"none": set(), "middle": middle, "all": set(range(bays)), "outer": {0, bays - 1}}[kind]


def _window(sketch: _Sketch, box: Box, *, shape: str, frame: str, shutters: str) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if frame:
        sketch.add("molding", (left - 0.012, top - 0.012, right + 0.012, bottom), shape=shape)
        if frame == "pediment" and shape == "rect":
            sketch.add("molding", (left - 0.024, top - 0.046, right + 0.024, top - 0.010), shape="gable")
    sketch.add("window", box, shape=shape)
    clear = top + (min(height * 0.5, width / 2) if shape == "arch" else 0.0) + 0.006
    if sketch.chance(0.22) and shape == "rect":
        drop = clear + (bottom - clear) * sketch.between(0.2, 0.75)
        sketch.add("blind", (left + 0.006, clear, right - 0.006, drop))
    elif sketch.chance(0.4):
        side = 0.24 * width
        sketch.add("curtain", (left + 0.006, clear, left + side, bottom - 0.006))
        sketch.add("curtain", (right - side, clear, right - 0.006, bottom - 0.006))
    if shutters:
        leaf = 0.46 * width
        sketch.add("shutter", (left - leaf - 0.006, clear - 0.006, left - 0.006, bottom), shutters)
        sketch.add("shutter", (right + 0.006, clear - 0.006, right + leaf + 0.006, bottom), shutters)


def _ground_floor(sketch: _Sketch, line: float) -> None:
    ground, tall = sketch.ground, sketch.ground - line
    bays = len(sketch.edges) - 1
    kind = sketch.pick(["windows", "shops", "arches"])
    door_bay = sketch.pick([bays // 2, bays // 2, 0, bays - 1])
    door, awning = sketch.pick(list(DOORS)), sketch.pick(list(AWNINGS)) if sketch.chance(0.65) else ""
    shape = "arch" if kind == "arches" or sketch.chance(0.4) else "rect"
    if kind != "shops":
        sketch.add("plinth", (sketch.left, ground - 0.24 * tall, sketch.right, ground))
    for bay, (left, right) in enumerate(zip(sketch.edges[:-1], sketch.edges[1:], strict=True)):
        middle, width = (left + right) / 2, right - left
        if bay == door_bay:
            _door(sketch, middle, line + 0.22 * tall, door, shape)
        elif kind == "shops":
            _shop(sketch, (left + 0.010, line + 0.10 * tall, right - 0.010, ground - 0.02), awning)
        else:
            half = 0.27 * width
            low = ground - (0.27 if kind == "windows" else 0.22) * tall
            box = (middle - half, line + 0.22 * tall, middle + half, low)
            _window(sketch, box, shape=shape, frame="molding" if kind == "arches" else "", shutters="")
            sketch.add("sill", (box[0] - 0.010, low, box[2] + 0.010, low + 0.013))


def _door(sketch: _Sketch, middle: float, top: float, style: str, shape: str) -> None:
    half = 0.046
    box = (middle - half, top, middle + half, sketch.ground - 0.012)
    sketch.add("molding", (box[0] - 0.016, top - 0.016, box[2] + 0.016, box[3]), shape=shape)
    sketch.add("door", box, style, shape)
    sketch.add("steps", (box[0] - 0.024, sketch.ground - 0.012, box[2] + 0.024, sketch.ground + 0.014))
    if sketch.chance(0.35):
        for x in (box[0] - 0.045, box[2] + 0.045):
            sketch.add(
                "plant", (x - 0.024, sketch.ground - 0.075, x + 0.024, sketch.ground + 0.006), shape="ball"
            )


def _shop(sketch: _Sketch, box: Box, awning: str) -> None:
    sketch.add("shop", box)
    if awning:
        drop = box[1] + 0.36 * (box[3] - box[1])
        sketch.add(
            "awning", (box[0] - 0.004, box[1] + 0.13 * (box[3] - box[1]), box[2] + 0.004, drop), awning
        )


def _street(sketch: _Sketch) -> None:
    kerb = sketch.ground + 0.55 * (1 - sketch.ground)
    under = next(i for i, part in enumerate(sketch.parts) if part.kind not in ("sky", "cloud"))
    street = [
        Part("pavement", (0, sketch.ground, sketch.aspect, kerb)),
        Part("road", (0, kerb, sketch.aspect, 1)),
    ]
    sketch.parts[under:under] = street
