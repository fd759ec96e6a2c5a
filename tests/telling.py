"""One fact over many cases: the telling ones are tested each time, the rest by `make test-all`."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def rest_exhaustive(cases: Iterable[Any], told: Callable[[Any], bool]) -> list[Any]:
    """Values of `parametrize`: those that `told` picks as they are, the others marked `exhaustive`."""
    marked = [pytest.mark.exhaustive]
    return [
        case if told(case) else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marked)
        for case in cases
    ]
