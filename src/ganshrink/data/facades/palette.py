"""The vocabulary of the synthetic facades: a label colour for each kind of part, and the paints behind it.

Every choice that the photo shows (material, time of day, colour of a door) has a label colour of its own, so
that the photo is a function of the label map and a generator can learn it.
"""

from typing import NamedTuple

import numpy as np

Colour = tuple[float, float, float]


class Wall(NamedTuple):
    """A wall material: its colour, the colour of its stone trim, its pattern and the label colour."""

    colour: Colour
    trim: Colour
    pattern: str
    label: tuple[int, int, int]


class Light(NamedTuple):
    """A time of day: where shadows fall (-1 left, 1 right), tint, sky from top to horizon, label colour."""

    side: float
    tint: Colour
    sky: tuple[Colour, Colour]
    cloud: Colour
    label: tuple[int, int, int]


WALLS = {
    "red brick": Wall((0.60, 0.29, 0.22), (0.86, 0.81, 0.72), "brick", (0, 0, 255)),
    "buff brick": Wall((0.76, 0.62, 0.42), (0.93, 0.90, 0.83), "brick", (0, 40, 220)),
    "sandstone": Wall((0.80, 0.70, 0.54), (0.89, 0.83, 0.71), "ashlar", (40, 0, 225)),
    "limestone": Wall((0.79, 0.77, 0.71), (0.92, 0.90, 0.85), "ashlar", (0, 70, 255)),
    "white plaster": Wall((0.90, 0.88, 0.84), (0.80, 0.77, 0.72), "plaster", (70, 70, 255)),
    "ochre plaster": Wall((0.87, 0.70, 0.40), (0.95, 0.92, 0.84), "plaster", (60, 30, 190)),
    "rose plaster": Wall((0.85, 0.60, 0.54), (0.95, 0.91, 0.86), "plaster", (100, 0, 255)),
    "mint plaster": Wall((0.62, 0.74, 0.65), (0.94, 0.93, 0.87), "plaster", (0, 90, 190)),
    "blue plaster": Wall((0.57, 0.67, 0.78), (0.95, 0.95, 0.93), "plaster", (30, 60, 255)),
}
LIGHTS = {
    "morning": Light(
        1.0, (1.03, 1.01, 0.97), ((0.36, 0.57, 0.85), (0.78, 0.88, 0.96)), (0.98, 0.98, 0.97), (0, 0, 110)
    ),
    "evening": Light(
        -1.0, (1.10, 0.98, 0.84), ((0.42, 0.52, 0.74), (0.97, 0.80, 0.60)), (1.0, 0.87, 0.74), (70, 0, 110)
    ),
    "overcast": Light(
        0.0, (0.95, 0.97, 1.0), ((0.66, 0.70, 0.75), (0.84, 0.86, 0.88)), (0.93, 0.94, 0.95), (0, 50, 110)
    ),
}
ROOFS: dict[str, tuple[Colour, tuple[int, int, int]]] = {
    "slate": ((0.36, 0.39, 0.44), (140, 0, 140)),
    "tile": ((0.68, 0.34, 0.22), (200, 0, 120)),
    "copper": ((0.44, 0.64, 0.57), (140, 60, 190)),
}
DOORS: dict[str, tuple[Colour, tuple[int, int, int]]] = {
    "oak": ((0.42, 0.26, 0.15), (0, 170, 255)),
    "green": ((0.14, 0.33, 0.24), (0, 200, 220)),
    "blue": ((0.15, 0.25, 0.45), (0, 140, 255)),
    "red": ((0.55, 0.13, 0.12), (60, 190, 255)),
}
SHUTTERS: dict[str, tuple[Colour, tuple[int, int, int]]] = {
    "green": ((0.26, 0.42, 0.31), (255, 255, 0)),
    "blue": ((0.36, 0.49, 0.62), (220, 255, 60)),
    "brown": ((0.42, 0.28, 0.18), (255, 225, 60)),
    "white": ((0.87, 0.87, 0.84), (200, 220, 0)),
}
AWNINGS: dict[str, tuple[Colour, tuple[int, int, int]]] = {
    "red": ((0.74, 0.19, 0.17), (255, 60, 60)),
    "green": ((0.18, 0.46, 0.32), (255, 110, 90)),
    "navy": ((0.18, 0.27, 0.48), (220, 40, 90)),
    "amber": ((0.88, 0.62, 0.20), (255, 90, 0)),
}
PLAIN: dict[str, tuple[int, int, int]] = {
    "window": (0, 120, 255),
    "blind": (120, 255, 135),
    "curtain": (160, 255, 170),
    "molding": (255, 140, 0),
    "cornice": (0, 255, 255),
    "sill": (85, 255, 170),
    "iron balcony": (170, 255, 85),
    "stone balcony": (200, 255, 130),
    "pillar": (255, 0, 0),
    "quoin": (255, 170, 0),
    "plinth": (190, 85, 0),
    "chimney": (110, 0, 90),
    "shop": (170, 0, 0),
    "steps": (230, 120, 60),
    "plant": (0, 150, 60),
    "pavement": (70, 70, 70),
    "road": (40, 40, 40),
}

KINDS: tuple[str, ...] = (
    *PLAIN,
    *(f"wall {style}" for style in WALLS),
    *(f"neighbour {style}" for style in WALLS),
    *(f"sky {style}" for style in LIGHTS),
    *(f"cloud {style}" for style in LIGHTS),
    *(f"roof {style}" for style in ROOFS),
    *(f"door {style}" for style in DOORS),
    *(f"shutter {style}" for style in SHUTTERS),
    *(f"awning {style}" for style in AWNINGS),
)
INDEX = {kind: index for index, kind in enumerate(KINDS)}


def _colours() -> np.ndarray:
    dim = {f"neighbour {style}": tuple(round(0.55 * c) for c in wall.label) for style, wall in WALLS.items()}
    pale = {
        f"cloud {style}": tuple(c + 60 if c else 30 for c in light.label) for style, light in LIGHTS.items()
    }
    named = {
        **PLAIN,
        **dim,
        **pale,
        **{f"wall {style}": wall.label for style, wall in WALLS.items()},
        **{f"sky {style}": light.label for style, light in LIGHTS.items()},
        **{f"roof {style}": label for style, (_, label) in ROOFS.items()},
        **{f"door {style}": label for style, (_, label) in DOORS.items()},
        **{f"shutter {style}": label for style, (_, label) in SHUTTERS.items()},
        **{f"awning {style}": label for style, (_, label) in AWNINGS.items()},
    }
    return np.array([named[kind] for kind in KINDS], dtype=np.uint8)


LABEL_COLOURS = _colours()  # uint8 (kinds, 3), in the order of KINDS
