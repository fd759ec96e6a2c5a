"""Intervals over seeds and pictures: what is known of them in closed form, and that ties are called ties."""

import numpy as np
import pytest

from ganshrink.comparison.bootstrap import Sample, difference, interval, places, spread


def sample(means, *, noise=0.0, draws=4000, seed=0):
    """One entry of several seeds; all of them move with the pictures drawn, which are the same for every entry."""
    pictures = np.random.default_rng(99).normal(size=draws) * noise
    own = np.random.default_rng(seed).normal(size=(len(means), draws)) * 0
    return Sample(np.array(means, float), np.array(means, float)[:, None] + pictures + own)


def test_pictures_that_both_share_cancel_in_a_difference():
    better, worse = sample([30.5], noise=3), sample([30.0], noise=3)
    assert interval(better).low < 30.0 < interval(better).high
    assert (difference(better, worse).low, difference(better, worse).high) == pytest.approx((0.5, 0.5))


def test_the_interval_over_seeds_is_that_of_their_mean():
    """Of two seeds drawn with replacement the mean is low, middle or high with probabilities 1/4, 1/2, 1/4."""
    found = interval(sample([1.0, 3.0]))
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    middle = sample([1.0, 3.0]).drawn
    assert middle.shape == (2, 4000)


def test_the_width_of_a_mean_s_interval_is_that_of_its_standard_error():
    values = np.random.default_rng(1).normal(size=400)
    rng = np.random.default_rng(2)
    drawn = np.array([rng.choice(values, 400).mean() for _ in range(1000)])
    found = interval(Sample(values.mean()[None], drawn[None]))
    error = values.std(ddof=1) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_ties_stand_together_and_are_ranked_by_the_first_of_them():
    samples = {
        "best": sample([40.0, 40.4]),
        "as good": sample([39.8, 40.5]),
        "worse": sample([35.0, 35.2]),
        "worst": sample([20.0]),
    }
    assert places(samples, higher=True) == [["best", "as good"], ["worse"], ["worst"]]
    assert places(samples, higher=False) == [["worst"], ["worse"], ["as good", "best"]]


def test_the_spread_over_seeds_is_unbiased_and_not_known_of_one():
    assert spread([1.0, 3.0]) == pytest.approx(2**0.5)
    assert spread([1.0]) is None


def test_of_one_seed_and_a_metric_that_keeps_no_pictures_nothing_is_known():
    def bare(*values):
        return Sample(np.array(values), np.repeat(np.array(values)[:, None], 100, axis=1), by_picture=False)

    assert not difference(bare(9.0), bare(1.0)).excludes_zero
    assert places({"a": bare(9.0), "b": bare(1.0)}, higher=True) == [["a", "b"]]
    assert difference(bare(9.0, 9.5), bare(1.0)).excludes_zero
    assert difference(bare(9.0, 9.5), bare(1.0, 1.5)).excludes_zero
    assert not difference(bare(9.0), bare(1.0, 1.5)).excludes_zero
