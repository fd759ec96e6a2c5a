import itertools
import threading

import numpy as np
import pytest
import torch

from ganshrink.data import Batches, DataConfig, PairedWithUnlabelled, SyntheticFacades, TensorInputs
from telling import rest_exhaustive


class Numbers:
    """Ten samples that hold their index and a draw from their augmentation."""

    in_channels = out_channels = 1
    size = (1, 1)

    def __init__(self, count=10, broken=None):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def sample(self, index, rng):
        if index == self.broken:
            raise ValueError(f"cannot use image {index}.png: it is broken")
        draw = rng.integers(2**40)
        return {"input": torch.tensor([[[float(index)]]]), "draw": torch.tensor(draw), "name": str(index)}

    def fingerprint(self):
        return ""

    def preview(self, input):
        return np.zeros((1, 1, 3), np.uint8)


def names(batches, steps):
    return [name for step in range(steps) for name in batches.at(step)["name"]]


def test_the_stream_is_permutation_after_permutation_in_full_batches():
    row = names(Batches(Numbers(), batch_size=4), 10)
    assert len(row) == 40
    epochs = [row[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == sorted(map(str, range(10))) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_several_inputs_are_stacked_each():
    given = [(torch.full((3, 4, 4), i / 10), torch.tensor(i)) for i in range(4)]
    batches = Batches(TensorInputs(given), batch_size=3)
    order = [index for _, index in batches.keys(0)]
    images, ids = batches.at(0)["input"]
    assert images.shape == (3, 3, 4, 4) and ids.tolist() == order
    assert torch.equal(images[1], given[order[1]][0])


def test_a_batch_larger_than_the_data_spans_epochs():
    row = names(Batches(Numbers(3), batch_size=8), 3)
    assert all(sorted(row[i : i + 3]) == ["0", "1", "2"] for i in range(0, 24, 3))


def test_seeds_give_other_orders_and_other_augmentation():
    first, second = (Batches(Numbers(), batch_size=10, seed=seed).at(0) for seed in (0, 1))
    assert first["name"] != second["name"]
    assert set(first["draw"].tolist()).isdisjoint(second["draw"].tolist())


def test_augmentation_belongs_to_epoch_and_index_not_to_the_place_in_a_batch():
    drawn = {}
    for batch_size in (1, 4, 7):
        batches = Batches(Numbers(), batch_size=batch_size)
        for step in range(20 // batch_size):
            batch = batches.at(step)
            keys = batches.keys(step)
            for key, value in zip(keys, batch["draw"].tolist(), strict=True):
                assert drawn.setdefault(key, value) == value
    assert len(set(drawn.values())) == len(drawn) == 20


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_all_processes_are_the_global_batch(world):
    shares = [Batches(Numbers(), batch_size=2, rank=rank, world=world) for rank in range(world)]
    whole = Batches(Numbers(), batch_size=2 * world)
    for step in range(6):
        together = [batch.at(step) for batch in shares]
        assert [name for batch in together for name in batch["name"]] == whole.at(step)["name"]
        assert torch.equal(torch.cat([batch["draw"] for batch in together]), whole.at(step)["draw"])
    assert shares[0].steps(3) == whole.steps(3) and shares[0].epoch(5) == whole.epoch(5)


def test_steps_and_epochs():
    batches = Batches(Numbers(), batch_size=4)
    assert [batches.steps(epochs) for epochs in (0, 1, 2, 0.1, 100)] == [0, 3, 5, 1, 250]
    assert [batches.epoch(step) for step in range(6)] == [0, 0, 0, 1, 1, 2]


def equal(first, second):
    return first["name"] == second["name"] and all(
        torch.equal(first[key], second[key]) for key in first if key != "name"
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", rest_exhaustive([0, 2], (0).__eq__))
def test_a_stream_from_k_is_the_stream_from_0_without_its_first_k(workers):
    config = DataConfig(size=16, counts={"train": 5})
    batches = Batches(SyntheticFacades(config, "train"), batch_size=2, seed=3, workers=workers)
    whole, rest = batches.stream(0), batches.stream(3)
    for step, batch in enumerate(itertools.islice(whole, 7)):
        assert equal(batch, batches.at(step))
        if step >= 3:
            assert equal(batch, next(rest))
    whole.close()
    rest.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_leaves_the_runs_random_numbers_alone(workers):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    stream = Batches(Numbers(), batch_size=2, workers=workers).stream()
    next(stream)
    stream.close()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_closing_a_stream_ends_its_thread():
    def running():
        return [thread for thread in threading.enumerate() if thread.name == "batches"]

    stream = Batches(Numbers(), batch_size=2).stream()
    next(stream)
    assert running()
    stream.close()
    assert not running()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_reaches_the_reader_as_it_was_written(workers):
    stream = Batches(Numbers(broken=4), batch_size=2, workers=workers).stream()
    with pytest.raises(ValueError) as error:
        for _ in range(5):
            next(stream)
    assert str(error.value) == "cannot use image 4.png: it is broken"


def beside(world=1, rank=0, workers=0, seed=0):
    """Batches of 2 pairs of 10, and of 2 inputs of 7 beside them."""
    settings = {"batch_size": 2, "seed": seed, "workers": workers, "rank": rank, "world": world}
    return PairedWithUnlabelled(Batches(Numbers(), **settings), Batches(Numbers(7), **settings, beside=True))


def test_inputs_beside_pairs_are_a_key_more_and_an_epoch_is_one_of_the_pairs():
    both = beside()
    for step in (0, 3, 12):
        batch = both.at(step)
        assert equal({key: batch[key] for key in ("input", "draw", "name")}, both.labelled.at(step))
        assert torch.equal(batch["unlabelled"], both.unlabelled.at(step)["input"])
    assert set(batch) == {"input", "draw", "name", "unlabelled"}
    assert [both.steps(epochs) for epochs in (1, 2)] == [5, 10] and both.epoch(5) == 1
    assert (both.world, both.global_batch) == (1, 2)
    first = torch.cat([both.at(step)["unlabelled"] for step in range(7)])
    assert sorted(first.flatten().tolist()) == sorted([*range(7), *range(7)])


def test_inputs_of_several_tensors_stay_several_beside_pairs():
    inputs = [(torch.zeros(3, 4, 4), torch.tensor(i)) for i in range(3)]
    pairs, alone = Batches(Numbers(), batch_size=2), Batches(TensorInputs(inputs), batch_size=2, beside=True)
    images, ids = PairedWithUnlabelled(pairs, alone).at(0)["unlabelled"]
    assert images.shape == (2, 3, 4, 4) and ids.tolist() == [index for _, index in alone.keys(0)]


def test_what_is_beside_has_random_numbers_of_its_own():
    """Else the same order and the same crops would come together in every step."""
    pairs, alone = (Batches(Numbers(), batch_size=10, beside=side) for side in (False, True))
    assert [[key for _, key in each.keys(0)] for each in (pairs, alone)] != [
        [key for _, key in pairs.keys(0)]
    ] * 2
    draws = [set(each.at(step)["draw"].tolist()) for each in (pairs, alone) for step in range(3)]
    assert len(set().union(*draws)) == 60
    again = Batches(Numbers(), batch_size=10, beside=True)
    assert equal(again.at(2), alone.at(2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_of_both_goes_on_at_any_step(workers):
    both = beside(workers=workers, seed=5)
    stream = both.stream(4)
    for step in range(4, 9):
        assert equal(next(stream), both.at(step))
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_processes_share_what_is_beside_too():
    shares, whole = [beside(world=2, rank=rank) for rank in range(2)], beside()
    assert shares[0].global_batch == 4 and shares[0].steps(2) == 5
    for step in range(4):
        together = torch.cat([share.at(step)["unlabelled"] for share in shares])
        alone = torch.cat([whole.at(2 * step + half)["unlabelled"] for half in range(2)])
        assert torch.equal(together, alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_input_beside_pairs_reaches_the_reader(workers):
    pairs = Batches(Numbers(), batch_size=2, workers=workers)
    stream = PairedWithUnlabelled(pairs, Batches(Numbers(4, broken=2), batch_size=2, beside=True)).stream()
    with pytest.raises(ValueError, match=r"^cannot use image 2.png: it is broken$"):
        for _ in range(3):
            next(stream)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 1, "workers": -1}, "workers = -1"),
        ({"batch_size": 1, "rank": 2, "world": 2}, "rank = 2 is outside a world of 2"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Batches(Numbers(), **settings)
    with pytest.raises(ValueError, match="no samples"):
        Batches(Numbers(0), batch_size=1)
