"""Words of error messages: the nearest valid one, and another program's error in a line."""

import difflib
from collections.abc import Iterable, Mapping

SHOWN = 30


def did_you_mean(word: object, known: Iterable[str], *, written: Mapping[str, str] | None = None) -> str:
    """`; did you mean 'x'?` if something known is close, else `; there are: a, b, c`.

    Args:
        written: how a known word is shown, where that is not as it is compared.
    """
    known, written = list(known), written or {}
    close = difflib.get_close_matches(str(word), known, n=1)
    if close:
        return f"; did you mean {written.get(close[0], close[0])!r}?"
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"; there are: {', '.join(written.get(name, name) for name in known[:SHOWN])}{more}"


def first_line(error: BaseException) -> str:
    """What an error says, in one line; OpenVINO's first ones are places in its own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0].startswith("Exception from src/") else lines[0]
