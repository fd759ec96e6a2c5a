"""Which training images are trained on and which are kept apart to score networks on."""

import pytest
import torch

from ganshrink.data import DataConfig, Images, TensorInputs, TensorPairs, open_dataset
from ganshrink.data.held_out import divide


def pictures(count: int, seed: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 4, 4, generator=draw) * 2 - 1 for _ in range(count)]


def pairs(count: int) -> TensorPairs:
    return TensorPairs(list(zip(pictures(count, 0), pictures(count, 9), strict=True)))


def inputs(count: int | None) -> TensorInputs | None:
    return None if count is None else TensorInputs(pictures(count, 21))


def pixels(images: Images) -> list[bytes]:
    """Every input of a set, as something to compare."""
    return [images.sample(index, None)["input"].numpy().tobytes() for index in range(len(images))]


def test_labelled_unlabelled_and_held_out_images_are_apart_and_all_are_used():
    data, more = pairs(5), inputs(12)
    images = divide(data, more, 200)
    labelled, unlabelled, held = (
        set(pixels(part)) for part in (images.labelled, images.unlabelled, images.held)
    )
    assert labelled == set(pixels(data))
    assert (len(labelled), len(unlabelled), len(held)) == (5, 10, 2)
    assert unlabelled | held == set(pixels(more)) and not unlabelled & held
    assert not labelled & (unlabelled | held)
    assert all("target" not in part.sample(0, None) for part in (images.unlabelled, images.held))


def test_where_all_have_labels_some_are_held_out_of_both():
    data = pairs(10)
    images = divide(data, None, 200)
    assert pixels(images.labelled) == pixels(images.unlabelled)
    assert set(pixels(images.labelled)) | set(pixels(images.held)) == set(pixels(data))
    assert (len(images.labelled), len(images.held)) == (8, 2)
    assert not set(pixels(images.labelled)) & set(pixels(images.held))


@pytest.mark.parametrize("wanted", [1, 3, 200])
@pytest.mark.parametrize("available", [2, 4, 5, 9, 10, 33])
def test_so_many_as_asked_for_are_held_out_but_at_most_a_fifth(available, wanted):
    images = divide(pairs(available), None, wanted)
    assert len(images.held) == max(1, min(wanted, available // 5))
    assert len(images.unlabelled) == len(images.labelled) == available - len(images.held)


@pytest.mark.parametrize(
    ("many", "more", "wanted", "of_inputs", "of_pairs"),
    [
        (10, 30, 200, 6, 0),  # a fifth of the unlabelled ones, when that is most of a fifth of all
        (10, 30, 2, 2, 0),
        (4, 9, 200, 1, 0),
        (30, 10, 200, 2, 6),  # else pairs beside them, a fifth of these
        (30, 10, 3, 2, 0),
        (39, 1, 200, 0, 7),
        (9, 3, 200, 0, 1),
    ],
)
def test_pairs_are_held_out_where_unlabelled_images_are_too_few(many, more, wanted, of_inputs, of_pairs):
    data, beside = pairs(many), inputs(more)
    images = divide(data, beside, wanted)
    held = pixels(images.held)
    assert len(set(held) & set(pixels(beside))) == of_inputs
    assert len(set(held) & set(pixels(data))) == of_pairs and len(held) == of_inputs + of_pairs
    assert set(pixels(images.labelled)) == set(pixels(data)) - set(held)
    assert set(pixels(images.unlabelled)) == set(pixels(beside)) - set(held)
    assert "target" not in images.held.sample(0, None)


def test_they_are_spread_over_the_set():
    more = inputs(20)
    held = divide(pairs(4), more, 200).held
    places = [pixels(more).index(each) for each in pixels(held)]
    assert len(places) == 4 and len({place * 4 // 20 for place in places}) == 4  # one of each quarter


def test_the_same_ones_are_held_out_every_time_and_others_make_another_stamp():
    prints = [divide(pairs(4), inputs(20), count) for count in (3, 3, 4)]
    same, again, other = ([p.held.fingerprint(), p.unlabelled.fingerprint()] for p in prints)
    assert same == again and not set(same) & set(other)


def test_the_only_pair_is_not_held_out():
    images = divide(pairs(1), inputs(3), 200)
    assert (len(images.labelled), len(images.unlabelled), len(images.held)) == (1, 2, 1)


@pytest.mark.parametrize("more", [None, 1])
def test_a_single_pair_is_too_few(more):
    with pytest.raises(ValueError, match="there are only [12]: give at least 2 pairs, or 2 inputs") as error:
        divide(pairs(1), inputs(more), 200)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("more", [None, 1, 6])
def test_none_are_held_out_where_none_are_asked_for(more):
    data, beside = pairs(1), inputs(more)
    images = divide(data, beside, 0)
    assert len(images.held) == 0 and images.labelled is data
    assert pixels(images.unlabelled) == pixels(data if beside is None else beside)


def test_unpaired_images_are_scored_on_inputs_of_the_training_folder(domains, caplog):
    data = open_dataset(DataConfig(**domains), "train")  # 3 of A, 4 of B
    images = divide(data, None, 200)
    assert len(images.labelled) == len(images.unlabelled) == len(data) and len(images.held) == 1
    assert pixels(images.held)[0] in [data.sample(i, None)["input"].numpy().tobytes() for i in range(3)]
    assert "scored on inputs that they train on" in caplog.text


@pytest.mark.parametrize("kind", ["all labelled", "unpaired"])
def test_what_is_held_out_shows_no_target_and_the_labelled_ones_all_of_theirs(domains, kind):
    data = open_dataset(DataConfig(**domains), "train") if kind == "unpaired" else pairs(10)
    images = divide(data, None, 200)
    [batch] = images.held_batches()
    assert batch.keys() == {"input", "name", "paired"} and batch["paired"] is False
    assert len(batch["input"]) == len(images.held)
    assert sum(len(batch) for batch in images.target_batches(3)) == {"unpaired": 4, "all labelled": 8}[kind]
