import os

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import Batches, DataConfig, LabelledImages, check, open_dataset, to_uint8


def save(folder, name, ids, photo=None):
    (folder / "train").mkdir(exist_ok=True)
    (folder / "trainannot").mkdir(exist_ok=True)
    if photo is None:
        photo = (ids[..., None] * np.array([20, 10, 5])).clip(0, 255).astype(np.uint8)
    Image.fromarray(photo).save(folder / "train" / f"{name}.png")
    Image.fromarray(ids.astype(np.uint8)).save(folder / "trainannot" / f"{name}.png")


@pytest.fixture
def city(tmp_path):
    for i in range(3):
        save(tmp_path, f"street {i} é", np.random.default_rng(i).integers(0, 6, (40, 60)))
    return tmp_path


def config(folder, **settings):
    paths = {"photos": str(folder / "{split}"), "labels": str(folder / "{split}annot")}
    return DataConfig(
        **{"name": "labelled", **paths, "num_classes": 6, "void": 5, "size": (20, 30), **settings}
    )


def test_the_input_is_exactly_one_hot(city):
    dataset = open_dataset(config(city), "train")
    assert dataset.in_channels == 6 and dataset.size == (20, 30)
    for rng in (None, np.random.default_rng(0)):
        sample = dataset.sample(0, rng)
        assert sample["input"].shape == (6, 20, 30) and sample["labels"].dtype == torch.int64
        assert set(sample["input"].unique().tolist()) == {0.0, 1.0}
        assert torch.equal(sample["input"].sum(0), torch.ones(20, 30))
        assert torch.equal(sample["input"].argmax(0), sample["labels"])


def test_resizing_labels_takes_the_nearest_pixel_and_invents_no_id(tmp_path):
    ids = np.where(np.arange(40) < 20, 0, 4)[None].repeat(40, 0)
    save(tmp_path, "edge", ids)
    dataset = open_dataset(config(tmp_path, size=(20, 20), flip=False), "train")
    assert torch.equal(dataset.sample(0, None)["labels"], torch.from_numpy(ids[1::2, 1::2]))
    for seed in range(10):
        assert set(dataset.sample(0, np.random.default_rng(seed))["labels"].unique().tolist()) <= {0, 4}


def test_photo_and_labels_share_crop_and_mirror(tmp_path):
    ids = np.arange(16)[:, None] * 4 + np.arange(16)[None] // 4  # 64 ids, each its place
    ids = ids.repeat(2, 0).repeat(2, 1)
    photo = np.stack([ids * 4, ids * 4, ids * 4], -1).astype(np.uint8)
    save(tmp_path, "map", ids, photo)
    dataset = open_dataset(config(tmp_path, num_classes=64, void=None, size=16, load_size=32), "train")
    views = set()
    for seed in range(12):
        sample = dataset.sample(0, np.random.default_rng(seed))
        assert np.array_equal(to_uint8(sample["target"])[..., 0], sample["labels"].numpy() * 4)
        views.add(tuple(sample["labels"][0].tolist()))
    assert len(views) > 4


def test_unknown_ids_go_to_void_where_it_is_declared(tmp_path):
    ids = np.array([[0, 1, 5, 6, 77, 255] * 2] * 8)
    save(tmp_path, "a", ids)
    labels = open_dataset(config(tmp_path, size=(8, 12)), "train").sample(0, None)["labels"]
    assert labels[0, :6].tolist() == [0, 1, 5, 5, 5, 5]


def test_255_is_void_even_where_it_would_be_a_class(tmp_path):
    save(tmp_path, "a", np.pad(np.full((7, 8), 255), ((1, 0), (0, 0))))
    dataset = open_dataset(config(tmp_path, num_classes=300, void=4, size=8), "train")
    assert set(dataset.sample(0, None)["labels"].unique().tolist()) == {0, 4}


def test_unknown_ids_without_void_name_file_and_value(tmp_path):
    save(tmp_path, "fine", np.zeros((8, 8)))
    save(tmp_path, "odd", np.full((8, 8), 9))
    with pytest.raises(
        ValueError, match=r"1 problem in the train images: .*odd\.png: class id 9 is outside 0\.\.5"
    ):
        open_dataset(config(tmp_path, void=None, size=8), "train")


def test_sizes_and_partners_are_checked(city):
    Image.new("RGB", (30, 20)).save(city / "train" / "street 0 é.png")
    (city / "trainannot" / "street 2 é.png").unlink()
    problems = check(LabelledImages(config(city), "train"))
    assert len(problems) == 2
    assert "street 2 é.png has no partner" in problems[0] and "trainannot" in problems[0]
    assert "30 x 20" in problems[1] and "60 x 40" in problems[1]


def test_a_photo_on_its_side_fits_its_label_map(tmp_path):
    save(tmp_path, "a", np.arange(6)[None].repeat(8, 0).repeat(2, 1))
    upright = np.asarray(Image.open(tmp_path / "train" / "a.png"))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(upright.transpose(1, 0, 2)[::-1])
    Image.fromarray(stored).save(tmp_path / "train" / "a.png", exif=exif)
    sample = open_dataset(config(tmp_path, size=(8, 12)), "train").sample(0, None)
    assert np.array_equal(to_uint8(sample["target"]), upright)


def test_broken_photos_and_labels_are_named(city):
    photo, label = city / "train" / "street 0 é.png", city / "trainannot" / "street 1 é.png"
    photo.write_bytes(photo.read_bytes()[:200])
    label.write_bytes(b"")
    problems = check(LabelledImages(config(city), "train"))
    assert len(problems) == 2
    assert str(photo) in problems[0] and str(label) in problems[1] and "empty" in problems[1]


def test_preview_gives_each_class_its_colour_and_void_black(city):
    dataset = open_dataset(config(city), "train")
    sample = dataset.sample(0, None)
    picture = dataset.preview(sample["input"])
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    colours = {tuple(picture[sample["labels"].numpy() == i][0]) for i in range(6)}
    assert len(colours) == 6 and (picture[sample["labels"].numpy() == 5] == 0).all()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("GANSHRINK_DATA"), reason="GANSHRINK_DATA is not set: no real photos here"
)
def test_camvid():
    paths = {"photos": "camvid/{split}", "labels": "camvid/{split}annot"}
    settings = DataConfig(name="labelled", **paths, num_classes=12, void=11, size=128)
    counts = {split: len(open_dataset(settings, split)) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 233}
    batch = Batches(open_dataset(settings, "train"), batch_size=4).at(0)
    assert batch["input"].shape == (4, 12, 128, 128) and batch["target"].shape == (4, 3, 128, 128)


def test_scored_labels_may_be_finer_than_what_the_network_sees(tmp_path):
    ids = np.arange(32 * 32).reshape(32, 32) % 4
    save(tmp_path, "a", ids)
    images = open_dataset(config(tmp_path, size=16, load_size=16, label_size=32))
    sample = images.sample(0, None)
    assert sample["input"].shape == (6, 16, 16)
    assert np.array_equal(sample["labels"], ids)
    assert images.sample(0, np.random.default_rng(0))["labels"].shape == (16, 16)
    assert images.fingerprint() == open_dataset(config(tmp_path, size=16, load_size=16)).fingerprint()
