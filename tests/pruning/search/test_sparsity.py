"""How hard scales are pulled: what is said of it, and the way down to a budget."""

import math

import pytest
import torch
from torch import nn

from ganshrink.graph import trace
from ganshrink.pruning import Budget, Channels, Plan
from ganshrink.pruning.allocate import bisect_threshold
from ganshrink.pruning.budget import readable
from ganshrink.pruning.search.gates import Gates
from ganshrink.pruning.search.sparsity import ARRIVAL, Sparsity, advice
from ganshrink.training.optim import set_learning_rate, sgd
from telling import rest_exhaustive

ETA = 0.1


@pytest.fixture(scope="module")
def channels() -> Channels:
    return trace(network(), torch.zeros(2, 6))


def network() -> nn.Module:
    torch.manual_seed(0)
    widths = (6, 40, 30, 4)
    layers = [nn.Linear(*sides) for sides in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def pulled(
    channels: Channels,
    budget: str,
    *,
    rho: float,
    steered: int | None = None,
    floor: int = 1,
    revive: bool = True,
) -> Sparsity:
    """Scales from 0.5 to 1.5, in no order, that nothing but the pull moves."""
    model, draw = network(), torch.Generator().manual_seed(1)
    initial = 0.5 + torch.rand(channels.num_atoms, generator=draw)
    gates = Gates(model, channels, initial=initial, floor=floor, revive=revive)
    limits = Budget.parse(budget).resolve(channels)
    eta = sgd(gates.scales, lr=ETA, momentum=0.5, schedule="cosine")
    return Sparsity(gates, channels, eta, rho=rho, budget=limits, steered=steered)


def run(sparsity: Sparsity, steps: int, *, first: int = 0, until: int | None = None) -> list[int]:
    """What the live channels cost after each step of a cosine."""
    costs = []
    for number in range(first, steps if until is None else until):
        set_learning_rate([sparsity.optimizer], number, epochs=steps, decay_epochs=0)
        sparsity.step(number)
        costs.append(macs(sparsity))
    return costs


def macs(sparsity: Sparsity) -> int:
    return sparsity.channels.cost(sparsity.gates.live()).macs


def allowed(sparsity: Sparsity) -> Plan:
    return bisect_threshold(sparsity.channels, sparsity.gates.magnitudes(), sparsity.budget)


def test_the_threshold_is_rho_times_the_present_rate(channels):
    sparsity = pulled(channels, "macs=50%", rho=0.3)
    before = torch.cat([scale.detach().clone() for scale in sparsity.gates.scales])
    run(sparsity, 4, until=3)
    rates = [ETA, ETA * (1 + math.cos(math.pi / 4)) / 2, ETA / 2]
    after = torch.cat([scale.detach() for scale in sparsity.gates.scales])
    torch.testing.assert_close(after, before - 0.3 * sum(rates))
    assert sparsity.rho == 0.3


@pytest.mark.slow
@pytest.mark.parametrize("rho", rest_exhaustive([0.003, 0.05, 1e3], (0.003).__eq__))
@pytest.mark.parametrize("budget", rest_exhaustive(["macs=30%", "params=20%,macs=80%"], "macs=30%".__eq__))
def test_steered_the_cost_follows_a_geometric_path_and_ends_at_the_budget(channels, budget, rho):
    """From too weak a pull, and from one that would kill everything at once."""
    steps = 300
    sparsity = pulled(channels, budget, rho=rho, steered=steps)
    limits = sparsity.budget.numbers()

    def share(plan: Plan) -> float:
        cost = channels.cost(plan)
        return max({"macs": cost.macs, "params": cost.params}[kind] / most for kind, most in limits.items())

    whole, shares = share(Plan.full(channels)), []
    for number in range(steps):
        run(sparsity, steps, first=number, until=number + 1)
        due = whole ** max(0.0, 1 - (number + 1) / (ARRIVAL * steps))
        shares.append(share(sparsity.gates.live()))
        assert shares[-1] >= due * (1 - 1e-12)
    assert shares == sorted(shares, reverse=True)
    magnitudes = sparsity.gates.magnitudes()
    next_one = torch.where(magnitudes > -torch.inf, magnitudes, torch.inf).argmin()
    live = sparsity.gates.live().keep.clone()
    assert share(Plan(live)) >= 1
    live[next_one] = False
    assert share(Plan(live)) <= 1


def test_a_steered_pull_goes_on_where_it_was_saved(channels):
    whole, other = (pulled(channels, "macs=30%", rho=0.01, steered=60) for _ in range(2))
    costs = run(whole, 60)
    run(other, 60, until=25)
    resumed = pulled(channels, "macs=30%", rho=0.01, steered=60)
    resumed.gates.load_state_dict(other.gates.state_dict())
    resumed.load_state_dict(other.state_dict())
    assert run(resumed, 60, first=25) == costs[25:]
    assert resumed.state_dict() == whole.state_dict()
    assert torch.equal(resumed.gates.magnitudes(), whole.gates.magnitudes())


def told_of(sparsity, plan):
    scores, how = sparsity.gates.magnitudes(), sparsity.state_dict()
    return advice(sparsity.channels, scores, plan, sparsity.budget, **how)


def test_over_the_budget_a_larger_rho_is_named_that_would_have_done(channels):
    sparsity = pulled(channels, "macs=30%", rho=0.02)
    spent = run(sparsity, 80)[-1]
    plan = allowed(sparsity)
    told = told_of(sparsity, plan)
    assert spent > channels.cost().macs * 0.3 >= channels.cost(plan).macs
    most = sparsity.budget.numbers()["macs"]
    assert told.startswith(f"the search left channels of macs {readable(spent)} of {readable(most)}: ")
    assert "the smallest scales are cut as well, down to the budget; rho = " in told
    rho = float(told.split("rho = ")[1].split()[0])
    assert rho > 0.02
    again = run(pulled(channels, "macs=30%", rho=rho), 80)[-1]
    assert abs(again - most) < 0.25 * (spent - most)


def test_far_below_the_budget_a_smaller_rho_is_named(channels):
    sparsity = pulled(channels, "macs=60%", rho=0.7)
    spent, most = run(sparsity, 30)[-1], sparsity.budget.numbers()["macs"]
    assert spent < 0.7 * most
    plan, live = allowed(sparsity), sparsity.gates.live()
    assert plan == live  # nothing comes back
    told = told_of(sparsity, plan)
    assert f"far below the budget: a smaller rho, such as {0.7 * spent / most:.2g}, would keep more" in told


def test_within_the_budget_nothing_else_is_named(channels):
    sparsity = pulled(channels, "macs=100%", rho=0.01)
    run(sparsity, 10)
    assert told_of(sparsity, allowed(sparsity)).endswith(", which is within the budget")


def test_a_dead_channel_that_momentum_moves_does_not_stand_in_for_the_last_living_one(channels):
    """Its scale is not zero when the next pull comes, but the channel is gone for good."""
    sparsity = pulled(channels, "macs=50%", rho=0.0, floor=2, revive=False)
    gates = sparsity.gates
    gates.shrink(1.0)
    dead = gates.dead.clone()
    with torch.no_grad():
        for scale in gates.scales:
            scale += 5.0 * (scale == 0)
    gates.shrink(4.0)
    assert (gates.dead >= dead).all()
    for group in gates.groups:
        assert gates.live().keep[group.atoms].sum() == 2
