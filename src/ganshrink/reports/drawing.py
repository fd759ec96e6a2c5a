"""Small pictures for the page: one SVG each, drawn by matplotlib, coloured by the page's style sheet."""

import io
import logging
import re
from collections.abc import Callable
from typing import Any

# Stand-ins: the page's colours depend on the reader's scheme.
FAINT, ACCENT, TEXT, WARN, WASH = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
STYLE = {
    FAINT: "var(--faint)",
    ACCENT: "var(--accent)",
    TEXT: "currentColor",
    WARN: "var(--warn)",
    WASH: "var(--line)",
}


def drawn(key: str, paint: Callable[[Any], None]) -> str:
    """The `<svg>` element of a small chart.

    Args:
        key: unlike that of any other chart of the page, since ids are made of it.
        paint: is given matplotlib's axes; uses the colours above.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(
        logging.ERROR
    )  # it announces that it builds a cache
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ganshrink", "font.size": 8}):
        figure = Figure(figsize=(2.9, 1.45), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        paint(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(color=FAINT, labelcolor=TEXT, length=3)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _inline(buffer.getvalue(), key)


def _inline(svg: str, key: str) -> str:
    """The `<svg>` element alone: ids unique in the page, no namespaces (HTML knows them), the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{re.escape(_slug(key))}-", svg)
    svg = re.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2)
    for stand_in, colour in STYLE.items():
        svg = svg.replace(stand_in, colour)
    return svg


def _slug(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", key)
