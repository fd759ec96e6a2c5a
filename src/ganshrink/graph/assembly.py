"""From what the rules said to a `Channels`: solve the union, number the atoms, form groups, collect the cost terms."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from ganshrink.graph.activations import Activations
from ganshrink.graph.context import Context, Normed, RawTerm
from ganshrink.graph.reader import Reader
from ganshrink.graph.regions import find_regions, takes_scalars, writes
from ganshrink.pruning.atoms import Index
from ganshrink.pruning.channels import Channels, Group, Norm, Producer
from ganshrink.pruning.cost import CostModel
from ganshrink.pruning.removal import Removals, Removed
from ganshrink.pruning.statistics import Positions, Statistics, call_names, calls_of

SINGLE = "it has a single channel"
TIED = "all its channels are tied to each other"


class Assembly:
    """The intermediate tables. Atoms are numbered group by group, in forward order of their first producers."""

    def __init__(
        self,
        ctx: Context,
        reader: Reader,
        images: int,
        hidden: int,
        example: tuple[Any, ...],
        of_tensors: Set[str],
    ) -> None:
        self.ctx, self.reader, self.images, self.example = ctx, reader, images, example
        self.of_tensors = of_tensors
        given = next((t.shape[0] for t in example if isinstance(t, torch.Tensor) and t.ndim), 1)
        copies = images if given == 1 else 1  # of the one image that was given
        ctx.terms = [t if t.node in reader.batched else t.times(copies) for t in ctx.terms]
        if hidden:
            ctx.terms.append(RawTerm(None, hidden, hidden, (), False))
        self.classes = ctx.ties.solve()
        self.number = np.full(ctx.ties.count, -1, np.int64)  # root -> atom
        self.places = self._places()
        self._number_atoms()
        self.reasons = [self.classes.reason[root] for root in self.roots]
        self.columns = [self.compact(axis) for axis in self.places]
        self.group_of = self._group_atoms()

    def compact(self, raw: Index) -> Index:
        return self.number[self.classes.label[raw]]

    def _places(self) -> list[Index]:
        """Every axis on which atoms are counted: parameters, buffers, and what layers are called on."""
        places = [a for v in self.ctx.parameters.values() for a in v.axes if not isinstance(a, str)]
        return places + [axis for term in self.ctx.terms for axis in term.axes]

    def _number_atoms(self) -> None:
        """First come those with producers, in forward order; then the others, in the order of the parameters."""
        ordered = [p.atoms for p in self.ctx.producers]
        ordered += [a for v in self.ctx.parameters.values() for a in v.axes if not isinstance(a, str)]
        raw = np.concatenate(ordered) if ordered else np.zeros(0, np.int64)
        roots = self.classes.label[raw]
        _, first = np.unique(roots, return_index=True)
        roots = roots[np.sort(first)]
        self.roots = roots[~self.classes.dropped[roots]]
        self.number[self.roots] = np.arange(len(self.roots))

    def _group_atoms(self) -> Index:
        """Two atoms are of one group if they stand equally often on each axis, and are equally free."""
        rng = np.random.default_rng(0)
        signature = np.zeros(len(self.roots), np.uint64)
        for column in {c.tobytes(): c for c in self.columns}.values():
            key = rng.integers(1, 1 << 63, dtype=np.uint64)
            signature += key * np.bincount(column[column >= 0], minlength=len(self.roots)).astype(np.uint64)
        for reason in dict.fromkeys(r for r in self.reasons if r):
            key = rng.integers(1, 1 << 63, dtype=np.uint64)
            signature += key * np.array([r == reason for r in self.reasons], np.uint64)
        _, first, inverse = np.unique(signature, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        group_of = rank[inverse]
        order = np.argsort(group_of, kind="stable")  # renumber: a group's atoms side by side
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self.roots = self.roots[order]
        self.number[self.roots] = np.arange(len(order))
        self.reasons = [self.reasons[i] for i in order]
        self.columns = [np.where(c >= 0, place[c], -1) if len(place) else c for c in self.columns]
        return group_of[order]

    # ---- the public parts

    def build(self) -> Channels:
        axes = {n: tuple(self._axis(a) for a in v.axes) for n, v in self.ctx.parameters.items()}
        producers = tuple(
            Producer(p.parameter.rpartition(".")[0], p.parameter, p.axis, tuple(range(len(p.atoms))))
            for p in self.ctx.producers
        )
        terms = [t for t in self.ctx.terms if not t.attention]
        tensors = self._tensors()
        groups = self._groups()
        scales, unscalable = self._factors()
        channels = Channels(
            num_atoms=len(self.roots),
            groups=groups,
            axes={n: a for n, a in axes.items() if any(x is not None for x in a)},
            producers=producers,
            norms=tuple(Norm(scale, producer) for producer, scale in self.ctx.norms),
            scales=scales,
            unscalable=unscalable,
            attributes=tuple((m, a, self.compact(x)) for m, a, x in self.ctx.attributes),
            unzeroed=frozenset(self.ctx.unzeroed),
            attention_macs=sum(self._full(t) for t in self.ctx.terms if t.attention) // self.images,
            example=self.example,
            model=self._cost_model(terms, tensors, len(groups)),
            removals=self._removals(),
            memory=Activations(self.reader, self.compact, self.group_of, len(groups)).memory(),
            call_nodes=tuple(t.node for t in terms),
            makers=tuple(None if t.node is None else self.ctx.makers.get(t.node) for t in terms),
            tensors=tuple(name for name, _ in tensors),
            idle=any(isinstance(t, torch.nn.Parameter) and n not in self.ctx.parameters for n, t in tensors),
            literal=tuple((c[c >= 0], text) for raw, text in self.ctx.literal for c in [self.compact(raw)]),
            statistics=self._statistics(),
            calls=call_names(self.reader.program.graph_module),
            exact=self.ctx.exact,
        )
        return with_removable(channels, self._texts(self.ctx.together))

    def _statistics(self) -> tuple[Statistics, ...]:
        order = {node: n for n, node in enumerate(calls_of(self.reader.program.graph_module))}
        return tuple(
            Statistics(order[node], tuple(Positions.of(d, raw, self.compact) for d, raw in axes))
            for node, axes, _ in self.ctx.statistics
        )

    def _texts(self, said: Iterable[tuple[Index, str]]) -> dict[int, str]:
        """By group what was first said of one of its atoms."""
        found: dict[int, str] = {}
        for raw, text in said:
            atoms = self.compact(raw)
            for group in np.unique(self.group_of[atoms[atoms >= 0]]):
                found.setdefault(int(group), text)
        return found

    def _factors(self) -> tuple[dict[int, str], dict[int, str]]:
        """Where a factor on what a producer makes can act: `Channels.scales` and `Channels.unscalable`."""
        ctx = self.ctx
        scales: dict[int, str] = {}
        unscalable: dict[int, str] = {}
        for number, producer in enumerate(ctx.producers):
            calls = [call for call, maker in ctx.makers.items() if maker == number]
            norms = [_deciding(call, ctx.normed.get(call, [])) for call in calls]
            name = producer.parameter
            if calls and all(norms):  # each undoes a factor before it
                last = {normed.scale: normed.place for several in norms for normed in several}
                if None in last:
                    unscalable[number] = f"a factor before a norm without a scale has no effect: {last[None]}"
                    continue
                if len(last) > 1:
                    unscalable[number] = (
                        f"a factor before several norms has no effect: {', '.join(sorted(map(str, last)))}"
                    )
                    continue
                [found] = last
                assert found is not None
                atoms = ctx.parameters[found].axes[0]
                if isinstance(atoms, str) or not np.array_equal(
                    self.compact(atoms), self.compact(producer.atoms)
                ):
                    unscalable[number] = (
                        f"a factor before a norm of other channels has no effect: {last[found]}"
                    )
                    continue
                name = scales[number] = found
            if name in ctx.unheard:
                unscalable[number] = f"{name} is used while its module is not at work: {ctx.unheard[name]}"
        return scales, unscalable

    def _axis(self, axis: Any) -> Index | None:
        if isinstance(axis, str):
            return None
        atoms = self.compact(axis)
        return atoms if (atoms >= 0).any() else None

    def _groups(self) -> tuple[Group, ...]:
        starts = np.flatnonzero(np.diff(self.group_of, prepend=-1))
        made: list[Group] = []
        taken: set[str] = set()
        owners: dict[int, list[Producer]] = {}
        for p in self.ctx.producers:
            atoms = self.compact(p.atoms)
            numbered = np.flatnonzero(atoms >= 0)
            on = self.group_of[atoms[numbered]]
            for g in np.unique(on):
                at = tuple(numbered[on == g].tolist())
                owners.setdefault(int(g), []).append(
                    Producer(p.parameter.rpartition(".")[0], p.parameter, p.axis, at)
                )
        ends = [*starts[1:], len(self.group_of)] if len(starts) else []
        statistics = self._texts((axis, text) for _, axes, text in self.ctx.statistics for _, axis in axes)
        for g, (start, end) in enumerate(zip(starts, ends, strict=True)):
            mine = tuple(owners.get(g, ()))
            frozen = self.reasons[start]
            name = self._name(g, mine)
            while name in taken:
                name += "'"
            taken.add(name)
            made.append(
                Group(name, torch.arange(int(start), int(end)), mine, False, frozen, statistics.get(g))
            )
        return tuple(made)

    def _name(self, number: int, producers: Sequence[Producer]) -> str:
        if producers:
            first = producers[0]
            size = self.ctx.parameters[first.parameter].shape[first.axis]
            name = first.module if first.parameter.endswith("weight") and first.module else first.parameter
            at = first.indices
            return name if len(at) == size else f"{name}[{at[0]}:{at[-1] + 1}]"
        made = {p.parameter for p in self.ctx.producers}
        for parameter, value in self.ctx.parameters.items():
            for d, axis in enumerate(value.axes):
                if isinstance(axis, str):
                    continue
                atoms = self.compact(axis)
                if (self.group_of[atoms[atoms >= 0]] == number).any():
                    layer = parameter.rpartition(".")[0]
                    return f"{layer}:in" if parameter in made and layer else f"{parameter}:{d}"
        return f"group {number}"

    def _full(self, term: RawTerm) -> int:
        return term.exact * int(np.prod([len(a) for a in term.axes], dtype=object))

    # ---- costs

    def _tensors(self) -> list[tuple[str, torch.Tensor]]:
        model = self.ctx.model
        named = [*model.named_parameters(), *model.named_buffers()]
        canonical = {id(_tensor(model, n)): n for n in self.ctx.parameters}
        return [(canonical.get(id(t), n), t) for n, t in named]

    def _cost_model(
        self, terms: Sequence[RawTerm], tensors: Sequence[tuple[str, torch.Tensor]], groups: int
    ) -> CostModel:
        rows: dict[bytes, int] = {}
        members: list[Index] = []
        always: list[int] = []

        def row(raw: Index) -> int:
            atoms = self.compact(raw)
            key = atoms.tobytes()
            if key not in rows:
                rows[key] = len(rows)
                counts = np.bincount(self.group_of[atoms[atoms >= 0]], minlength=groups)
                sizes = np.maximum(np.bincount(self.group_of, minlength=groups), 1)
                members.append(counts // sizes)
                always.append(int((atoms < 0).sum()))
            return rows[key]

        call_axes = [[row(a) for a in t.axes] for t in terms]
        tensor_axes, fixed = [], []
        for name, tensor in tensors:
            value = self.ctx.parameters.get(name)
            known = [] if value is None else [(a, s) for a, s in zip(value.axes, value.shape, strict=True)]
            live = [a for a, _ in known if not isinstance(a, str) and (self.compact(a) >= 0).any()]
            tensor_axes.append([row(a) for a in live])
            fixed.append(tensor.numel() // max(1, int(np.prod([len(a) for a in live]))))
        images = np.array([self.images], np.int64)
        return CostModel(
            members=np.stack(members) if members else np.zeros((0, groups), np.int64),
            always=np.array(always, np.int64),
            exact=np.array([t.exact for t in terms], np.int64),
            paper=np.array([t.paper for t in terms], np.int64),
            call_axes=_padded(call_axes),
            tensor_axes=_padded(tensor_axes),
            tensor_fixed=np.array(fixed, np.int64),
            tensor_bytes=np.array([t.element_size() for _, t in tensors], np.int64),
            is_parameter=np.array([isinstance(t, torch.nn.Parameter) for _, t in tensors], bool),
            images=int(images[0]),
        )

    # ---- removal

    def _removals(self) -> Removals:
        reader = self.reader
        nodes = [n for n in reader.values if n.op == "call_function"]
        frozen = {g for g in np.unique(self.group_of) if self.reasons[int(np.argmax(self.group_of == g))]}
        seen: dict[int, frozenset[int]] = {}

        def on(value: Any) -> list[frozenset[int]]:
            """Per axis that could be emptied, the groups it is made of."""
            axes = [axis for axis in value.axes if not isinstance(axis, str)]
            for axis in axes:
                if id(axis) not in seen:
                    atoms = self.compact(axis)
                    of = np.unique(self.group_of[atoms]).tolist() if (atoms >= 0).all() else []
                    seen[id(axis)] = frozenset() if frozen.intersection(of) else frozenset(of)
            return [seen[id(axis)] for axis in axes if seen[id(axis)]]

        widths = {n: [w for v in _tensors_of(reader.values[n]) for w in on(v)] for n in nodes}
        stored = {name: on(value) for name, value in self.ctx.parameters.items()}
        users: dict[str, set[fx.Node]] = {}
        for holder, name in reader.parameter_nodes.items():
            canonical = reader.values[holder].parameter
            users.setdefault(canonical or name, set()).update(holder.users)
        regions = find_regions(self.ctx.model, nodes, reader.parameter_nodes, self.of_tensors)
        needed = {n for n in nodes if writes(n) or n.graph is not reader.graph}
        scalars = {n for n in nodes if takes_scalars(n)}
        return Removals(
            nodes, self.ctx.flows, widths, stored, regions, users, reader.outputs, needed, scalars
        )


def with_removable(channels: Channels, why_one: Mapping[int, str]) -> Channels:
    """Say which groups may reach zero, alone and together: of branches that may not all go, the last one stays."""
    resolve = channels.removals.resolve
    free = [number for number, group in enumerate(channels.groups) if group.frozen is None]
    alone = [number for number in free if resolve(frozenset([number])).problem is None]
    chosen = alone if resolve(frozenset(alone)).problem is None else []
    for number in alone if not chosen else ():
        if resolve(frozenset([*chosen, number])).problem is None:
            chosen.append(number)
    apart = _go_apart(resolve(frozenset(chosen)), [resolve(frozenset([n])) for n in chosen])
    if not apart and any(resolve(frozenset(chosen) - {n}).problem for n in chosen):
        chosen = []
    groups = []
    for i, g in enumerate(channels.groups):
        single = len(g) == 1 and i not in chosen
        one = all(len(producer.indices) == 1 for producer in g.producers)
        reason = why_one.get(i, SINGLE if one else TIED) if single else None
        groups.append(replace(g, removable=i in chosen, frozen=g.frozen or reason))
    return replace(channels, groups=tuple(groups))


def _go_apart(together: Removed, each: Sequence[Removed]) -> bool:
    """Whether all go as each does by itself, so that no choice of them has to be looked at: there are too many for that
    in a network of a thousand layers."""
    return sum(len(one.calls) for one in each) == len(together.calls) and together.calls == frozenset().union(
        *(one.calls for one in each)
    )


def _padded(rows: Sequence[Sequence[int]]) -> Index:
    width = max((len(r) for r in rows), default=0)
    return np.array([[*r, *[-1] * (width - len(r))] for r in rows], np.int64).reshape(len(rows), width)


def _tensor(model: torch.nn.Module, name: str) -> torch.Tensor:
    owner, _, last = name.rpartition(".")
    return getattr(model.get_submodule(owner), last)


def _tensors_of(value: Any) -> list[Any]:
    return [v for v in (value if isinstance(value, (list, tuple)) else [value]) if hasattr(v, "axes")]


def _deciding(call: fx.Node, norms: Sequence[Normed]) -> list[Normed]:
    """Of the norms that read a layer's channels those after which no factor before them is felt; none where something
    else reads them too."""
    if len(call.users) == 1:
        return list(norms[-1:])
    direct = [normed for normed in norms if normed.directly]
    return direct if len(direct) == len(call.users) else []
