import math

import pytest
import torch

from ganshrink.data import InputsAlone, TensorInputs, TensorPairs, input_spec, joined
from ganshrink.data.unlabelled import labelled_indices


@pytest.mark.parametrize(("count", "expected"), [(2975, [298, 744, 1488]), (47977, [4798, 11994, 23989])])
def test_shares_of_the_papers_data_sets(count, expected):
    """10, 25 and 50 % of Cityscapes and of edges2shoes (UGC, section 4.1)."""
    indices = [labelled_indices(count, fraction) for fraction in (0.1, 0.25, 0.5)]
    assert [len(part) for part in indices] == expected
    assert set(indices[0]) < set(indices[1]) < set(indices[2]) < set(range(count))
    assert all(part == sorted(set(part)) for part in indices)


def test_a_half_is_rounded_up_as_it_is_written_not_as_it_is_in_binary():
    assert 0.29 * 50 < 14.5 and len(labelled_indices(50, 0.29)) == 15
    assert len(labelled_indices(3, 0.5)) == 2


def test_the_choice_belongs_to_the_seed():
    first = labelled_indices(100, 0.5)
    assert first == labelled_indices(100, 0.5, seed=0) != labelled_indices(100, 0.5, seed=1)
    assert 10 < len(set(first) & set(range(50))) < 40  # from everywhere
    assert labelled_indices(100, 1.0, seed=7) == list(range(100))


@pytest.mark.parametrize("count", [1, 3, 300, 2975, 47977])
def test_the_least_share_that_the_error_names_leaves_one(count):
    with pytest.raises(ValueError, match=f"leaves none of the {count} training pairs") as error:
        labelled_indices(count, 0.49 / count)
    least = float(str(error.value).split("at least ")[1].removesuffix("%")) / 100
    assert len(labelled_indices(count, least)) == 1
    assert math.isclose(least, 0.5 / count, rel_tol=0.1)


def test_pairs_without_their_targets():
    pairs = [((torch.full((3, 8, 8), i / 4), torch.tensor(i)), torch.zeros(3, 8, 8)) for i in range(3)]
    images, alone = TensorPairs(pairs), InputsAlone(TensorPairs(pairs))
    assert set(alone.sample(2, None)) == {"input", "name"}
    assert alone.sample(2, None)["input"][1] == 2
    assert (len(alone), alone.in_channels, alone.size) == (3, 3, (8, 8))
    assert alone.fingerprint() == images.fingerprint() and input_spec(alone) == input_spec(images)


def test_sets_are_joined_in_order():
    one, two = (TensorInputs([torch.full((3, 8, 8), (10 * k + i) / 100) for i in range(k)]) for k in (2, 3))
    both = joined(None, one, two)
    found = [round(100 * float(both.sample(i, None)["input"][0, 0, 0])) for i in range(len(both))]
    assert found == [20, 21, 30, 31, 32]
    assert joined(None, one, None) is one and joined(None, None) is None
    assert both.fingerprint() != joined(two, one).fingerprint()


def test_joined_sets_hold_what_all_of_them_hold():
    """Else a batch of samples from both could not be stacked."""
    inputs, pairs = (
        TensorInputs([torch.zeros(3, 8, 8)]),
        TensorPairs([(torch.ones(3, 8, 8), torch.ones(3, 8, 8))]),
    )
    assert [set(joined(pairs, inputs).sample(i, None)) for i in range(2)] == [{"input", "name"}] * 2
    assert "target" in joined(pairs, pairs).sample(1, None)
