"""Whatever a user brings: cut exactly, as far as is said here, or refused in one line. And never touched."""

import copy
import re
from typing import Any

import pytest
import torch
import wild_attention
import wild_shapes
import wild_sharing
from test_topologies import shaken
from topologies import conv
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from wild import WILD, Wild, drawn

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

assert wild_attention and wild_shapes and wild_sharing  # they fill the table
REFUSED = [name for name, case in WILD.items() if case.refused]
TRACED = [name for name, case in WILD.items() if not case.refused]
# one of each kind of operator, norm, weight and sharing
TOLD = {
    "maxout", "softmax over channels", "width by hand over channels",
    "rms norm by hand", "fold and unfold",
    "max unpool", "complex numbers",
    "literal constants", "optional inputs, keywords, dictionaries", "a branch on the width",
    "a width as an output", "lists of parameters and modules", "a kernel that is computed",
    "strided and frozen weights", "unused modules and parameters",
    "one convolution on two producers",
    "one module under two names", "tied transposed convolution",
    "slices assigned by half", "custom parametrizations, two deep", "weight norm called twice",
}  # fmt: skip


def flat(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [t for part in tree for t in flat(part)]
    return [tree] if isinstance(tree, torch.Tensor) else []


def apart(one: nn.Module, other: nn.Module, inputs: list[torch.Tensor]) -> float:
    """The largest difference of their outputs in evaluation, of the output's size; noise drawn inside is the same."""
    outputs = []
    for net in (one, other):
        torch.manual_seed(1)
        with torch.no_grad():
            outputs.append(flat(copy.deepcopy(net).eval()(*(t.clone() for t in inputs))))
    assert [t.shape for t in outputs[0]] == [t.shape for t in outputs[1]]
    assert outputs[0]
    return max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in zip(*outputs, strict=True)
    )


def state(model: nn.Module) -> tuple[Any, ...]:
    """All of it that may not change."""
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [(name, id(p), p.requires_grad, p.grad, p.stride()) for name, p in model.named_parameters()],
        [(name, type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
         for name, m in model.named_modules()],
    )  # fmt: skip


def assert_untouched(model: nn.Module, before: tuple[Any, ...]) -> None:
    tensors, *rest = state(model)
    assert tensors.keys() == before[0].keys()
    assert all(torch.equal(tensors[name], before[0][name]) for name in tensors)
    assert rest == list(before[1:])


def plans(channels):
    """Random cuts of all depths, then with every other branch that may go empty."""
    for seed, removed in enumerate((0.15, 0.5, 0.9)):
        yield Plan.random(channels, removed, seed=seed)
    removable = [group.atoms for group in channels.groups if group.removable]
    if removable:
        keep = Plan.random(channels, 0.5).keep
        keep[torch.cat(removable[::2])] = False
        yield Plan(keep)


def assert_trains(student: nn.Module, inputs: list[torch.Tensor]) -> None:
    outputs = flat(student.train()(*inputs))
    trained = [p for p in student.parameters() if p.requires_grad]
    sum(t.sum() for t in outputs if t.requires_grad).backward()
    assert any(p.grad is not None for p in trained)
    assert all(p.grad is None or p.grad.shape == p.shape for p in trained)


def counted(net: nn.Module, inputs: list[Any]) -> int:
    """Multiply-accumulates per image, products of activations among them."""
    images = next((t.shape[0] for t in inputs if isinstance(t, torch.Tensor) and t.ndim), 1)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # whose products nobody counts
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy.deepcopy(net).eval()(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2 // images


@pytest.mark.parametrize("name", rest_exhaustive(TRACED, TOLD.__contains__))
def test_cut_exactly(name):
    torch.manual_seed(0)
    case: Wild = WILD[name]
    model = shaken(case.make()).train()
    example, before, seed = drawn(case.shapes), state(model), torch.get_rng_state()
    channels = trace(model, *example)
    assert channels.prunable == case.prunable, [(g.name, len(g), g.frozen) for g in channels.groups]
    frozen = {group.name: group.frozen for group in channels.groups}
    assert all(re.search(reason, frozen[group] or "free") for group, reason in case.frozen.items()), frozen
    assert all(frozen[group] for group in frozen if case.prunable == 0)
    cuts = [(extract(model, channels, plan), zeroed(model, channels, plan), plan) for plan in plans(channels)]
    assert_untouched(model, before)
    assert torch.equal(seed, torch.get_rng_state())
    for student, reference, plan in cuts:
        for shapes in (case.shapes, case.other or case.shapes):
            assert apart(student, reference, drawn(shapes)) < 1e-5
        macs, example = channels.cost(plan).macs, drawn(case.shapes)
        products = counted(student, example)  # an einsum over a single channel is not counted as one
        assert 0.999 * macs <= products <= macs + channels.attention_macs
        params = sum(p.numel() for p in student.parameters())
        assert channels.cost(plan).params == params
        assert all(p.numel() for p in student.parameters())
    whole = extract(model, channels, Plan.full(channels))
    assert apart(whole, model, drawn(case.shapes)) < 1e-5
    assert_trains(cuts[1][0], drawn(case.shapes))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    case: Wild = WILD[name]
    with pytest.raises(ValueError, match=case.refused) as caught:
        trace(case.make(), *drawn(case.shapes))
    assert "\n" not in str(caught.value)


def test_hooks_are_part_of_the_network():
    torch.manual_seed(0)
    seen = []
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    model[0].register_forward_pre_hook(lambda module, inputs: seen.append(module is model[0]))
    before, x = state(model), torch.randn(1, 3, 8, 12)
    channels = trace(model, x)
    plan = Plan.random(channels, 0.5)
    student = extract(model, channels, plan)
    assert apart(student, zeroed(model, channels, plan), [x]) < 1e-6
    assert len(student[0]._forward_hooks) == 1
    assert not any(seen)  # only copies ran
    assert_untouched(model, before)


def test_gradients_and_cached_results_stay_with_the_users_model():
    torch.manual_seed(0)
    model = wild_shapes.Caching()
    x = torch.randn(1, 3, 8, 12)
    model(x).sum().backward()
    features, grads = model.features, [p.grad.clone() for p in model.parameters()]
    channels = trace(model, x)
    student = extract(model, channels, Plan.random(channels, 0.5))
    assert model.features is features
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert all(p.grad is None for p in student.parameters())
