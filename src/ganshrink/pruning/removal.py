"""Which whole modules may go when a group of channels reaches zero.

A convolution without inputs puts out zero once its bias is dead too; zeros travel on. A module whose every output is zero
and flows only into additions is replaced by `Zero`; one that then returns its input as it came, by `Identity`. What then
feeds nothing any more goes too: a `Zero` stands where it was called.
"""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import fx

from ganshrink.pruning.atoms import Index

Key = TypeVar("Key")


@dataclass
class Flow:
    """How one node passes on zeros: it is zero when all tensors of any set in `zero_if` are, once `kills` are zero too."""

    zero_if: list[tuple[fx.Node, ...]] = field(default_factory=list)
    kills: tuple[str, ...] = ()
    sum_of: tuple[fx.Node, ...] = ()  # operands of an addition that may be dropped one by one
    axes: list[Index | str] = field(default_factory=list)


@dataclass
class Region:
    """A module that is called once and whose parameters nobody else uses."""

    path: str
    nodes: set[fx.Node] = field(default_factory=set)
    outputs: list[fx.Node] = field(default_factory=list)
    inputs: set[fx.Node] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class Removed:
    """The consequences of a set of empty groups."""

    problem: str | None  # what would break, if anything
    zeros: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    kills: frozenset[str] = frozenset()  # parameters to zero besides the dead rows
    calls: frozenset[fx.Node] = frozenset()  # graph nodes that go
    handed: tuple[tuple[fx.Node, fx.Node], ...] = ()  # of those, what now stands for what

    def around(self, path: str) -> str | None:
        """The module that goes with this one, or with this tensor, inside of it; None: there is none."""
        return next((p for p in (*self.zeros, *self.identities) if path.startswith(f"{p}.")), None)


NOTHING = Removed(None)


