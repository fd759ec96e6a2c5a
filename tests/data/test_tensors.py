"""Pairs of tensors as a data set, and held-out parts."""

import pytest
import torch

from ganshrink.data import Images, TensorPairs, check, hold_out, input_spec


def pairs(count: int):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.rand(2, 8, 12, generator=generator), torch.rand(3, 8, 12, generator=generator))
        for _ in range(count)
    ]


def test_pairs_are_a_data_set():
    given = pairs(3)
    images = TensorPairs(given)
    assert isinstance(images, Images) and check(images) == []
    assert (images.in_channels, images.out_channels, images.size) == (2, 3, (8, 12))
    assert torch.equal(images.sample(1, None)["target"], given[1][1])
    assert images.preview(given[0][0]).shape == (8, 12, 3)


def test_the_fingerprint_follows_the_values():
    given = pairs(2)
    before = TensorPairs(given).fingerprint()
    assert TensorPairs([(a.clone(), b.clone()) for a, b in given]).fingerprint() == before
    given[1][0][0, 0, 0] += 1
    assert TensorPairs(given).fingerprint() != before


def test_every_tenth_sample_is_held_out_and_the_rest_is_not():
    given = pairs(21)
    rest, held = hold_out(TensorPairs(given))
    inputs = [[part.sample(i, None)["input"] for i in range(len(part))] for part in (held, rest)]
    assert all(torch.equal(x, given[i][0]) for x, i in zip(inputs[0], (0, 10, 20), strict=True))
    assert len(inputs[1]) == 18 and all(
        torch.equal(x, given[i][0]) for x, i in zip(inputs[1][:3], (1, 2, 3), strict=True)
    )
    assert rest.fingerprint() != held.fingerprint()
    assert input_spec(held) == input_spec(TensorPairs(given))


def test_pairs_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="no pairs"):
        TensorPairs([])
    with pytest.raises(ValueError, match="pair 1 has shapes"):
        TensorPairs([*pairs(1), (torch.zeros(2, 8, 8), torch.zeros(3, 8, 8))])
    with pytest.raises(ValueError, match="at least two samples"):
        hold_out(TensorPairs(pairs(1)))
