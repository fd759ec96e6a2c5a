import math

import pytest
import torch
from torch import nn

from ganshrink.training import adam, sgd
from ganshrink.training.optim import cosine_factor, decay_factor, linear_from_half_factor, set_learning_rate


def test_the_schedule_is_the_field_s():
    """1 - max(0, e + 1 - N) / (N_decay + 1), epochs from 0."""
    factors = [decay_factor(e, epochs=3, decay_epochs=4) for e in range(7)]
    assert factors == pytest.approx([1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])


def test_the_last_epoch_s_factor_is_one_over_the_decay_plus_one():
    assert decay_factor(199, epochs=100, decay_epochs=100) == pytest.approx(1 / 101)


def test_without_decay_the_rate_is_constant_and_it_never_falls_below_zero():
    assert [decay_factor(e, epochs=5, decay_epochs=0) for e in range(5)] == [1] * 5
    assert decay_factor(50, epochs=5, decay_epochs=2) == 0


def test_rates_scale_from_each_group_s_own_and_do_not_compound():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.2}])
    for epoch in (0, 1, 2, 2, 3):
        set_learning_rate([optimizer], epoch, epochs=1, decay_epochs=3)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.025, 0.05])


def test_the_cosine_is_torch_s():
    weight = nn.Parameter(torch.ones(1))
    ours, theirs = sgd([weight], lr=0.1, schedule="cosine"), torch.optim.SGD([weight], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=10)
    for epoch in range(10):
        set_learning_rate([ours], epoch, epochs=7, decay_epochs=3)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    assert cosine_factor(5, epochs=0, decay_epochs=10) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_linear_from_half_stays_for_half_of_all_epochs_and_falls_to_zero_after_the_last():
    factors = [linear_from_half_factor(e, epochs=8, decay_epochs=0) for e in range(9)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_optimizers_of_one_update_keep_schedules_of_their_own():
    a, b = (
        adam([nn.Parameter(torch.ones(1))], lr=1.0),
        sgd([nn.Parameter(torch.ones(1))], lr=1.0, schedule="cosine"),
    )
    set_learning_rate([a, b], 2, epochs=2, decay_epochs=2)
    assert a.param_groups[0]["lr"] == pytest.approx(2 / 3)
    assert b.param_groups[0]["lr"] == pytest.approx(0.5)


def test_adam_has_the_field_s_settings():
    group = adam([nn.Parameter(torch.ones(1))]).param_groups[0]
    assert group["lr"] == 2e-4 and group["betas"] == (0.5, 0.999)
