"""Pictures alone, from one folder or several."""

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import DataConfig, Images, Photos, check, open_dataset, to_uint8
from ganshrink.data.images import offered_by
from ganshrink.data.passes import all_batches


def paint(path, red):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 24), (red, 0, 0)).save(path)


@pytest.fixture
def folders(tmp_path):
    for i in range(3):
        paint(tmp_path / "train" / "sea" / f"{i}.png", i)
        paint(tmp_path / "more" / f"{i}.png", 100 + i)
    return tmp_path


def config(*names, **settings):
    photos = names[0] if len(names) == 1 else names
    return DataConfig(**{"name": "photos", "photos": photos, "size": (16, 8), **settings})


def test_every_picture_of_all_folders_is_an_input_without_a_target(folders):
    (folders / "more").rename(folders / "train more")
    images = open_dataset(config(str(folders / "{split}"), str(folders / "{split} more")))
    assert isinstance(images, Images) and (len(images), images.in_channels, images.size) == (6, 3, (16, 8))
    samples = [images.sample(i, None) for i in range(6)]
    assert all(
        sample.keys() == {"input", "name"} and sample["input"].shape == (3, 16, 8) for sample in samples
    )
    assert [to_uint8(sample["input"])[0, 0, 0] for sample in samples] == [0, 1, 2, 100, 101, 102]
    assert offered_by(images) == {"pictures"}
    assert [list(batch) for batch in all_batches(images, 4)] == [["paired", "name", "input"]] * 2


def test_names_tell_pictures_apart(folders):
    several = open_dataset(config(str(folders / "{split}" / "sea"), str(folders / "more")))
    assert len({several.sample(i, None)["name"] for i in range(len(several))}) == len(several) == 5
    assert open_dataset(config(str(folders / "{split}"))).sample(0, None)["name"] == "sea__0"


def test_they_are_cropped_and_mirrored_in_training_alone(tmp_path):
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[..., 0] = np.arange(24) * 10
    pixels[..., 1] = np.arange(24)[:, None] * 10
    (tmp_path / "p").mkdir()
    Image.fromarray(pixels).save(tmp_path / "p" / "a.png")
    images = open_dataset(config(str(tmp_path / "p"), size=16, load_size=24))
    plain = images.sample(0, None)["input"]
    assert torch.equal(plain, images.sample(0, None)["input"])
    views = set()
    for seed in range(24):
        view = to_uint8(images.sample(0, np.random.default_rng(seed))["input"]).astype(int)
        assert np.all(np.abs(np.diff(view[0, :, 0])) == 10)  # a cut, not a resize
        views.add((view[0, 0, 0] < view[0, 1, 0], view[0, :, 0].min(), view[0, 0, 1]))
    assert {rising for rising, _, _ in views} == {True, False} and len(views) > 12


def test_the_fingerprint_follows_settings_folders_and_contents(folders):
    names = [str(folders / "train"), str(folders / "more")]

    def fingerprint(*names, **settings):
        return Photos(config(*names, **settings), "train").fingerprint()

    before = fingerprint(*names)
    assert fingerprint(*names) == before
    assert (
        len({before, fingerprint(names[0]), fingerprint(*names[::-1]), fingerprint(*names, flip=False)}) == 4
    )
    paint(folders / "more" / "1.png", 7)
    assert fingerprint(*names) != before


def test_what_is_missing_empty_or_broken_is_named(folders):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist \(data\.photos = "):
        open_dataset(config(str(folders / "train"), str(folders / "nowhere")))
    (folders / "more" / "1.png").write_bytes(b"")
    (problem,) = check(Photos(config(str(folders / "train"), str(folders / "more")), "train"))
    assert "1.png" in problem and "empty" in problem
    for path in (folders / "more").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="1 problem in the train images: no images in .*more"):
        open_dataset(config(str(folders / "train"), str(folders / "more")))
