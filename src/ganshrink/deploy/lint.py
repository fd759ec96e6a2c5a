"""What a network will meet in the runtimes that it is meant for, read off its graph before anything is trained."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ganshrink.graph.operators import Operator, operators
from ganshrink.metrics.checkerboard import repeating, smooth_inputs
from ganshrink.system.copies import in_evaluation
from ganshrink.system.generator import generate
from ganshrink.system.spelling import did_you_mean

Severity = Literal["fails", "wrong", "slow", "note"]
SEVERITIES: tuple[Severity, ...] = ("fails", "wrong", "slow", "note")
WHOLE = {"onnxruntime-web": ("onnxruntime-web-wasm", "onnxruntime-web-webgpu")}
LARGEST_PERIOD = 8  # pixels; coarser patterns are the picture's own


class Fault(BaseModel):
    """An entry of faults.toml, which says what its fields are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[str, ...]
    operator: str
    when: dict[str, Any] = {}
    severity: Severity
    happens: str
    remedy: str
    option: dict[str, tuple[str, ...]] = {}
    reference: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+#\d+$")
    seen: str | None = None

    def meets(self, one: Operator) -> bool:
        """Whether a call is what this is about."""
        return one.name == self.operator and all(_holds(one.facts.get(k), v) for k, v in self.when.items())


def _holds(fact: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(fact, int) and fact >= wanted["least"]
    return fact in wanted if isinstance(wanted, list) else fact == wanted


@cache
def known() -> tuple[dict[str, str], tuple[Fault, ...]]:
    """Targets with what they are, and all faults."""
    raw = tomllib.loads(files("ganshrink.deploy").joinpath("faults.toml").read_text(encoding="utf-8"))
    return raw["targets"], tuple(Fault.model_validate(one) for one in raw["fault"])


def targets_of(names: Sequence[str]) -> tuple[str, ...]:
    """Targets by name, `onnxruntime-web` as its two; none given: all.

    Raises:
        ValueError: for an unknown one.
    """
    all_of_them = known()[0]
    found: list[str] = []
    for name in names or all_of_them:
        if name not in all_of_them and name not in WHOLE:
            raise ValueError(f"unknown target {name!r}{did_you_mean(name, [*all_of_them, *WHOLE])}")
        found += WHOLE.get(name, (name,))
    return tuple(dict.fromkeys(found))


def lint(
    network: nn.Module,
    example: Sequence[Tensor],
    *,
    targets: Sequence[str] = (),
    options: Collection[str] = (),
) -> dict[str, Any]:
    """What the targets lack of a network, get wrong or run slowly, at which layers, and what avoids it.

    Args:
        network: of any kind.
        example: its inputs, batch first, at the size at which it will run.
        targets: names as in faults.toml; none: all.
        options: of the network's constructor; remedies name those that there are.

    Returns:
        `targets`; `findings`, the gravest first, each with `target`, `severity`, `operator`, `layers`, `happens`, `remedy`,
        `option`, `reference`, `seen`; `checkerboard`, see `pattern`.

    Raises:
        ValueError: for an unknown target, or a network that cannot be exported.
    """
    wanted, faults = targets_of(targets), known()[1]
    calls, opaque = operators(network, *example)
    findings = []
    for target in wanted:
        for path, reason in opaque.items():
            fault = Fault(
                targets=(target,), operator="a submodule", severity="fails", happens=reason,
                remedy="write it so that torch.export takes it: every format goes that way",
            )  # fmt: skip
            findings.append(_finding(target, fault, [path], options))
        for fault in faults:
            layers = [one.module or "the network itself" for one in calls if fault.meets(one)]
            if target in fault.targets and layers:
                findings.append(_finding(target, fault, layers, options))
    findings.sort(key=lambda one: (SEVERITIES.index(one["severity"]), wanted.index(one["target"])))
    return {"targets": list(wanted), "findings": findings, "checkerboard": pattern(network, example, calls)}


def _finding(target: str, fault: Fault, layers: Sequence[str], options: Collection[str]) -> dict[str, Any]:
    return {
        "target": target,
        "severity": fault.severity,
        "operator": fault.operator,
        "layers": list(dict.fromkeys(layers)),
        "happens": fault.happens,
        "remedy": fault.remedy,
        "option": {name: list(values) for name, values in fault.option.items() if name in options},
        "reference": fault.reference,
        "seen": fault.seen,
    }


def pattern(
    network: nn.Module, example: Sequence[Tensor], calls: Sequence[Operator]
) -> dict[str, Any] | None:
    """The checkerboard that a network leaves: on smooth inputs, how strong what repeats with its strides' period is.

    Returns:
        `period` in pixels, of all doublings up to 8; `levels` of 255, and `share` of all that varies in the outputs, on
        smooth pictures; `uneven`, the transposed convolutions whose pixels get different numbers of weights, where such a
        pattern has a cause that stays. None for a network that does not enlarge, or does not take one picture.
    """
    period = 1
    for one in calls:
        if one.name in ("conv_transpose", "resize", "pixel_shuffle"):
            period *= max(1, int(one.facts.get("stride", one.facts.get("factor", 1))))
    period = min(period, LARGEST_PERIOD)
    first = example[0]
    if period < 2 or len(example) > 1 or first.ndim != 4 or first.shape[1] not in (1, 3):
        return None
    given = smooth_inputs(first.shape[1], (first.shape[2], first.shape[3]))
    with torch.no_grad():
        made = torch.cat([generate(in_evaluation(network), (one,)) for one in given.split(1)])
    found, varies = repeating(made, period), made.double().std(dim=(1, 2, 3)).clamp_min(1e-12)
    uneven = [one.module for one in calls if one.name == "conv_transpose" and one.facts["uneven"]]
    return {
        "period": period,
        "levels": float(found.mean()) * 127.5,
        "share": float((found / varies).mean()),
        "uneven": uneven,
    }
