"""GAN Slimming's quantizers against transcriptions of its equations, one number at a time."""

import math

import pytest
import torch

from ganshrink.quant import QuantConfig, quantize_activation, quantize_weight
from ganshrink.quant.grid import fitted_grid, observed_grid


def equation_7(a: float, m: int, p: float) -> float:
    return round(min(max(0.0, a), p) / (p / 2**m)) * (p / 2**m)


def equation_8(w: float, largest: float, steps: int) -> float:
    return round(w / (largest / steps)) * (largest / steps)


@pytest.mark.parametrize(("bits", "limit"), [(8, 4.0), (4, 4.0), (2, 1.5), (8, 6.0)])
def test_activations_as_in_equation_7(bits, limit):
    torch.manual_seed(0)
    a = torch.cat([torch.randn(500) * limit, torch.tensor([0.0, limit, -limit, 2 * limit, limit / 2])])
    expected = torch.tensor([equation_7(x, bits, limit) for x in a.tolist()])
    assert torch.equal(quantize_activation(a, bits=bits, limit=limit), expected)


def test_both_ends_of_activations_count():
    """257 levels for 8 bits, as printed: not a byte."""
    everything = torch.linspace(0, 4, 100_001)
    assert len(quantize_activation(everything).unique()) == 257
    assert quantize_activation(torch.tensor(9.0)) == 4


def test_gradients_of_activations_as_in_equation_9():
    a = torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 2.0, 4.0, 4.0001, 9.0], requires_grad=True)
    (quantize_activation(a) * torch.arange(1.0, 9.0)).sum().backward()
    assert a.grad.tolist() == [0, 0, 3, 4, 5, 6, 0, 0]


@pytest.mark.parametrize("bits", [8, 5, 2])
@pytest.mark.parametrize("levels", ["paper", "code"])
def test_weights_as_in_equation_8(bits, levels):
    torch.manual_seed(0)
    w = torch.randn(3, 4, 3, 3)
    steps = 2 ** (bits - 1) - (levels == "code")
    largest = float(w.abs().max())
    expected = [equation_8(x, largest, steps) for x in w.flatten().tolist()]
    found = quantize_weight(w, bits=bits, levels=levels)
    torch.testing.assert_close(found.flatten(), torch.tensor(expected), atol=1e-6, rtol=0)
    assert found.abs().max() == pytest.approx(largest)
    assert len(found.unique()) <= 2 * steps + 1


def test_the_gradient_of_weights_is_one():
    w = torch.randn(2, 3, 3, 3, requires_grad=True)
    (quantize_weight(w) * 3).sum().backward()
    assert torch.equal(w.grad, torch.full_like(w, 3))


def test_a_weight_of_zeros_stays_one():
    assert torch.equal(quantize_weight(torch.zeros(2, 2)), torch.zeros(2, 2))


def test_autocast_does_not_reach_the_levels():
    torch.manual_seed(0)
    a = torch.rand(1000) * 4
    with torch.autocast("cpu", torch.bfloat16):
        found = quantize_activation(a.bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, quantize_activation(a.bfloat16().float()))


def test_an_observed_grid_holds_zero_and_both_ends():
    grid = observed_grid(8, torch.tensor(-1.0), torch.tensor(3.0))
    ends = grid.round(torch.tensor([-9.0, 0.0, 9.0]))
    assert ends[1] == 0 and grid.zero == 64
    torch.testing.assert_close(ends[[0, 2]], torch.tensor([-1.0, 3.0]), atol=grid.scale / 2, rtol=0)


def test_outliers_do_not_make_the_steps_coarse():
    torch.manual_seed(0)
    sample = torch.cat([torch.randn(20_000), torch.tensor([100.0])])
    low, high = sample.aminmax()
    grid, snr = fitted_grid(8, low, high, sample)
    whole = observed_grid(8, low, high)
    error, plain = ((g.round(sample) - sample).square().mean() for g in (grid, whole))
    assert error < plain and grid.scale < whole.scale
    assert snr == pytest.approx(10 * math.log10(sample.var(correction=0) / error), abs=1e-3)


@pytest.mark.parametrize("setting", [{"weight_bits": 1}, {"activation_bits": 9}, {"limit": 0}, {"bits": 8}])
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        QuantConfig(**setting)
