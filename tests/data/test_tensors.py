"""Pairs of tensors as a data set, and held-out parts."""

import pytest
import torch

from ganshrink.data import Images, TensorInputs, TensorPairs, check, hold_out, input_spec


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
    assert images.preview(given[0][0]).shape == (8, 24)  # two channels, side by side


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


def several(count: int):
    """Inputs of three tensors: an image, a smaller map of ids, a style vector."""
    return [
        (image, torch.full((4, 6), place), 100 * torch.ones(5))
        for place, (image, _) in enumerate(pairs(count))
    ]


def test_inputs_alone_are_a_data_set_without_targets():
    given = [image for image, _ in pairs(3)]
    images = TensorInputs(given)
    assert isinstance(images, Images) and check(images) == []
    assert (images.in_channels, images.out_channels, images.size) == (2, 3, (8, 12))
    assert set(images.sample(1, None)) == {"input", "name"}
    assert torch.equal(images.sample(1, None)["input"], given[1])
    assert len(hold_out(TensorInputs(torch.stack(given)))[0]) == 2  # one tensor is a row of them


def test_an_input_of_several_tensors_counts_the_channels_of_its_images():
    inputs, targets = several(3), [target for _, target in pairs(3)]
    for images in (TensorInputs(inputs), TensorPairs(list(zip(inputs, targets, strict=True)))):
        assert check(images) == [] and (images.in_channels, images.size) == (2, (8, 12))
        found = images.sample(2, None)["input"]
        assert all(torch.equal(a, b) for a, b in zip(found, inputs[2], strict=True))
        assert [tensor.dtype for tensor in found] == [torch.float32, torch.int64, torch.float32]
        assert check(hold_out(images)[0]) == []


def test_an_input_may_hold_no_image():
    images = TensorPairs([(torch.randn(5), target) for _, target in pairs(2)])
    assert check(images) == [] and images.in_channels == 0


def test_types_are_those_wanted_but_no_fraction_becomes_an_id():
    ids, fractions = torch.tensor([1, 0], dtype=torch.uint8), torch.tensor([0.5, 1])
    images = TensorInputs([(ids, ids, fractions)], dtypes=[torch.int64, torch.float32, torch.int64])
    found = images.sample(0, None)["input"]
    assert [tensor.dtype for tensor in found] == [torch.int64, torch.float32, torch.float32]
    assert torch.equal(found[2], fractions)


def test_the_fingerprint_of_inputs_follows_each_tensor():
    before = TensorInputs(several(2)).fingerprint()
    assert TensorInputs(several(2)).fingerprint() == before
    for place in range(3):
        changed = several(2)
        changed[1][place].flatten()[-1] += 1
        assert TensorInputs(changed).fingerprint() != before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "no inputs"),
        (
            [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)],
            r"input 1 has shapes \(3, 8, 9\), input 0 has \(3, 8, 8\)",
        ),
        ([(torch.zeros(3), "a.png")], "element 0 of the data is Tensor, str: it must be an input"),
    ],
)
def test_inputs_that_are_none_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        TensorInputs(data)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (torch.zeros(2, 8, 8), r"is a Tensor: it must be \(input, target\)"),
        ((torch.zeros(3, 8, 8),) * 3, r"is a tuple of 3: it must be \(input, target\)"),
        ((torch.zeros(3, 8, 8), torch.zeros(8)), r"has a target \(8,\)"),
    ],
)
def test_elements_that_are_no_pair_are_refused(element, message):
    with pytest.raises(ValueError, match=message):
        TensorPairs([element])


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ((torch.full((3, 8, 8), 2.0), torch.zeros(5)), "input 0 reaches 2: scale it"),
        ((torch.zeros(3, 8, 8), torch.full((5,), float("nan"))), "input 1 holds NaN"),
        ((torch.zeros(3, 8, 8), torch.zeros(5, dtype=torch.float64)), "input 1 is torch.float64: it must be"),
    ],
)
def test_the_tensors_of_an_input_are_looked_at(input, message):
    dtypes = [tensor.dtype for tensor in input]
    (problem,) = check(TensorInputs([input], dtypes=dtypes))
    assert message in problem
