"""Norms that run over channels: what a cut makes of their statistics, and the network that it is checked against.

A small network takes its means and variances over the channels that it has. The whole network with dead channels at zero
takes them over these too, so it is another function. What is meant is the *masked* network: the whole one, whose
statistics run over live channels alone. It is run from its exported graph, call by call, so that nothing of the surgery
is used twice.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from ganshrink.pruning.atoms import Index
from ganshrink.pruning.cost import Mask
from ganshrink.system.copies import copied, in_evaluation

FEWEST = 2  # live channels under a norm: the variance of one is not defined, or zero


@dataclass(frozen=True, eq=False)
class Positions:
    """An axis that statistics run over.

    Attributes:
        atoms: of each channel (-1: a fixed position).
        run: positions side by side of each, as after a flattening of maps; it follows the maps' size.
        times: how often all channels come, as after a flattening of tokens; it follows their number.
    """

    axis: int
    atoms: Index
    run: int
    times: int

    @staticmethod
    def of(axis: int, raw: Index, compact: Callable[[Index], Index]) -> "Positions":
        """From the axis's atoms before ties, which tell where a channel ends."""
        edges = np.flatnonzero(np.diff(raw)) + 1
        run = math.gcd(len(raw), *edges.tolist())
        each = raw[::run]
        again = [n for n in np.flatnonzero(each == each[0])[1:].tolist() if len(each) % n == 0]
        period = next((n for n in again if np.array_equal(each[n:], each[:-n])), len(each))
        return Positions(axis, compact(each[:period]), run, len(each) // period)

    def live(self, alive: Mask, size: int) -> Tensor:
        """Live positions where the axis is of this size."""
        run, times, channels = self.run, self.times, len(self.atoms)
        if size != run * times * channels:
            run, times = (size // channels, 1) if times == 1 else (run, size // (channels * run))
        if size != run * times * channels:
            raise ValueError(f"statistics run over {size} positions of {channels} channels")
        return torch.from_numpy(np.flatnonzero(np.tile(np.repeat(alive[self.atoms], run), times)))


@dataclass(frozen=True, eq=False)
class Statistics:
    """A call that computes statistics over channels: its number among the graph's, and axes of its first argument."""

    call: int
    axes: tuple[Positions, ...]

    def changed(self, alive: Mask) -> bool:
        """Whether some of its channels die, but not all."""
        return all(alive[p.atoms].any() for p in self.axes) and not all(
            alive[p.atoms].all() for p in self.axes
        )


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
    return tuple(str(node.target) for node in calls_of(module))


class Masked(nn.Module):
    """A network in evaluation whose statistics run over live channels alone.

    It is exported anew for inputs of another shape or type, so that `.double()` and other sizes work.
    """

    def __init__(
        self,
        net: nn.Module,
        statistics: Sequence[Statistics],
        alive: Mask,
        calls: tuple[str, ...],
        graphs: "Graphs",
    ) -> None:
        super().__init__()
        self.net, self.alive, self.calls, self.graphs = net, alive, calls, graphs
        self.changed = {s.call: s.axes for s in statistics}

    def forward(self, *inputs: Any) -> Any:
        program = self.graphs.of(self.net, inputs)
        if call_names(program.graph_module) == self.calls:
            return self._run(program, inputs)
        pairs = pytree.tree_map_only(Tensor, _doubled, inputs)  # networks branch on a batch of one
        program = self.graphs.of(self.net, pairs)
        if call_names(program.graph_module) != self.calls:
            raise ValueError("at this size the network makes other calls than the traced one")
        return pytree.tree_map_only(Tensor, _first, self._run(program, pairs))

    def _run(self, program: torch.export.ExportedProgram, inputs: tuple[Any, ...]) -> Any:
        module = program.graph_module
        changed = {node: self.changed[n] for n, node in enumerate(calls_of(module)) if n in self.changed}
        given = iter(pytree.tree_leaves(inputs))
        arguments = [
            next(given) if spec.kind == InputKind.USER_INPUT else self._stored(program, spec)
            for spec in program.graph_signature.input_specs
        ]
        made = _Run(module, changed, self.alive).run(*arguments)
        kinds = [spec.kind for spec in program.graph_signature.output_specs]
        outputs = [t for t, kind in zip(made, kinds, strict=True) if kind == OutputKind.USER_OUTPUT]
        return pytree.tree_unflatten(outputs, program.call_spec.out_spec)

    def _stored(self, program: torch.export.ExportedProgram, spec: Any) -> Any:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            owner, _, last = spec.target.rpartition(".")
            return getattr(self.net.get_submodule(owner), last)
        return program.constants[spec.target]


def _doubled(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, tensor]) if tensor.shape[:1] == (1,) else tensor


def _first(tensor: Tensor) -> Tensor:
    return tensor[:1] if tensor.shape[:1] == (2,) else tensor


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


def masked(
    plain: nn.Module,
    statistics: Sequence[Statistics],
    keep: Tensor,
    calls: tuple[str, ...],
    tensors: Mapping[str, Tensor],
) -> Masked | None:
    """The masked network under a plan's `keep`, with some parameters and buffers replaced and all others shared with
    `plain`. None: no statistics change."""
    alive = np.append(keep.numpy(), True)
    changed = [found for found in statistics if found.changed(alive)]
    if not changed:
        return None
    memo: dict[int, Any] = {id(t): t for t in [*plain.parameters(), *plain.buffers()]}
    for name, tensor in tensors.items():
        owner, _, last = name.rpartition(".")
        old = getattr(plain.get_submodule(owner), last)
        memo[id(old)] = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    net = in_evaluation(copied(plain, memo))
    return Masked(net, changed, alive, calls, GRAPHS.setdefault(plain, Graphs()))


def _exported(net: nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
    memo: dict[int, Any] = {id(t): t for t in [*net.parameters(), *net.buffers()]}
    twin = in_evaluation(copied(net, memo))  # what user code keeps in attributes stays there
    with torch.enable_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
        return torch.export.export(twin, inputs, strict=False)


class _Run(fx.Interpreter):
    """Runs a graph, some calls of it on live channels alone."""

    def __init__(
        self, module: fx.GraphModule, changed: Mapping[fx.Node, tuple[Positions, ...]], alive: Mask
    ) -> None:
        super().__init__(module)
        self.changed, self.alive = changed, alive

    def run_node(self, n: fx.Node) -> Any:
        if n not in self.changed:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        axes = {p.axis: p.live(self.alive, args[0].shape[p.axis]).to(args[0].device) for p in self.changed[n]}
        return _on_live(n.target, args, kwargs, axes)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inner: Any = tuple(
            _Run(a, self.changed, self.alive).run if isinstance(a, fx.GraphModule) else a for a in args
        )
        return super().call_function(target, inner, kwargs)


def _on_live(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], live: Mapping[int, Tensor]) -> Any:
    """A reduction of the live channels, or a norm of them with zeros in the others' places."""
    whole, *rest = args
    small = whole
    for axis, at in live.items():
        small = small.index_select(axis, at)
    if target._opname not in ("layer_norm", "rms_norm", "group_norm"):
        return target(small, *rest, **kwargs)
    [(axis, at)] = live.items()
    rest = [value[at] if isinstance(value, Tensor) else value for value in rest]
    if target._opname != "group_norm":
        rest[0] = [len(at)]
    return torch.zeros_like(whole).index_copy(axis, at, target(small, *rest, **kwargs))
