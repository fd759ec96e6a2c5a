"""Which whole modules may go when a group of channels reaches zero.

A convolution without inputs puts out zero once its bias is dead too; zeros travel on. A module whose every output is zero
and flows only into additions is replaced by `Zero`; one that then returns its input as it came, by `Identity`. What then
feeds nothing any more goes too: a `Zero` stands where it was called.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import fx

from ganshrink.pruning.atoms import Index


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
        self.live = self._live(set(), [])
        self.parameterised = set().union(*users_of.values())

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
                idle = self.live - self._live(covered, identities) - covered if self.follow else set()
                unread = self._unread(idle, covered)
                covered = covered.union(*(region.nodes for region in unread))
                stays = (idle - covered) & self.parameterised
                kept = next((n for n in self.nodes if n in stays), None) if stays else None
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

    def _live(self, covered: set[fx.Node], identities: Sequence[Region]) -> set[fx.Node]:
        """The nodes whose results something still reads, when modules of these nodes are gone."""
        handed_on = {region.outputs[0]: region.inputs for region in identities}
        todo = [*self.outputs, *(n for n in self.needed if n not in covered)]
        live: set[fx.Node] = set()
        while todo:
            node = todo.pop()
            if node in live:
                continue
            if node in covered:
                todo.extend(handed_on.get(node, ()))
                continue
            live.add(node)
            todo.extend(node.all_input_nodes)
        return live

    def _unread(self, unread: set[fx.Node], covered: set[fx.Node]) -> list[Region]:
        """Modules of nodes that nothing reads any more, the outermost first; they are to make a scalar zero."""
        found: list[Region] = []
        taken: set[fx.Node] = set()
        for region in self.regions:
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
        emptied = (name for name, widths in self.stored.items() if any(w <= empty for w in widths))
        return next((name for name in emptied if not name.startswith(inside)), None)

    def _gone(self, empty: frozenset[int]) -> set[fx.Node]:
        gone: set[fx.Node] = set()
        for node in self.nodes:
            flow = self.flows.get(node)
            if any(w <= empty for w in self.widths.get(node, ())) or (
                flow is not None and any(s and gone.issuperset(s) for s in flow.zero_if)
            ):
                gone.add(node)
        return gone

    def _zeros(self, gone: set[fx.Node]) -> tuple[list[str], set[fx.Node]]:
        zeros: list[str] = []
        covered: set[fx.Node] = set()
        for region in self.regions:  # outermost first
            if not covered.issuperset(region.nodes) and gone.issuperset(region.outputs):
                zeros.append(region.path)
                covered |= region.nodes
        return zeros, covered

    def _uncovered(self, gone: set[fx.Node], covered: set[fx.Node]) -> fx.Node | None:
        for node in self.nodes:
            if node not in gone:
                continue
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
