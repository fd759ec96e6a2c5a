import numpy as np
import pytest
import torch

from ganshrink.data import DataConfig, SyntheticFacades, open_dataset
from ganshrink.data.facades.layout import design
from ganshrink.data.facades.painting import draw
from ganshrink.data.facades.palette import KINDS, LABEL_COLOURS


def facades(split="train", **settings):
    return SyntheticFacades(DataConfig(**{"size": 64, **settings}), split)


def rng(seed):
    return np.random.default_rng(seed)


def test_a_building_depends_on_seed_split_and_index_only():
    first, again = facades().sample(3, None), facades().sample(3, None)
    assert torch.equal(first["input"], again["input"]) and torch.equal(first["target"], again["target"])
    others = [facades(seed=1).sample(3, None), facades("val").sample(3, None), facades().sample(4, None)]
    assert all(not torch.equal(first["target"], other["target"]) for other in others)


@pytest.mark.parametrize("size", [8, 32, (48, 96), (100, 37)])
def test_any_size_gives_both_halves_in_range(size):
    dataset = facades(size=size)
    for index in range(6):
        sample = dataset.sample(index, None)
        for key in ("input", "target"):
            assert sample[key].shape == (3, *dataset.size) and sample[key].dtype == torch.float32
            assert sample[key].min() >= -1 and sample[key].max() <= 1


def test_every_pixel_of_a_map_has_a_palette_colour_and_no_two_kinds_share_one():
    assert len({tuple(colour) for colour in LABEL_COLOURS.tolist()}) == len(KINDS)
    known = {tuple(colour) for colour in LABEL_COLOURS.tolist()}
    for index in range(5):
        labels, _ = facades().pictures(index, (64, 64))
        assert {tuple(colour) for colour in labels.reshape(-1, 3).tolist()} <= known


def test_a_building_is_the_same_at_two_sizes():
    small, _ = facades().pictures(0, (96, 96))
    large, _ = facades().pictures(0, (192, 192))
    other, _ = facades().pictures(1, (96, 96))
    assert (large[::2, ::2] == small).all(-1).mean() > 0.8  # thin parts round to a pixel more or less
    assert (large[::2, ::2] == other).all(-1).mean() < 0.5


def test_the_photo_is_a_function_of_the_map_up_to_grain():
    for index in range(8):
        building = design(rng(index), 1.0)
        labels, photo = draw(building, 64, 64, rng=rng(100))
        same_labels, other_grain = draw(building, 64, 64, rng=rng(200))
        assert np.array_equal(labels, same_labels)
        assert np.abs(photo.astype(float) - other_grain).mean() < 6


def test_mirroring_turns_the_map_and_keeps_the_light():
    dataset = facades()
    for index in range(4):
        labels, photo = dataset.pictures(index, (128, 128))
        turned, turned_photo = dataset.pictures(index, (128, 128), mirrored=True)
        assert (labels[:, ::-1] == turned).all(-1).mean() > 0.85
        assert np.abs(photo[:, ::-1].astype(float) - turned_photo).mean() < 25


def test_augmentation_follows_its_rng():
    dataset = facades()
    assert torch.equal(dataset.sample(0, rng(1))["target"], facades().sample(0, rng(1))["target"])
    views = [dataset.sample(0, rng(seed))["target"] for seed in range(6)]
    assert any(not torch.equal(views[0], view) for view in views[1:])


def test_without_crop_and_flip_training_sees_what_evaluation_sees():
    dataset = facades(load_size=64, flip=False)
    assert torch.equal(dataset.sample(2, rng(5))["target"], dataset.sample(2, None)["target"])


def test_direction_swaps_the_halves():
    there, back = facades().sample(0, None), facades(direction="BtoA").sample(0, None)
    assert torch.equal(there["input"], back["target"]) and torch.equal(there["target"], back["input"])


def test_counts_per_split_and_the_end_of_the_data():
    config = DataConfig(size=16, counts={"val": 3})
    dataset = open_dataset(config, "val")
    assert len(dataset) == 3 and len(open_dataset(config, "train")) == 400
    with pytest.raises(IndexError, match="building 3 is outside the 3 of val"):
        dataset.sample(3, None)


def test_the_fingerprint_tells_settings_apart():
    prints = {
        facades(**settings).fingerprint() for settings in ({}, {"seed": 1}, {"size": 32}, {"flip": False})
    }
    assert len(prints) == 4 and facades().fingerprint() in prints
    assert facades("val").fingerprint() not in prints
