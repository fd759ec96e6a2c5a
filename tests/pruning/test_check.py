"""What the check of a cut network sees, on networks that differ in a known way."""

import pytest
import torch
from torch import nn

from ganshrink.pruning.check import finite, mismatch, training_failure

X = (torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


class Does(nn.Module):
    def __init__(self, run) -> None:
        super().__init__()
        self.run, self.scale = run, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize(
    ("small", "big", "said"),
    [
        (lambda s, x: x, lambda s, x: (x, x), "it has 1 outputs instead of 2"),
        (lambda s, x: x[:, :1], lambda s, x: x, "an output is (1, 1, 8, 8) instead of (1, 3, 8, 8)"),
        (lambda s, x: (x, 3), lambda s, x: (x, 4), "an output is 3 instead of 4"),
        (lambda s, x: x + 1e-2, lambda s, x: x, "off by"),
        (
            lambda s, x: x.view(-1, 7),
            lambda s, x: x,
            "it fails with RuntimeError: shape '[-1, 7]' is invalid",
        ),
        (lambda s, x: (x, x[:, :0]), lambda s, x: (x, x[:, :0]), None),
    ],
)
def test_what_a_network_puts_out_is_compared(small, big, said):
    found = mismatch(Does(small), Does(big), {}, X)
    assert found is None if said is None else said in found


def test_half_precision_is_compared_in_float32():
    """In which a scale of 1 and an eighth is exact, and one of a third is as far off as it was rounded."""
    whole, same = Does(lambda s, x: x * s.scale).half(), Does(lambda s, x: x * s.scale).half()
    with torch.no_grad():
        whole.scale.fill_(1.125)
    assert mismatch(same, whole, {"scale": torch.ones((), dtype=torch.float16)}, (X[0].half(),)) is None
    assert "off by" in mismatch(same, whole, {}, (X[0].half(),))


def test_what_a_cut_breaks_in_training_alone_is_told():
    def fails(s, x):
        return x.view(-1, 7) if s.training else x

    told = training_failure(Does(fails), Does(lambda s, x: x), X)
    assert told.startswith("in training it fails with RuntimeError: shape '[-1, 7]' is invalid")
    assert training_failure(Does(lambda s, x: x), Does(fails), X) is None
    assert training_failure(Does(fails), Does(fails), X) is None  # the cut is not to blame


def test_finite_asks_the_smallest_example_that_runs():
    def too_small(s, x):
        if x.shape[2] < 32:
            raise ValueError("too small")
        return x / (x.shape[2] - 32)

    assert finite(Does(lambda s, x: x), X) and not finite(Does(lambda s, x: x / 0), X)
    assert not finite(Does(too_small), X)
    assert not finite(Does(too_small), (torch.randn(1, 3, 32, 32),))
    assert finite(Does(too_small), (torch.randn(1, 3, 64, 64),)) is False  # at 32, before 64
