"""Numbers as a person reads them."""

import math

MINUS = "\N{MINUS SIGN}"


def quantity(value: float) -> str:
    """Three or four digits and a unit: 4,926,083,072 is `4.93 G`, 823,117 is `823 k`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.99995:
            return f"{value / size:.{2 if abs(value) < 100 * size else 0}f} {unit}"
    return f"{value:g}"


def integer(value: float) -> str:
    """All digits, in groups of three."""
    return f"{round(value):,}"


def file_size(value: float) -> str:
    """Bytes in the decimal units that shops and phones use."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.0f} bytes"


def times(value: float) -> str:
    """A ratio: `9.8×`, `12×` once tenths say nothing."""
    return f"{value:.0f}×" if value >= 99.95 else f"{value:.1f}×" if value >= 1.05 else f"{value:.2f}×"


def compared(ratio: float, more: str, less: str) -> str:
    """`4.1× faster`, or for a ratio below 1 `1.2× slower`."""
    return f"{times(ratio)} {more}" if ratio >= 1 else f"{times(1 / ratio)} {less}"


def milliseconds(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:.0f} ms"
    return f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def rate(ms: float) -> str:
    """Pictures per second where one takes so many milliseconds: `11.8 fps`."""
    fps = 1000 / ms if ms > 0 else math.inf
    return f"{fps:.0f} fps" if fps >= 99.95 else f"{fps:.1f} fps" if fps >= 9.995 else f"{fps:.2f} fps"


def duration(seconds: float) -> str:
    """`41 s`, `12 min 30 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def score(value: float, *, like: float | None = None) -> str:
    """A metric's value to four digits; with `like`, to as many decimals as that value gets."""
    scale = abs(value if like is None else like)
    if not math.isfinite(value):
        return str(value)
    if 0 < scale < 1e-3:
        text = f"{value:.2e}"
    else:
        text = f"{value:,.{4 if scale < 0.1 else 3 if scale < 10 else 2 if scale < 1000 else 0}f}"
    return text.replace("-", MINUS)
