"""What the small network may cost: `macs=2.6G`, `params=10%`, `latency=40%@cpu`, several joined by commas."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.cost import Convention
from ganshrink.system.spelling import did_you_mean

if TYPE_CHECKING:
    from ganshrink.pruning.channels import Channels
    from ganshrink.pruning.plan import Plan

KINDS = ("macs", "paper_macs", "params", "bytes", "memory", "latency")
IN_BYTES = ("bytes", "memory")
SUFFIXES = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}


class Times(Protocol):
    """How long networks take on a device, as far as that can be told without running them."""

    def __call__(self, channels: "Channels", widths: Index) -> float:
        """Milliseconds at these kept widths per group."""


@dataclass(frozen=True)
class Limit:
    """At most `amount` of one kind of cost, or that percentage of the traced network's.

    Attributes:
        amount: MACs, parameters, bytes of weights (`bytes`) or activations (`memory`), or milliseconds for `latency`.
        device: for `latency`, `cpu`, `cuda` or the file of a device profile.
        times: for `latency`, how long a network takes there; None until the device has been looked at.
    """

    kind: str
    amount: float
    percent: bool = False
    device: str = ""
    times: Times | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        text = f"{self.amount:g}%" if self.percent else self.write(self.amount)
        return f"{self.kind}={text}" + (f"@{self.device}" if self.device else "")

    def at(self, amount: float) -> "Limit":
        """The same kind of limit at another amount."""
        return replace(self, amount=amount)

    def write(self, amount: float) -> str:
        """An amount in this limit's unit, as a person writes it."""
        return f"{amount:.6g}ms" if self.kind == "latency" else readable(amount)


@dataclass(frozen=True)
class Budget:
    """One or more limits that must all hold. MACs and memory are per image, bytes those of parameters and buffers."""

    limits: tuple[Limit, ...]

    @staticmethod
    def parse(text: str) -> "Budget":
        """Read `KIND=AMOUNT[, ...]`: kinds macs, paper_macs, params, bytes, memory with amounts like 2.6G, 400k, 2MB or 10%;
        or `latency=AMOUNT@DEVICE` with amounts like 30ms or 40%, and cpu, cuda or the file of a device profile.

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
        widths = channels.widths(plan)
        return all(
            spending(channels, widths, limit) <= limit.amount for limit in self.resolve(channels).limits
        )

    def numbers(self) -> Mapping[str, float]:
        """Per kind the absolute limit of a resolved budget."""
        if any(limit.percent for limit in self.limits):
            raise ValueError(f"budget {self} still has percentages; resolve it first")
        return {limit.kind: limit.amount for limit in self.limits}

    @property
    def convention(self) -> Convention:
        """How MACs are counted where this budget is spoken of: the papers' way if it limits those alone, else exactly."""
        kinds = {limit.kind for limit in self.limits}
        return "paper" if "paper_macs" in kinds and "macs" not in kinds else "exact"

    @property
    def latency(self) -> Limit | None:
        """The limit in milliseconds, if there is one."""
        return next((limit for limit in self.limits if limit.kind == "latency"), None)

    def with_latency(self, limit: Limit) -> "Budget":
        """The same budget with another limit in milliseconds."""
        return Budget(tuple(limit if old.kind == "latency" else old for old in self.limits))

    def __str__(self) -> str:
        return ",".join(str(limit) for limit in self.limits)


def spending(channels: "Channels", widths: Index, limit: Limit) -> float:
    """What a network of these kept widths per group costs, in the unit of this limit."""
    if limit.kind == "latency":
        return _times(limit)(channels, widths)
    if limit.kind == "memory":
        return channels.memory_at(widths)
    if limit.kind in ("macs", "paper_macs"):
        return channels.macs_at(widths, "paper" if limit.kind == "paper_macs" else "exact")
    cost = channels.cost_at(widths)
    return cost.params if limit.kind == "params" else cost.bytes


def readable(number: float) -> str:
    """2600000000 -> 2.6G, with as many digits as the number has; 12345678901 keeps all of them."""
    for suffix in ("G", "M", "k"):
        scaled = number / SUFFIXES[suffix]
        if scaled >= 1:
            return f"{scaled:.12g}{suffix}"
    return f"{number:.12g}"


def _limit(part: str) -> Limit:
    kind, equals, amount = (piece.strip() for piece in part.partition("="))
    if not equals or kind not in KINDS:
        meant = did_you_mean(kind, KINDS) if equals else f"; did you mean {_with_kind(part)!r}?"
        raise ValueError(f"budget {part!r} must be KIND=AMOUNT with KIND one of {', '.join(KINDS)}{meant}")
    if kind == "latency":
        return _latency(part, amount)
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(?:e(\d+))?\s*([kKMG]?)(B?)(%?)", amount)
    unit = "" if found is None else found[3] + found[4]
    if found is None or (found[5] and unit) or (found[4] and kind not in IN_BYTES):
        raise ValueError(
            f"budget {part!r}: the amount must be like 2.6G, 400k{', 2MB' * (kind in IN_BYTES)} or 10%"
        )
    number = _in_range(part, float(found[1]) * 10 ** int(found[2] or 0), percent=bool(found[5]))
    return Limit(kind, number if found[5] else round(number * SUFFIXES[found[3]]), bool(found[5]))


def _with_kind(amount: str) -> str:
    """An amount that came without its kind, with the likeliest."""
    if amount.endswith("s") or "@" in amount:
        return f"latency={amount}" + "@cpu" * ("@" not in amount)
    return f"bytes={amount}" if amount.endswith("B") else f"macs={amount}"


def _latency(part: str, amount: str) -> Limit:
    time, at, device = (piece.strip() for piece in amount.partition("@"))
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|%)", time)
    if found is None or not device:
        raise ValueError(
            f"budget {part!r} must be latency=AMOUNT@DEVICE, such as latency=30ms@cpu, latency=40%@cpu or "
            "latency=30ms@phone.toml with the file of a device profile"
        )
    number = _in_range(part, float(found[1]), percent=found[2] == "%")
    return Limit("latency", number * 1000 if found[2] == "s" else number, found[2] == "%", device)


def _in_range(part: str, number: float, *, percent: bool) -> float:
    if number == 0 or (percent and number > 100):
        raise ValueError(f"budget {part!r}: the amount must be above 0" + " and at most 100%" * percent)
    return number


def _times(limit: Limit) -> Times:
    if limit.times is None:
        raise ValueError(
            f"budget {limit}: how long networks take on {limit.device} is not known here; `ganshrink compress` looks at "
            "the device first, elsewhere give macs, params, bytes or memory"
        )
    return limit.times


def _absolute(limit: Limit, channels: "Channels") -> Limit:
    if not limit.percent:
        return limit
    amount = spending(channels, channels.full_widths(), limit) * limit.amount / 100
    return replace(limit, amount=amount if limit.kind == "latency" else int(amount), percent=False)
