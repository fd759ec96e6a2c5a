"""Zero equivalence: cut networks compute what the whole ones do with the same channels at zero, or nothing is cut."""

import re

import pytest
import torch
from topologies import CASES, Case
from torch import nn

from ganshrink.graph import trace
from ganshrink.pruning import Plan, extract, zeroed
from telling import rest_exhaustive


def shaken(model: nn.Module) -> nn.Module:
    """Norms with random statistics, scales and shifts, so that a forgotten one shows."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias)
    return model.eval()


def difference(one: object, other: object) -> float:
    if isinstance(one, torch.Tensor):
        return float((one - other).abs().max() / other.abs().max().clamp_min(1e-12))
    if isinstance(one, dict):
        one, other = list(one.values()), list(other.values())
    return max(difference(a, b) for a, b in zip(one, other, strict=True))


def assert_as_expected(case: Case, channels) -> None:
    groups = {g.name: g for g in channels.groups}
    for name in case.free:
        assert groups[name].frozen is None, f"{name}: {groups[name].frozen}"
    for name, reason in case.frozen.items():
        assert re.search(reason, groups[name].frozen or "it is free"), f"{name}: {groups[name].frozen}"


# one of each kind
TOLD = {
    "nested residual", "dense concat", "u-net", "glu by chunk", "slice by a literal",
    "depthwise with a multiplier", "grouped transposed",
    "shared convolution called twice", "tied weights", "three-dimensional",
    "instance norm with running statistics", "group norm", "squeeze and excitation", "raw parameter",
    "spade", "self-attention with sizes from x.shape", "einsum", "channel shuffle", "flatten to a linear",
    "unfold", "exp before a convolution", "dropout", "two inputs and three outputs", "recurrent",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_exhaustive(CASES, TOLD.__contains__))
def test_extracted_equals_zeroed(name):
    torch.manual_seed(0)
    case = CASES[name]
    model = shaken(case.make())
    example = [torch.randn(shape) for shape in case.shapes]
    channels = trace(model, *example)
    assert_as_expected(case, channels)
    whole = sum(p.numel() for p in zeroed(model, channels, Plan.full(channels)).parameters())
    assert channels.cost().params == whole
    for seed, removed in enumerate((0.3, 0.5, 0.9)):
        plan = Plan.random(channels, removed, seed=seed)
        student, reference = extract(model, channels, plan), zeroed(model, channels, plan)
        with torch.no_grad():
            fresh = [torch.randn(shape) for shape in case.shapes]
            assert difference(student(*fresh), reference(*fresh)) < 1e-5
        params = sum(p.numel() for p in student.parameters())
        assert channels.cost(plan).params == params
        assert not case.free or params < whole
