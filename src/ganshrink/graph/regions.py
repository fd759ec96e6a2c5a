"""Which modules of a network can be replaced in place, once nothing flows through them any more."""

import operator
from collections.abc import Sequence, Set

import torch
from torch import fx, nn

from ganshrink.graph.context import module_paths, operator_name
from ganshrink.pruning.removal import Region

# Beside what torch calls pointwise.
SCALAR_SAFE = {
    f"aten.{name}"
    for name in ["dropout", "leaky_relu", "hardswish", "contiguous", "clone", "detach", "alias", "to"]
}


def find_regions(
    model: nn.Module, nodes: Sequence[fx.Node], parameters: dict[fx.Node, str], of_tensors: Set[str]
) -> list[Region]:
    """Modules that can be replaced in place, the outermost first: of those that return one tensor, `of_tensors`."""
    regions: dict[str, Region] = {}
    calls: dict[str, set[str]] = {}
    for node in nodes:
        if node.op != "call_function":
            continue
        stack = node.meta.get("nn_module_stack") or {}
        for key, path in zip(stack, module_paths(stack), strict=True):
            regions.setdefault(path, Region(path)).nodes.add(node)
            calls.setdefault(path, set()).add(key)
    holders: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        holders.setdefault(id(module), []).append(path)
    once = {paths[0] for paths in holders.values() if len(paths) == 1}
    shared = _shared(model, regions, parameters)
    found = [r for p, r in regions.items() if p and p in once and len(calls[p]) == 1 and p not in shared]
    found = [region for region in found if region.path in of_tensors]
    for region in found:
        region.outputs = [n for n in region.nodes if any(u not in region.nodes for u in n.users)]
        sources = {i for n in region.nodes for i in n.all_input_nodes} - region.nodes
        region.inputs = {s for s in sources if s not in parameters}
    return sorted(found, key=lambda r: r.path.count("."))


def writes(node: fx.Node) -> bool:
    """Whether this node writes into a tensor that it takes, or is no operator of torch."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.target is not operator.getitem
    return node.target._schema.is_mutable


def takes_scalars(node: fx.Node) -> bool:
    """Whether this node, on a scalar in place of any of its tensors, gives one or a tensor of the others' shape."""
    if not isinstance(node.target, torch._ops.OpOverload) or node.target._schema.is_mutable:
        return False
    return torch.Tag.pointwise in node.target.tags or operator_name(node.target) in SCALAR_SAFE


def _shared(model: nn.Module, regions: dict[str, Region], parameters: dict[fx.Node, str]) -> set[str]:
    """Paths of modules that hold a parameter which is also held or used elsewhere."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    names: dict[int, list[str]] = {}
    for name, tensor in tensors:
        names.setdefault(id(tensor), []).append(name)
    by_name = {name: id(tensor) for name, tensor in tensors}
    shared: set[str] = set()
    for several in names.values():
        for owner in {o for name in several for o in _owners(name)}:
            if not all(name.startswith(f"{owner}.") for name in several):
                shared.add(owner)
    for node, used in parameters.items():
        for name in names.get(by_name.get(used, 0), ()):
            for owner in _owners(name):
                if owner in regions and not regions[owner].nodes.issuperset(node.users):
                    shared.add(owner)
    return shared


def _owners(name: str) -> list[str]:
    """The paths of all modules that hold this parameter, the innermost first."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