class Removals:
    """Follows zeros through the graph for any set of empty groups; remembers what it found."""

    def __init__(
        self,
        nodes: Sequence[fx.Node],
        flows: dict[fx.Node, Flow],
        widths: dict[fx.Node, list[frozenset[int]]],
        stored: dict[str, list[frozenset[int]]],
        regions: list[Region],
        users_of: dict[str, set[fx.Node]],
        outputs: set[fx.Node],
        needed: set[fx.Node],
        takes_scalars: set[fx.Node],
        follow: bool = True,
    ) -> None:
        """Args:
        needed: nodes that run for what they do, not for what they return: they write into tensors.
        takes_scalars: nodes that also work on a scalar zero in place of a tensor.
        follow: remove what then feeds nothing, too.
        """
        self.nodes, self.flows, self.widths, self.stored = nodes, flows, widths, stored
        self.regions, self.users_of, self.outputs = regions, users_of, outputs
        self.needed, self.takes_scalars, self.follow = needed, takes_scalars, follow
        self.known: dict[frozenset[int], Removed] = {frozenset(): NOTHING}
        self.order = {node: place for place, node in enumerate(nodes)}
        self.parameterised = set().union(*users_of.values())
        self.live = self._live()
        self.inputs = {node: tuple(node.all_input_nodes) for node in (*nodes, *self.live)}
        self.readers = {node: {user for user in node.users if user in self.live} for node in self.live}
        # where an empty group is felt first; what is far from that is not looked at
        self.of_groups = _by_group({self.order[node]: sets for node, sets in widths.items()})
        self.stored_of_groups = _by_group(stored)
        self.zeroed_by = dict[fx.Node, set[int]]()  # by node, the places of those that may be zero when it is
        for place, node in enumerate(nodes):
            for source in itertools.chain(*flows[node].zero_if) if node in flows else ():
                self.zeroed_by.setdefault(source, set()).add(place)
        self.ending = dict[fx.Node | None, list[int]]()  # by node, the regions that it is an output of
        for place, region in enumerate(regions):
            for output in region.outputs or (None,):
                self.ending.setdefault(output, []).append(place)

    def without_following(self) -> "Removals":
        """The same, but what feeds nothing stays."""
        return Removals(
            self.nodes, self.flows, self.widths, self.stored, self.regions, self.users_of, self.outputs,
            self.needed, self.takes_scalars, follow=False,
        )  # fmt: skip

    def resolve(self, empty: frozenset[int]) -> Removed:
        if empty not in self.known:
            self.known[empty] = self._resolve(empty)
        return self.known[empty]

    def _resolve(self, empty: frozenset[int]) -> Removed:
        gone = self._gone(empty)
        kills = frozenset(k for n in gone if n in self.flows for k in self.flows[n].kills)
        for name in kills:
            if not self.users_of.get(name, set()) <= gone:
                return Removed(f"{name} is also used where nothing is cut")
        zeros, covered = self._zeros(gone)
        identities: list[Region] = []
        while True:
            wrong = self._uncovered(gone, covered)
            if wrong is None:
                idle = self._idle(covered, identities) if self.follow else set()
                unread = self._unread(idle, covered)
                covered = covered.union(*(region.nodes for region in unread))
                stays = (idle - covered) & self.parameterised
                kept = min((n for n in stays if n in self.order), key=self._place, default=None)
                if kept is not None:
                    return Removed(
                        f"nothing would read {kept.name}, which is in no module that could be removed"
                    )
                inside = tuple(f"{region.path}." for region in unread)
                zeros = [z for z in zeros if not z.startswith(inside)] + [r.path for r in unread]
                same = [r.path for r in identities if not r.path.startswith(inside)]
                left = self._left_empty(empty, (*zeros, *same))
                if left is not None:
                    return Removed(f"{left} would be empty, outside of any module that could be removed")
                handed = tuple((r.outputs[0], next(iter(r.inputs))) for r in identities if r.path in same)
                return Removed(None, tuple(zeros), tuple(same), kills, frozenset(covered), handed)
            region = self._identity(wrong, gone, covered)
            if region is None:
                return Removed(f"its zeros reach {wrong.name}, outside of any module that could be removed")
            identities.append(region)
            zeros = [z for z in zeros if not z.startswith(region.path + ".")]
            covered |= region.nodes

    def _live(self) -> set[fx.Node]:
        """The nodes whose results something reads."""
        todo, live = [*self.outputs, *self.needed], set[fx.Node]()
        while todo:
            node = todo.pop()
            if node not in live:
                live.add(node)
                todo.extend(node.all_input_nodes)
        return live

    def _idle(self, covered: set[fx.Node], identities: Sequence[Region]) -> set[fx.Node]:
        """Those of them whose results nothing reads any more when modules of these nodes are gone."""
        handed_on: dict[fx.Node, list[fx.Node]] = {}
        for region in identities:
            for source in region.inputs:
                handed_on.setdefault(source, []).append(region.outputs[0])
        hidden = set(covered)  # and what is idle

        def is_read(node: fx.Node) -> bool:
            todo = [node]
            while todo:
                node = todo.pop()
                if node in self.outputs or (node in self.needed and node not in covered):
                    return True
                if not self.readers.get(node, hidden) <= hidden:
                    return True
                todo += handed_on.get(node, ())  # read by what stands behind an identity
            return False

        seen = self.live & set[fx.Node]().union(*map(self.inputs.__getitem__, covered)) - covered
        todo = [(-self._place(node), id(node), node) for node in seen]
        heapq.heapify(todo)
        while todo:  # readers before what they read
            node = heapq.heappop(todo)[-1]
            if not is_read(node):
                hidden.add(node)
                new = [n for n in self.inputs[node] if n in self.live and n not in covered and n not in seen]
                seen.update(new)
                for source in new:
                    heapq.heappush(todo, (-self._place(source), id(source), source))
        return hidden - covered

    def _place(self, node: fx.Node) -> int:
        """In forward order; before all that runs stand inputs and parameters."""
        return self.order.get(node, -1)

    def _unread(self, unread: set[fx.Node], covered: set[fx.Node]) -> list[Region]:
        """Modules of nodes that nothing reads any more, the outermost first; they are to make a scalar zero."""
        if not unread:
            return []
        found: list[Region] = []
        taken: set[fx.Node] = set()
        for region in self.regions:
            if region.nodes.isdisjoint(unread):
                continue
            free = region.nodes - covered
            if free and not free & taken and free <= unread:
                found.append(region)
                taken |= region.nodes
        while found:  # what reads a scalar zero outside of these has to take it
            scalar = {output for region in found for output in region.outputs}
            wrong = next((n for n in self.nodes if self._stumbles(n, scalar, unread - taken)), None)
            if wrong is None:
                break
            before = self._before(wrong, unread)
            found = [region for region in found if not before.intersection(region.outputs)]
            taken = {node for region in found for node in region.nodes}
        return found

    def _stumbles(self, node: fx.Node, scalar: set[fx.Node], run: set[fx.Node]) -> bool:
        """Whether this node, if it is run, fails on what it reads; notes it in `scalar` if it makes a scalar, perhaps."""
        if node not in run or scalar.isdisjoint(node.all_input_nodes):
            return False
        scalar.add(node)
        return node not in self.takes_scalars

    def _before(self, node: fx.Node, among: set[fx.Node]) -> set[fx.Node]:
        todo, found = [node], set()
        while todo:
            for source in todo.pop().all_input_nodes:
                if source in among and source not in found:
                    found.add(source)
                    todo.append(source)
        return found

    def _left_empty(self, empty: frozenset[int], removed: Sequence[str]) -> str | None:
        inside = tuple(f"{path}." for path in removed)
        near = dict.fromkeys(name for group in sorted(empty) for name in self.stored_of_groups.get(group, ()))
        emptied = (name for name in near if any(w <= empty for w in self.stored[name]))
        return next((name for name in emptied if not name.startswith(inside)), None)

    def _gone(self, empty: frozenset[int]) -> set[fx.Node]:
        gone: set[fx.Node] = set()
        todo = sorted({place for group in empty for place in self.of_groups.get(group, ())})
        while todo:  # in forward order
            place = heapq.heappop(todo)
            node = self.nodes[place]
            flow = self.flows.get(node)
            if node not in gone and (
                any(w <= empty for w in self.widths.get(node, ()))
                or (flow is not None and any(s and gone.issuperset(s) for s in flow.zero_if))
            ):
                gone.add(node)
                for after in self.zeroed_by.get(node, ()):
                    if after > place:
                        heapq.heappush(todo, after)
        return gone

    def _zeros(self, gone: set[fx.Node]) -> tuple[list[str], set[fx.Node]]:
        zeros: list[str] = []
        covered: set[fx.Node] = set()
        ending = {place for node in (None, *gone) for place in self.ending.get(node, ())}
        for region in (self.regions[place] for place in sorted(ending)):  # outermost first
            if not covered.issuperset(region.nodes) and gone.issuperset(region.outputs):
                zeros.append(region.path)
                covered |= region.nodes
        return zeros, covered

    def _uncovered(self, gone: set[fx.Node], covered: set[fx.Node]) -> fx.Node | None:
        for node in sorted(gone, key=self._place):
            if node in self.outputs:
                return node
            if node not in covered and not self._is_sum_of(node, gone):
                return node
            for user in node.users:
                if user not in covered and not (user in self.flows and node in self.flows[user].sum_of):
                    return node
        return None

    def _is_sum_of(self, node: fx.Node, gone: set[fx.Node]) -> bool:
        flow = self.flows.get(node)
        return flow is not None and bool(flow.sum_of) and gone.issuperset(flow.sum_of)

    def _identity(self, node: fx.Node, gone: set[fx.Node], covered: set[fx.Node]) -> Region | None:
        for region in reversed(self.regions):  # innermost first
            if node not in region.nodes or covered.issuperset(region.nodes):
                continue
            if len(region.outputs) == 1 and len(region.inputs) == 1:
                [source] = region.inputs
                if self._passes(region.outputs[0], gone) is source and region.outputs[0] not in gone:
                    return region
        return None

    def _passes(self, node: fx.Node, gone: set[fx.Node]) -> fx.Node:
        """The node whose tensor this one hands on unchanged, when zeros are added to it."""
        while True:
            flow = self.flows.get(node)
            tensors = node.all_input_nodes
            alive = [n for n in tensors if n not in gone]
            if flow is None or not flow.sum_of or len(alive) != 1 or len(alive) == len(tensors):
                return node
            if not all(n in flow.sum_of for n in tensors if n in gone) or len(node.args) < 2:
                return node
            minus = "sub" in str(node.target) and alive[0] is not node.args[0]
            if minus or node.kwargs or "_." in str(node.target):
                return node
            node = alive[0]


def _by_group(widths: Mapping[Key, Iterable[frozenset[int]]]) -> dict[int, list[Key]]:
    """For each group what its channels are the width of, alone or with others."""
    found: dict[int, list[Key]] = {}
    for key, sets in widths.items():
        for group in frozenset[int]().union(*sets):
            found.setdefault(group, []).append(key)
    return found
