"""Draws the README's picture from a finished run: `python docs/picture.py runs/demo docs/picture.png`."""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PAPER, INK = "white", "#333333"
SIDE, GAP, CAPTION = 128, 8, 26  # pixels: a picture, between two of them, the line of words above


def draw(run: Path, target: Path, rows: int = 4) -> None:
    """Input, teacher and student of the first samples, two triples side by side, each column with its cost."""
    samples = json.loads((run / "samples/samples.json").read_text())["rows"][:rows]
    columns = [("input", "input"), *((name, f"{name}, {cost}") for name, cost in costs(run).items())]
    triple = len(columns) * (SIDE + GAP)
    height = CAPTION + -(-len(samples) // 2) * (SIDE + GAP) - GAP
    page = Image.new("RGB", (2 * triple + 3 * GAP, height), PAPER)
    words = ImageDraw.Draw(page)
    for number, sample in enumerate(samples):
        for place, (name, caption) in enumerate(columns):
            left = number % 2 * (triple + 4 * GAP) + place * (SIDE + GAP)
            if number < 2:
                middle = (left + SIDE // 2, CAPTION // 2 - 2)
                words.text(middle, caption, INK, ImageFont.load_default(13), anchor="mm")
            picture = Image.open(run / "samples" / sample[name]).convert("RGB")
            page.paste(
                picture.resize((SIDE, SIDE), Image.Resampling.NEAREST),
                (left, CAPTION + number // 2 * (SIDE + GAP)),
            )
    page.save(target, optimize=True)


def costs(run: Path) -> dict[str, str]:
    """Multiply-accumulates of teacher and student, as a caption has room for."""
    cost = json.loads((run / "cost.json").read_text())
    return {name: f"{cost[name]['macs']['exact'] / 1e6:,.0f} M MACs" for name in ("teacher", "student")}


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
