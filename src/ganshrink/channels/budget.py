"""What the small network may cost: `macs=2.6G`, `params=10%`, several joined by commas."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ganshrink.channels.cost import Cost

if TYPE_CHECKING:
    from ganshrink.channels.graph import Channels
    from ganshrink.channels.plan import Plan

KINDS = ("macs", "paper_macs", "params", "bytes")
SUFFIXES = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}


@dataclass(frozen=True)
class Limit:
    """At most `amount` of one kind of cost, or that percentage of the traced network's."""

    kind: str
    amount: float
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.kind}={self.amount:g}%" if self.percent else f"{self.kind}={readable(self.amount)}"


@dataclass(frozen=True)
class Budget:
    """One or more limits that must all hold. MACs and parameters are per image and network, bytes include buffers."""

    limits: tuple[Limit, ...]

    @staticmethod
    def parse(text: str) -> "Budget":
        """Read `KIND=AMOUNT[, ...]`: kinds macs, paper_macs, params, bytes; amounts like 2.6G, 400k, 2MB or 10%.

        Raises:
            ValueError: naming the part that is wrong.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise ValueError("a budget needs at least one limit, such as macs=2.6G or params=10%")
        limits = tuple(_limit(part) for part in parts)
        kinds = [limit.kind for limit in limits]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"budget {text!r} limits {max(kinds, key=kinds.count)} twice")
        return Budget(limits)

    def resolve(self, channels: "Channels") -> "Budget":
        """The same budget in absolute numbers, percentages taken of the whole traced network."""
        return Budget(tuple(_absolute(limit, channels) for limit in self.limits))

    def allows(self, channels: "Channels", plan: "Plan") -> bool:
        """Whether the planned network keeps every limit."""
        spent = {limit.kind: spending(channels, channels.widths(plan), limit.kind) for limit in self.limits}
        return all(spent[limit.kind] <= limit.amount for limit in self.resolve(channels).limits)

    def numbers(self) -> Mapping[str, int]:
        """Per kind the absolute limit of a resolved budget."""
        if any(limit.percent for limit in self.limits):
            raise ValueError(f"budget {self} still has percentages; resolve it first")
        return {limit.kind: int(limit.amount) for limit in self.limits}

    def __str__(self) -> str:
        return ",".join(str(limit) for limit in self.limits)


def spending(channels: "Channels", widths: object, kind: str) -> int:
    """What a network of these kept widths per group costs, in the unit of this kind of limit."""
    cost: Cost = channels.cost_at(widths, "paper" if kind == "paper_macs" else "exact")  # type: ignore[arg-type]
    return {"macs": cost.macs, "paper_macs": cost.macs, "params": cost.params, "bytes": cost.bytes}[kind]


def readable(number: float) -> str:
    """2600000000 -> 2.6G, with as many digits as the number has; 12345678901 keeps all of them."""
    for suffix in ("G", "M", "k"):
        scaled = number / SUFFIXES[suffix]
        if scaled >= 1:
            return f"{scaled:.12g}{suffix}"
    return f"{number:.12g}"


def _limit(part: str) -> Limit:
    kind, equals, amount = (piece.strip() for piece in part.partition("="))
    if kind == "latency":
        raise ValueError(f"budget {part!r}: latency is not supported yet; give macs, params or bytes")
    if not equals or kind not in KINDS:
        raise ValueError(f"budget {part!r} must be KIND=AMOUNT with KIND one of {', '.join(KINDS)}")
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(?:e(\d+))?\s*([kKMG]?)(B?)(%?)", amount)
    unit = "" if found is None else found[3] + found[4]
    if found is None or (found[5] and unit) or (found[4] and kind != "bytes"):
        raise ValueError(
            f"budget {part!r}: the amount must be like 2.6G, 400k{', 2MB' * (kind == 'bytes')} or 10%"
        )
    number = float(found[1]) * 10 ** int(found[2] or 0)
    if number == 0 or (found[5] and number > 100):
        raise ValueError(
            f"budget {part!r}: the amount must be above 0" + " and at most 100%" * bool(found[5])
        )
    return Limit(kind, number if found[5] else round(number * SUFFIXES[found[3]]), bool(found[5]))


def _absolute(limit: Limit, channels: "Channels") -> Limit:
    if not limit.percent:
        return limit
    whole = spending(channels, channels.full_widths(), limit.kind)
    return Limit(limit.kind, int(whole * limit.amount / 100))
