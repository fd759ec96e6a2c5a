"""What a network computes, call by call, in the words of a runtime's list of operators."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from ganshrink.graph.context import bound_arguments, module_paths, operator_name
from ganshrink.graph.trace import Export, exported
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.statistics import calls_of
from ganshrink.pruning.untouched import untouched
from ganshrink.system.copies import in_evaluation

Fact = int | str
# Of several operators of torch the one name that they have here.
FAMILIES = {
    r"conv_transpose\d?d?": "conv_transpose",
    r"conv(\dd|olution)": "conv",
    r"(pad|constant_pad_nd|(reflection|replication)_pad\dd)": "pad",
    r"_?upsample_.*": "resize",
    r"grid_sampler(_\dd)?": "grid_sample",
    r"fft_.*": "fft",
    r"(complex|view_as_complex|view_as_real|polar)": "complex",
    r"(einsum|bmm|matmul|baddbmm)": "matmul",
}


@dataclass(frozen=True)
class Operator:
    """One call of an operator.

    Attributes:
        name: the operator's family (`conv`, `conv_transpose`, `pad`, `resize`, `instance_norm`), else torch's own name.
        module: path of the module that calls it, "" for the network itself.
        facts: `dims`, the axes besides images and channels; and what its family has: kernel, stride, padding, mode.
    """

    name: str
    module: str
    facts: Mapping[str, Fact]


def operators(model: nn.Module, *example: Any) -> tuple[list[Operator], dict[str, str]]:
    """The calls of a network in evaluation, in order; and paths of submodules that cannot be exported, with the reason.

    Args:
        model: as for `trace`; it is copied.
        example: its inputs, batch first.

    Raises:
        ValueError: if the model cannot be exported.
    """
    with untouched(model):
        plain = in_evaluation(folded_copy(model))
        plain.requires_grad_(False)
        found: Export = exported(plain, example, ())
    return list(_read(found.program.graph_module)), dict(found.frozen)


def _read(module: fx.GraphModule) -> Iterator[Operator]:
    for node in calls_of(module):
        own = operator_name(node.target).removeprefix("aten.")
        if not isinstance(node.meta.get("val"), Tensor):  # sizes, checks and lists of parts
            continue
        paths = module_paths(node.meta.get("nn_module_stack") or {})
        given = _arguments(node)
        name = next((name for pattern, name in FAMILIES.items() if re.fullmatch(pattern, own)), own)
        if name == "conv" and given.get("transposed"):
            name = "conv_transpose"
        facts = {"dims": max(0, node.meta["val"].ndim - 2), **_FACTS.get(name, lambda given: {})(given)}
        if name == "resize":
            facts |= {"mode": re.sub(r".*upsample_|\dd.*", "", own), "antialias": int(own.endswith("_aa"))}
            facts["factor"] = _factor(node)
        if own.startswith(("reflection", "replication", "constant")):
            facts["mode"] = (
                own.split("_")[0].replace("reflection", "reflect").replace("replication", "replicate")
            )
        yield Operator(name, paths[-1] if paths else "", facts)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """By the names of the operator's schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    return dict(zip((argument.name for argument in schema.arguments), bound_arguments(node), strict=True))


def _factor(node: fx.Node) -> int:
    """By how much it enlarges, rounded up; 0 where it makes smaller."""
    before, after = node.all_input_nodes[0].meta["val"].shape[-1], node.meta["val"].shape[-1]
    return math.ceil(after / before) if after > before else 0


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _most(value: Any) -> int:
    return max(value) if isinstance(value, (list, tuple)) else int(value)


def _convolution(given: Mapping[str, Any]) -> dict[str, Fact]:
    weight, stride, padding = _shape(given["weight"]), given["stride"], given["padding"]
    kernel, stride = max(weight[2:]), _most(stride or 1)
    facts: dict[str, Fact] = {"kernel": kernel, "stride": stride, "groups": given["groups"]}
    facts["uneven"] = (
        kernel % stride
    )  # of a transposed one: pixels get products of different numbers of weights
    facts["padding"] = padding if isinstance(padding, str) else _most(padding or 0)
    facts["dilation"] = _most(given["dilation"] or 1)
    facts["output_padding"] = _most(given.get("output_padding") or 0)
    return facts


def _padding(given: Mapping[str, Any]) -> dict[str, Fact]:
    sides = [side if isinstance(side, int) else 1 for side in given.get("pad", given.get("padding"))]
    pairs = [any(sides[place : place + 2]) for place in range(0, len(sides), 2)]
    axes = max((place + 1 for place, padded in enumerate(pairs) if padded), default=0)
    return {"axes": axes, "mode": given.get("mode") or "constant"}  # counted from the last


_FACTS: Mapping[str, Any] = {
    "conv": _convolution,
    "conv_transpose": _convolution,
    "pad": _padding,
    "batch_norm": lambda given: {"own_statistics": int(bool(given["training"]))},
    "instance_norm": lambda given: {"own_statistics": int(bool(given["use_input_stats"]))},
    "pixel_shuffle": lambda given: {"factor": given["upscale_factor"]},
}
