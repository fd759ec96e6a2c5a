import numpy as np
import pytest
import torch

from ganshrink.data import Images, SyntheticFacades, check
from ganshrink.data.images import is_paired, num_inputs


class Own:
    """A user's data set, with one thing changed."""

    in_channels = out_channels = 3
    size = (4, 4)

    def __init__(self, **changes):
        self.changes = changes

    def __len__(self):
        return 1

    def sample(self, index, rng):
        return {"input": torch.zeros(3, 4, 4), "target": torch.zeros(3, 4, 4), "name": "0", **self.changes}

    def fingerprint(self):
        return "own"

    def preview(self, input):
        return np.zeros((4, 4, 3), np.uint8)


def test_a_users_own_data_set_is_one_of_images():
    assert isinstance(Own(), Images) and check(Own()) == []
    assert issubclass(SyntheticFacades, object) and not isinstance(object(), Images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": torch.zeros(1, 4, 4)}, "'input' is (1, 4, 4)"),
        ({"target": torch.full((3, 4, 4), 255.0)}, "'target' reaches 255"),
        ({"target": torch.full((3, 4, 4), float("nan"))}, "'target' reaches nan"),
        ({"input": torch.zeros(3, 4, 4, dtype=torch.uint8)}, "'input' must be a float32 tensor"),
        ({"name": 0}, '"name" must be a string'),
    ],
)
def test_the_first_sample_of_any_data_set_is_looked_at(changes, message):
    (problem,) = check(Own(**changes))
    assert message in problem


def test_a_set_is_paired_and_all_inputs_unless_it_says_otherwise():
    class Unpaired(Own):
        paired, num_inputs = False, 0

    assert (is_paired(Own()), num_inputs(Own())) == (True, 1)
    assert (is_paired(Unpaired()), num_inputs(Unpaired())) == (False, 0)


def test_a_set_of_inputs_alone_is_one_too():
    class Inputs(Own):
        def sample(self, index, rng):
            return {"input": torch.zeros(3, 4, 4), "name": "0", **self.changes}

    assert isinstance(Inputs(), Images) and check(Inputs()) == []
    (problem,) = check(Inputs(input=torch.full((3, 4, 4), 2.0)))
    assert "'input' reaches 2" in problem
