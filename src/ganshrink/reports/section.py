"""What a method adds to the report, as data: sections of text, tables and charts. The page knows nothing else of methods."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Style = Literal["main", "faint", "dashed", "dotted", "band"]
"""How a line, a mark or a range is drawn: see the legend of `Charts`."""


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` is set smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Line:
    """Points joined by a line."""

    x: Sequence[float]
    y: Sequence[float]
    style: Style = "main"


@dataclass(frozen=True)
class Chart:
    """A small picture of lines over whole numbers.

    Attributes:
        label: what it shows, in words, for those who cannot see it.
        value: what is said at its right, such as the last value.
        marks: places on the x axis, each with its style.
        band: a range of the x axis that is shaded.
        x, y: first and last place of an axis; none: what the lines reach.
        log: the y axis is logarithmic.
        percent: y values are shown in percent.
    """

    title: str
    label: str
    lines: Sequence[Line]
    value: str = ""
    marks: Sequence[tuple[float, Style]] = ()
    band: tuple[float, float] | None = None
    x: tuple[float, float] | None = None
    y: tuple[float, float] | None = None
    log: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Charts:
    """Charts side by side; those beyond `shown` are folded away. `legend`: styles and what they mean."""

    charts: Sequence[Chart]
    title: str = ""
    legend: Sequence[tuple[Style, str]] = ()
    shown: int = 24


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    title: str
    content: Sequence[Text | Table | Charts]

    def to_json(self) -> dict[str, Any]:
        """As `result.json` has it: each part with its kind."""
        content = [{"kind": type(part).__name__.lower(), **asdict(part)} for part in self.content]
        return {"title": self.title, "content": content}
