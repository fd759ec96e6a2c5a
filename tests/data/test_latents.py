"""Latent vectors and photos: new ones in training, the same ones where networks are scored."""

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import (
    DataConfig,
    Images,
    InputSpec,
    Latents,
    check,
    open_dataset,
    prepare,
    seeded_latents,
)
from ganshrink.data.batches import Batches
from ganshrink.data.held_out import apart
from ganshrink.data.images import offered_by
from ganshrink.data.passes import all_batches


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 4), ("test", 3)):
        (tmp_path / split).mkdir()
        for number in range(count):
            Image.new("RGB", (20, 24), (number, 0, 0)).save(tmp_path / split / f"{number}.png")
    return tmp_path


def config(folder, **settings):
    return DataConfig(
        **{"name": "latents", "photos": f"{folder}/{{split}}", "size": 16, "latent": 6, **settings}
    )


def test_training_draws_vectors_anew_and_scoring_has_the_same_each_time(folder):
    train, test = (open_dataset(config(folder), split) for split in ("train", "test"))
    assert isinstance(train, Latents) and isinstance(train, Images) and not check(train)
    assert (train.in_channels, train.out_channels, train.size, train.paired) == (0, 3, (16, 16), False)
    assert offered_by(train) == {"target", "latents"}
    batches = Batches(train, batch_size=4)
    first, later = batches.at(0), batches.at(1)
    assert first["input"].shape == (4, 6) and first["target"].shape == (4, 3, 16, 16)
    drawn = torch.cat([first["input"], later["input"]])
    assert len(drawn.unique(dim=0)) == 8
    [scored] = all_batches(test, 8)
    [again] = all_batches(open_dataset(config(folder), "test"), 8)
    assert torch.equal(scored["input"], again["input"]) and not scored["paired"]
    [other] = all_batches(open_dataset(config(folder, latent_seed=1), "test"), 8)
    assert not torch.isclose(scored["input"], other["input"]).any()
    assert not torch.isclose(scored["input"], next(all_batches(train, 3))["input"]).any()


def test_there_may_be_more_vectors_than_photos_or_fewer(folder):
    many = open_dataset(config(folder, latents=5), "test")
    samples = [many.sample(index, None) for index in range(len(many))]
    assert [("input" in s, "target" in s) for s in samples] == [(True, True)] * 3 + [(True, False)] * 2
    assert len(many.files()) == 5 and many.files()[4] == ()
    few = open_dataset(config(folder, latents=2), "test")
    assert len(few) == 3 and "input" not in few.sample(2, None)


def test_a_tenth_can_be_kept_out_of_training(folder):
    kept, held = apart(open_dataset(config(folder)), seed=0)
    assert (len(kept), len(held), held.num_inputs) == (3, 1, 1)
    [batch] = all_batches(held, 8)
    assert batch["input"].shape == (1, 6) and batch["target"].shape == (1, 3, 16, 16)


def test_truncation_counts_where_networks_are_scored_alone(folder):
    test = open_dataset(config(folder, latent=400, truncation=0.5), "test")
    drawn = test.sample(0, None)["input"]
    assert float(drawn.abs().max()) <= 0.5
    assert float(drawn.std()) == pytest.approx(0.28, abs=0.03)  # of a normal cut off there
    assert float(test.sample(0, np.random.default_rng(0))["input"].abs().max()) > 2
    plain = open_dataset(config(folder, latent=400), "test").sample(0, None)["input"]
    near = plain.abs() <= 0.5
    assert torch.equal(drawn[near], plain[near])  # the others are drawn again, these stay
    assert test.said() == "seed 0, none farther than 0.5 from 0"


def test_a_seed_s_vectors_are_a_function_of_their_number():
    spec = InputSpec(kind="latent", channels=7, size=(8, 8))
    few, many = seeded_latents(spec, 2, seed=3), seeded_latents(spec, 5, seed=3)
    assert torch.equal(few, many[:2]) and many.shape == (5, 7)
    assert float(seeded_latents(spec, 5, seed=3, truncation=0.2).abs().max()) <= 0.2
    with pytest.raises(ValueError, match="takes latent vectors, not pictures"):
        prepare(np.zeros((8, 8, 3), np.uint8), spec)


def test_settings_of_other_data_are_refused_and_do_not_count_for_them(folder):
    with pytest.raises(ValueError, match="truncation does not apply to name = 'photos'"):
        DataConfig(name="photos", photos="x", truncation=1)
    with pytest.raises(ValueError, match="in_channels does not apply to name = 'latents'"):
        config(folder, in_channels=1)
    with pytest.raises(ValueError, match="latents need photos"):
        DataConfig(name="latents")
    assert "latent_seed" not in DataConfig(name="photos", photos="x").relevant()
    one, other = (open_dataset(config(folder, latent_seed=seed), "test").fingerprint() for seed in (0, 1))
    assert one != other
