"""The nearest valid word, for error messages."""

import difflib
from collections.abc import Iterable

SHOWN = 30


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` if something known is close, else `; there are: a, b, c`."""
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"; there are: {', '.join(known[:SHOWN])}{more}"
