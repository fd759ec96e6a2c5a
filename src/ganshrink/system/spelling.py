"""Words of error messages: the nearest valid one, and another program's error in a line."""

import difflib
from collections.abc import Iterable, Mapping

SHOWN = 30
LONGEST = 300  # characters of another program's error


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


def one_line(error: BaseException) -> str:
    """Another program's error in one line: the first that says something, and the next where that only announces it."""
    lines = [line.strip(" -\t") for line in str(error).splitlines()]
    lines = [
        line for line in lines if line and not line.startswith("Exception from src/")
    ]  # OpenVINO's own places
    text = lines.pop(0) if lines else type(error).__name__
    while lines and (text.endswith(":") or "TORCH_LOGS" in text):
        text = f"{text.split('For more information')[0].rstrip(' .!')} {lines.pop(0)}"
    return text.rstrip(":") if len(text) <= LONGEST else f"{text[:LONGEST]}..."
