"""The memory of activations in closed form, against a walk over the exported graph that keeps sets of live tensors."""

import operator

import pytest
import torch
from topologies import CASES
from torch import nn

from ganshrink import nets
from ganshrink.graph import trace
from ganshrink.pruning import Budget, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.reports.verdict import budget_checks

SAME = {
    "reshape",
    "view",
    "flatten",
    "unsqueeze",
    "squeeze",
    "contiguous",
    "clone",
    "dropout",
    "feature_dropout",
    "to",
}
POINTWISE = {"leaky_relu", "hardswish", "prelu", "batch_norm"}


def peak_of(model, *example):
    """Bytes at the worst step of the graph, for one image: all buffers that are alive there, by brute force."""
    program = torch.export.export(model.eval(), example, strict=False)
    graph = program.graph
    buffer = {n: n for n in graph.nodes if n.name in program.graph_signature.user_inputs}
    inputs, nodes = set(buffer), [n for n in graph.nodes if n.op == "call_function"]
    name = {n: getattr(n.target, "_opname", "") for n in nodes}
    for node in nodes:
        sources = [s for s in node.all_input_nodes if s in buffer]
        if sources and name[node] != "new_zeros":
            in_place = name[node] in SAME or name[node].endswith("_")
            buffer[node] = buffer.get(node.args[0], node) if in_place else node
    reads = [{buffer[s] for s in n.all_input_nodes if n in buffer and s in buffer} for n in nodes]
    order = {n: at for at, n in enumerate(nodes)}
    made = [order[n.all_input_nodes[0] if n.target is operator.getitem else n] for n in nodes]
    held = [(buffer[n], at) for n, at in zip(nodes, made, strict=True) if n in buffer]
    kept = inputs | {buffer[n] for n in graph.output_node().all_input_nodes}
    peak = 0
    for at, node in enumerate(nodes):
        later = kept.union(*reads[at + 1 :])
        before = inputs | {b for b, born in held if born < at}
        own = {b for b, born in held if born == at}
        alive = {b for b in before if b in later | reads[at]}
        tags = getattr(node.target, "tags", ())
        if torch.Tag.pointwise in tags or name[node] in POINTWISE:
            spent = [
                buffer[s]
                for s in node.all_input_nodes
                if s in buffer and buffer[s] not in later and s.meta["val"].shape == node.meta["val"].shape
            ]
            if own and own.isdisjoint(alive):
                alive -= set(spent[:1])
        peak = max(peak, sum(map(_bytes, alive | own)) + _columns(node, name[node]))
    return peak


def _columns(node, name):
    """Channels of one group, kernel and pixels of the input: the product that a transposed convolution adds up."""
    if name != "conv_transpose2d":
        return 0
    x, weight = (n.meta["val"] for n in node.args[:2])
    return 4 * weight[0].numel() * x[0, 0].numel() * len(x)


def _bytes(node):
    value = node.meta["val"]
    return value.nbytes if isinstance(value, torch.Tensor) and value.ndim else 0


def cut(channels):
    """A plan of half the channels, without every second one of the branches that may go."""
    keep = Plan.random(channels, 0.5).keep
    for group in [g for g in channels.groups if g.removable][::2]:
        keep[group.atoms] = False
    return Plan(keep)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("resnet9", {"blocks": 1}),
        pytest.param("unet256", {"downs": 5}, marks=pytest.mark.exhaustive),
        pytest.param("incres9", {"blocks": 1}, marks=pytest.mark.exhaustive),
    ],
)
def test_to_the_byte(net, options):
    torch.manual_seed(0)
    model, x = nets.build(net, ngf=8, **options), torch.zeros(1, 3, 32, 32)
    channels = trace(model, x)
    assert channels.cost().memory == peak_of(model, x)
    assert channels.cost(cut(channels)).memory == peak_of(extract(model, channels, cut(channels)), x)


@pytest.mark.parametrize(
    "name",
    ["split into unequal parts", "activations in place", "two inputs and three outputs"],
)
def test_views_pieces_and_several_outputs(name):
    torch.manual_seed(0)
    model, example = CASES[name].make().eval(), [torch.randn(shape) for shape in CASES[name].shapes]
    channels = trace(model, *example)
    plan = Plan.random(channels, 0.5)
    assert channels.cost().memory == peak_of(model, *example) / len(example[0])
    assert channels.cost(plan).memory == peak_of(extract(model, channels, plan), *example) / len(example[0])


class Wide(nn.Module):
    """Eight channels in and out, sixteen in between, where the peak is; part of it without gradients."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        with torch.no_grad():
            h = self.first(x)
            return self.last(h.relu() * x.mean())


def test_counted_by_hand():
    channels = trace(Wide().double(), torch.zeros(3, 8, 4, 4).double())
    assert channels.cost().memory == 4 * 16 * (
        8 + 16 + 8
    )  # the input stays, the product is in the place of `h`
    assert channels.cost(Plan.random(channels, 0.5)).memory == 4 * 16 * (8 + 8 + 8)


def test_a_limit_holds_and_says_what_is_the_least():
    channels = trace(nets.build("resnet9", ngf=8, blocks=1), torch.zeros(1, 3, 16, 16))
    whole, scores = channels.cost().memory, torch.rand(channels.num_atoms)
    for text in ("memory=60%", "memory=60%,macs=30%", f"macs=90%, memory={whole // 2}B"):
        plan = bisect_threshold(channels, scores, text)
        limits = Budget.parse(text).resolve(channels)
        assert limits.allows(channels, plan) and limits.numbers()["memory"] < whole
    with pytest.raises(ValueError, match="memory=.*smallest"):
        bisect_threshold(channels, scores, "memory=1kB")


def test_the_report_tells_a_limit_of_memory():
    cost = {
        "budget": {"given": "memory=2MB", "resolved": {"memory": 2_000_000}},
        "student": {"memory": 1_900_000},
    }
    [check] = budget_checks({"cost.json": cost})
    assert (check.state, check.sentence) == (
        "met",
        "The budget memory=2MB (2.00 MB of activations) is met: 1.90 MB.",
    )
    del cost["student"]["memory"]  # of a run that did not count it
    assert budget_checks({"cost.json": cost}) == []
