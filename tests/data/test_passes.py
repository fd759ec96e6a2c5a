"""Whole sets in order, and some images spread over a set."""

import pytest
import torch

from ganshrink.data import TensorInputs, passes
from ganshrink.data.passes import remembered, spread_indices, spread_inputs


def test_places_are_spread_and_all_where_there_are_no_more():
    assert spread_indices(12, 3) == [0, 4, 8]
    assert spread_indices(10, 4) == [0, 2, 5, 7]
    assert spread_indices(12, 12) == spread_indices(12, 512) == list(range(12))
    assert spread_indices(0, 5) == spread_indices(5, 0) == []


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_inputs_are_spread_over_the_set(batch_size):
    everything = [torch.full((3, 2, 2), index / 12) for index in range(12)]
    batches = list(spread_inputs(TensorInputs(everything), 3, batch_size=batch_size))
    assert torch.equal(torch.cat([images for (images,) in batches]), torch.stack(everything[::4]))
    assert [len(images) for (images,) in batches] == {1: [1, 1, 1], 2: [2, 1], 8: [3]}[batch_size]


@pytest.mark.parametrize(("room", "times"), [(1000, 1), (47, 4)])
def test_small_batches_are_read_once_and_large_ones_at_every_pass(monkeypatch, room, times):
    """Of 48 bytes."""
    monkeypatch.setattr(passes, "REMEMBERED", room)
    read = []

    def batches():
        for number in range(3):
            read.append(number)
            yield {"input": torch.full((2, 2), float(number)), "paired": False}

    again = remembered(batches)
    for _ in range(3):
        assert [float(batch["input"].mean()) for batch in again()] == [0, 1, 2]
    assert read[:3] == [0, 1, 2] and read.count(0) == times
