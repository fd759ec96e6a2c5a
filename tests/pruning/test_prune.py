"""`prune`: from a network and a budget to a plan, without training."""

import pytest
import torch
from torch import nn

from ganshrink import prune, trace
from ganshrink.pruning.scores import norm_scale


def network(*, affine: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(16, affine=affine), nn.ReLU(), nn.Conv2d(16, 3, 3)
    )


def test_it_keeps_the_largest_scales_that_fit():
    model = network(affine=True)
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(16.0).roll(5))
    channels = trace(model, torch.zeros(1, 3, 12, 12))
    plan = prune(model, channels, "params=50%", round_to=4)
    [group] = [group for group in channels.groups if group.frozen is None]
    kept = plan.keep[group.atoms]
    assert model[1].weight[kept].sort().values.tolist() == [8, 9, 10, 11, 12, 13, 14, 15][-int(kept.sum()) :]
    assert kept.sum() % 4 == 0 and channels.cost(plan).params <= channels.cost().params // 2


def test_without_scales_it_ranks_by_the_weights():
    model = network(affine=False)
    channels = trace(model, torch.zeros(1, 3, 12, 12))
    plan = prune(model, channels, "macs=50%")
    scores = norm_scale(model, channels)
    assert scores[plan.keep].min() > scores[~plan.keep].max()
    strength = model[0].weight.flatten(1).norm(dim=1)
    [group] = [group for group in channels.groups if group.frozen is None]
    kept = plan.keep[group.atoms]
    assert strength[kept].min() > strength[~kept].max()


def test_a_budget_that_cannot_be_met_names_the_smallest_cost():
    model = network(affine=True)
    channels = trace(model, torch.zeros(1, 3, 12, 12))
    with pytest.raises(ValueError, match="cannot be met; the smallest reachable cost is macs="):
        prune(model, channels, "macs=1")
