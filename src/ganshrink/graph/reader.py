"""Reads an exported graph once, node by node, with a rule for each operator."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export.graph_signature import InputKind

from ganshrink.graph.context import (
    Context,
    RawTerm,
    bound_arguments,
    described,
    module_paths,
    operator_name,
    user_line,
)
from ganshrink.graph.opaque import multiplications
from ganshrink.graph.rules.products import fixed_like
from ganshrink.graph.rules.table import SILENT, Rule, find_rule
from ganshrink.graph.values import Value

# Wrappers around a part of the graph that leave what it computes alone.
TRANSPARENT = ("wrap_with_set_grad_enabled", "wrap_with_autocast", "tag_activation_checkpoint")


class Reader:
    """One pass over a graph: an environment of values, and which tensors share memory."""

    def __init__(self, ctx: Context, rules: dict[str, Rule], freeze: Mapping[str, str], images: int) -> None:
        """Args:
        freeze: paths of submodules whose channels all stay, and why.
        images: how many the graph is for.
        """
        self.images = images
        self.batched: set[fx.Node] = set()  # what there is once per image
        self.ctx, self.rules, self.freeze = ctx, rules, freeze
        self.values: dict[fx.Node, Any] = {}
        self.memory: dict[fx.Node, fx.Node] = {}
        self.handed: dict[Any, fx.Node] = {}  # into and out of parts of the graph: what is whose
        self.parameter_nodes: dict[fx.Node, str] = {}
        self.outputs: set[fx.Node] = set()

    def read(self, program: torch.export.ExportedProgram) -> None:
        self.program = program
        specs = {s.arg.name: s for s in program.graph_signature.input_specs if hasattr(s.arg, "name")}
        known: dict[int, Value] = {}
        for node in program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec = specs[node.name]
            if not node.users and spec.kind != InputKind.USER_INPUT:
                continue
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
                self.parameter_nodes[node] = spec.target
                self.values[node] = self._parameter(spec.target, known)
            else:
                own = spec.kind == InputKind.USER_INPUT
                reason = "it meets the model's input" if own else "it meets a constant tensor"
                self.values[node] = fixed_like(node.meta.get("val"), reason)
                if not own:
                    self.values[node].from_input = False
                    self.values[node].number = _number(program.constants.get(spec.target or ""))
                elif _leading(node) == self.images:
                    self.batched.add(node)
        self.graph = program.graph
        outputs = self._run(program.graph_module, program.graph)
        self.outputs = set(program.graph.output_node().all_input_nodes)
        for value in _values(outputs):
            self.ctx.freeze_all(value, "it is an output of the model")

    def _parameter(self, name: str, known: dict[int, Value]) -> Value:
        tensor = _find(self.ctx.model, name)
        if id(tensor) not in known:
            axes = [self.ctx.fresh(size) for size in tensor.shape]
            known[id(tensor)] = Value(tuple(tensor.shape), list(axes), parameter=name, from_input=False)
            self.ctx.parameters[name] = known[id(tensor)]
        return known[id(tensor)]

    def _run(self, module: torch.nn.Module, graph: fx.Graph) -> Any:
        for node in graph.nodes:
            if node.op == "output":
                return fx.node.map_arg(node.args[0], self._value)
            if node.op == "get_attr":
                held = _find(module, str(node.target))
                value = (
                    fixed_like(held, "it meets a constant tensor") if isinstance(held, torch.Tensor) else held
                )
                if isinstance(value, Value):
                    value.from_input, value.number = False, _number(held)
                self.values[node] = value
            elif node.op == "call_function":
                if self._is_batched(node):
                    self.batched.add(node)
                self.values[node] = self._call(node)
        raise AssertionError("a graph without an output")

    def _is_batched(self, node: fx.Node) -> bool:
        """What comes of the inputs is there once per image, and so are constants from where they get as many copies."""
        sources = node.all_input_nodes
        if not self.batched.isdisjoint(sources):
            return True
        return _leading(node) == self.images and all(_leading(s) != self.images for s in sources)

    def _value(self, node: fx.Node) -> Any:
        return self.values[node]

    def _call(self, node: fx.Node) -> Any:
        ctx = self.ctx
        ctx.node, ctx.raw = node, bound_arguments(node)
        args = fx.node.map_arg(tuple(ctx.raw), self._value)
        name = operator_name(node.target)
        if node.target is operator.getitem:
            source = node.all_input_nodes[0]
            self.memory[node] = self.memory.get(source, source)
            ctx.flow((source,))
            return args[0][args[1]]
        if name in SILENT:
            return None
        if name in TRANSPARENT:
            return self._inline(node, args)
        frozen = next((p for p in self.freeze if _inside(node, p)), None)
        if frozen is not None:
            return self._frozen(node, args, self.freeze[frozen])
        result = self._apply(node, args)
        for value in (*_values(args), *_values(result)):
            if value.parameter is None:
                for axis in value.axes:
                    ctx.candidates.note(ctx.callers(), axis, written=False)
        self._carry(node, result)
        self._remember(node, args, result)
        return result

    def _carry(self, node: fx.Node, result: Any) -> None:
        """Whose channels this hands on: those of a layer, through operators that nothing else reads and that treat each
        channel alone, or at least keep their number."""
        if node in self.ctx.makers or len(node.users) != 1 or not isinstance(result, Value):
            return
        tensors = [
            n
            for n in node.all_input_nodes
            if isinstance(v := self.values.get(n), Value) and not _constant(v) and not _factor(node, v)
        ]
        if len(tensors) == 1 and tensors[0] in self.ctx.carries:
            before = self.values[tensors[0]]
            if before.ndim == result.ndim > 1 and before.shape[1] == result.shape[1]:
                self.ctx.carries[node] = self.ctx.carries[tensors[0]]

    def _apply(self, node: fx.Node, args: Sequence[Any]) -> Any:
        """By its rule; without one that fits, all channels that touch it stay, which is exact whatever it does."""
        rule, problem = find_rule(node.target, self.rules), "has no rule"
        if rule is not None:
            known = len(self.ctx.terms)
            try:
                return rule(self.ctx, node, *args)
            except Exception as error:  # a form of the operator that its rule does not foresee
                problem = (
                    str(error) if isinstance(error, NotImplementedError) else "has no rule for this form"
                )
                if rule is not find_rule(node.target, {}):
                    place = user_line(node) or described(node)
                    raise ValueError(
                        f"the given rule for {_spelled(node)} fails, at {place}: {error!r}"
                    ) from error
            del self.ctx.terms[known:]
            self.ctx.flows.pop(node, None)
        self._count(node, args)
        reason = f"{_spelled(node)} {problem}, so that all its channels stay: {described(node)}"
        for value in _values(args):
            self.ctx.freeze_all(value, reason)
        return fixed_like(node.meta.get("val"), reason)

    def _count(self, node: fx.Node, args: Sequence[Any]) -> None:
        """Its multiplications as they are; those of activations with each other are counted apart."""
        macs = multiplications(node)
        if macs:
            apart = operator_name(node.target) in PRODUCTS and all(v.from_input for v in _values(args))
            self.ctx.terms.append(RawTerm(node, macs, macs, (), apart))

    def _inline(self, node: fx.Node, args: Sequence[Any]) -> Any:
        outer = list(self.ctx.raw)
        [module] = [a for a in args if isinstance(a, fx.GraphModule)]
        inputs = list(args[list(args).index(module) + 1 :])
        holders = [n for n in module.graph.nodes if n.op == "placeholder"]
        count = len(holders)
        for holder, given, value in zip(holders, outer[-count:], inputs[-count:], strict=True):
            self.values[holder] = value
            if isinstance(given, fx.Node):
                self.handed[holder] = given
            if _leading(holder) == self.images:
                self.batched.add(holder)
        results = module.graph.output_node().args[0]
        for number, result in enumerate(results if isinstance(results, (list, tuple)) else ()):
            if isinstance(result, fx.Node):
                self.handed[node, number] = result
        return self._run(module, module.graph)

    def _frozen(self, node: fx.Node, args: Sequence[Any], reason: str) -> Any:
        rule = find_rule(node.target, {})
        layer = operator_name(node.target).startswith(("aten.conv", "aten.linear", "aten.addmm"))
        if rule is not None and layer and not _values(args)[1].from_input:
            made = rule(self.ctx, node, *args)  # for its cost
            self.ctx.flows.pop(node, None)
            for value in _values(made):
                self.ctx.freeze_all(value, reason)
        else:
            self._count(node, args)
        for value in _values(args):
            self.ctx.freeze_all(value, reason)
        return fixed_like(node.meta.get("val"), reason)

    def _remember(self, node: fx.Node, args: Sequence[Any], result: Any) -> None:
        """Follow shared memory: what an in-place operator does to one name, it does to all."""
        if not isinstance(node.target, torch._ops.OpOverload):
            return
        schema = node.target._schema
        first = next((a for a in self.ctx.raw if isinstance(a, fx.Node)), None)
        returns_view = any(r.alias_info is not None for r in schema.returns)
        if first is None or not (returns_view or operator_name(node.target) == "aten.dropout"):
            return
        root = self.memory.get(first, first)
        self.memory[node] = root
        if torch.Tag.inplace_view in node.target.tags:
            return  # only what its axes are called
        written = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)
        if not written or not isinstance(result, Value) or operator_name(node.target) == "aten.detach_":
            return
        clean = all(d is None for d in result.dead)
        for other, value in self.values.items():
            if self.memory.get(other, other) is not root or not isinstance(value, Value):
                continue
            if other is first:
                value.dead, value.why = list(result.dead), result.why
                value.producer = None
            elif not clean or any(d is not None for d in value.dead):
                spoilt = [
                    None if isinstance(a, str) else np.full(s, np.nan)
                    for a, s in zip(value.axes, value.shape, strict=True)
                ]
                value.dead, value.why = spoilt, value.why or result.why or self.ctx.where()
            value.from_input = value.from_input or result.from_input
            value.number = None
            value.parameter = value.parameter if other.op == "placeholder" else None


# Of two activations, these are no layers.
PRODUCTS = {
    f"aten.{name}" for name in ("matmul", "mm", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")
}

WAY_OUT = "freeze the submodule it is called in (freeze=[PATH])"


def _number(tensor: Any) -> float | None:
    """What a constant of one element holds."""
    real = isinstance(tensor, torch.Tensor) and tensor.numel() == 1 and not tensor.is_complex()
    return float(tensor) if real else None


def _leading(node: fx.Node) -> int | None:
    """The size of the first axis of what a node makes."""
    shape = getattr(node.meta.get("val"), "shape", ())
    return next(iter(shape), None)


def _factor(node: fx.Node, value: Value) -> bool:
    """Whether a tensor is a number for each channel, (B, C, 1, 1), with which a product scales the other."""
    product = operator_name(node.target) in ("aten.mul", "aten.mul_")
    return product and value.ndim > 2 and all(side == 1 for side in value.shape[2:])


def _constant(value: Value) -> bool:
    """Whether this is a parameter or buffer, or made of one."""
    return value.parameter is not None or value.origin is not None


def _spelled(node: fx.Node) -> str:
    return str(node.target) if isinstance(node.target, torch._ops.OpOverload) else operator_name(node.target)


def _inside(node: fx.Node, path: str) -> bool:
    stack = node.meta.get("nn_module_stack") or {}
    return any(p == path or p.startswith(path + ".") for p in module_paths(stack))


def _values(tree: Any) -> list[Value]:
    if isinstance(tree, Value):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [v for t in tree for v in _values(t)] if isinstance(tree, (list, tuple)) else []


def _find(model: torch.nn.Module, name: str) -> Any:
    owner, _, last = name.rpartition(".")
    return getattr(model.get_submodule(owner), last)
