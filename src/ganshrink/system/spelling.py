"""The nearest valid word, for error messages."""

import difflib
from collections.abc import Iterable, Mapping

SHOWN = 30


def did_you_mean(word: object, known: Iterable[str] | Mapping[str, str]) -> str:
    """`; did you mean 'x'?` if something known is close, else `; there are: a, b, c`. Of a mapping the keys are compared
    and the values shown."""
    shown = dict(known) if isinstance(known, Mapping) else {name: name for name in known}
    close = difflib.get_close_matches(str(word), list(shown), n=1)
    if close:
        return f"; did you mean {shown[close[0]]!r}?"
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"; there are: {', '.join(list(shown.values())[:SHOWN])}{more}"
