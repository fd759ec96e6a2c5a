"""Norms that run over channels: what a cut makes of their statistics, and the network that it is checked against.

A small network takes its means and variances over the channels that it has. The whole network with dead channels at zero
takes them over these too, so it is another function. What is meant is the *masked* network: the whole one, whose
statistics run over live channels alone. It is run from its exported graph, call by call, so that nothing of the surgery
is used twice.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from ganshrink.pruning.atoms import Index
from ganshrink.system.copies import copied, in_evaluation

FEWEST = 2  # live channels under a norm: the variance of one is not defined, or zero


@dataclass(frozen=True, eq=False)
class Statistics:
    """A call that computes statistics over channels.

    Attributes:
        call: its number among the calls of the exported graph.
        axes: the axes of its first argument that it runs over, each with its atoms (-1: a fixed position).
    """

    call: int
    axes: tuple[tuple[int, Index], ...]


Live = Mapping[int, list[tuple[int, Tensor]]]
"""By the number of a call: the axes of its first argument, each with its live positions."""


def live_positions(statistics: tuple[Statistics, ...], keep: Tensor) -> Live:
    """Where the calls' channels live under a plan's `keep`; calls that lose none or all of them are left out."""
    alive = np.append(keep.numpy(), True)
    live = {s.call: [(axis, np.flatnonzero(alive[atoms])) for axis, atoms in s.axes] for s in statistics}
    sizes = {s.call: [len(atoms) for _, atoms in s.axes] for s in statistics}
    return {
        call: [(axis, torch.from_numpy(at)) for axis, at in found]
        for call, found in live.items()
        if all(len(at) for _, at in found)
        and any(len(at) < n for (_, at), n in zip(found, sizes[call], strict=True))
    }


def calls_of(module: fx.GraphModule) -> Iterator[fx.Node]:
    """All calls of functions in order, with those of graphs inside of it."""
    for node in module.graph.nodes:
        if node.op == "call_function":
            yield node
            for inner in node.all_input_nodes:
                held = getattr(module, str(inner.target), None) if inner.op == "get_attr" else None
                if isinstance(held, fx.GraphModule):
                    yield from calls_of(held)


def call_names(module: fx.GraphModule) -> tuple[str, ...]:
    """What each call calls: the same network takes the same path if these are the same."""
    return tuple(getattr(node.target, "_opname", str(node.target)) for node in calls_of(module))


class Masked(nn.Module):
    """A network in evaluation whose statistics run over live channels alone.

    It is exported anew for inputs of another shape or type, so that `.double()` and other sizes work.
    """

    def __init__(self, net: nn.Module, live: Live, calls: tuple[str, ...], graphs: "Graphs") -> None:
        super().__init__()
        self.net, self.live, self.calls, self.graphs = net, live, calls, graphs

    def forward(self, *inputs: Any) -> Any:
        program = self.graphs.of(self.net, inputs)
        module = program.graph_module
        if call_names(module) != self.calls:
            raise ValueError("at this size the network makes other calls than the traced one")
        live = {node: self.live[n] for n, node in enumerate(calls_of(module)) if n in self.live}
        given = iter(pytree.tree_leaves(inputs))
        arguments = [
            next(given) if spec.kind == InputKind.USER_INPUT else self._stored(program, spec)
            for spec in program.graph_signature.input_specs
        ]
        made = _Run(module, live).run(*arguments)
        kinds = [spec.kind for spec in program.graph_signature.output_specs]
        outputs = [t for t, kind in zip(made, kinds, strict=True) if kind == OutputKind.USER_OUTPUT]
        return pytree.tree_unflatten(outputs, program.call_spec.out_spec)

    def _stored(self, program: torch.export.ExportedProgram, spec: Any) -> Any:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            owner, _, last = spec.target.rpartition(".")
            return getattr(self.net.get_submodule(owner), last)
        return program.constants[spec.target]


class Graphs:
    """The exported graphs of one network, by shapes and types of its inputs and weights. Copies share it."""

    def __init__(self) -> None:
        self.known: dict[Any, torch.export.ExportedProgram | Exception] = {}

    def __deepcopy__(self, memo: Any) -> "Graphs":
        return self

    def of(self, net: nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
        leaves = [
            (t.shape, t.dtype, t.device) if isinstance(t, Tensor) else t for t in pytree.tree_leaves(inputs)
        ]
        key = (*leaves, *(t.dtype for t in net.parameters()))
        if key not in self.known:
            try:
                self.known[key] = _exported(net, inputs)
            except Exception as error:  # whatever user code raises, such as for too small an example
                text = (str(error) or type(error).__name__).splitlines()[0]
                self.known[key] = ValueError(f"the masked network cannot be exported at this size: {text}")
        found = self.known[key]
        if isinstance(found, Exception):
            raise found
        return found


GRAPHS: WeakKeyDictionary[nn.Module, Graphs] = WeakKeyDictionary()


def masked(plain: nn.Module, live: Live, calls: tuple[str, ...], tensors: Mapping[str, Tensor]) -> Masked:
    """The masked network with some parameters and buffers replaced; all others are shared with `plain`."""
    memo: dict[int, Any] = {id(t): t for t in [*plain.parameters(), *plain.buffers()]}
    for name, tensor in tensors.items():
        owner, _, last = name.rpartition(".")
        old = getattr(plain.get_submodule(owner), last)
        memo[id(old)] = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    return Masked(in_evaluation(copied(plain, memo)), live, calls, GRAPHS.setdefault(plain, Graphs()))


def _exported(net: nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
    memo: dict[int, Any] = {id(t): t for t in [*net.parameters(), *net.buffers()]}
    twin = in_evaluation(copied(net, memo))  # what user code keeps in attributes stays there
    with torch.enable_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
        return torch.export.export(twin, inputs, strict=False)


class _Run(fx.Interpreter):
    """Runs a graph, some calls of it on live channels alone."""

    def __init__(self, module: fx.GraphModule, live: Mapping[fx.Node, list[tuple[int, Tensor]]]) -> None:
        super().__init__(module)
        self.live = live

    def run_node(self, n: fx.Node) -> Any:
        if n not in self.live:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return _on_live(n.target, args, kwargs, self.live[n])

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inner: Any = tuple(_Run(a, self.live).run if isinstance(a, fx.GraphModule) else a for a in args)
        return super().call_function(target, inner, kwargs)


def _on_live(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], live: list[tuple[int, Tensor]]
) -> Any:
    """A reduction of the live channels, or a norm of them with zeros in the others' places."""
    whole, *rest = args
    small = whole
    for axis, at in live:
        small = small.index_select(axis, at.to(whole.device))
    if not target._opname.endswith("_norm") or target._opname == "linalg_vector_norm":
        return target(small, *rest, **kwargs)
    [(axis, at)] = live
    at = at.to(whole.device)
    rest = [value[at] if isinstance(value, Tensor) else value for value in rest]
    if target._opname != "group_norm":
        rest[0] = [len(at)]
    return torch.zeros_like(whole).index_copy(axis, at, target(small, *rest, **kwargs))
