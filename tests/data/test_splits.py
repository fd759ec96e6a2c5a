"""Which images are trained on and which are scored, and that what is in both is found."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganshrink.data import DataConfig, TensorInputs, hold_out, open_dataset, open_unlabelled
from ganshrink.data.images import files_of
from ganshrink.data.overlap import trained_on, warn_trained_on
from ganshrink.data.splits import split_said
from telling import rest_exhaustive

KEYS = [f"{number:02d}" for number in range(21)]


def draw(folder, keys, *, wide=1, grey=False, start=0):
    """Pictures that differ, by name and place."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, key in enumerate(keys, start):
        rng = np.random.default_rng([number, *map(ord, folder.name)])
        shape = (16, 16 * wide) if grey else (16, 16 * wide, 3)
        Image.fromarray(rng.integers(0, 5 if grey else 256, shape, np.uint8)).save(folder / f"{key}.png")


def kinds(root, ending):
    """Settings of data in folders below a root whose names end so."""
    a, b = str(root / f"A{ending}"), str(root / f"B{ending}")
    return {
        "photos": {"name": "photos", "photos": a},
        "paired": {"name": "paired", "a": a, "b": b},
        "side by side": {"name": "paired", "root": str(root / f"AB{ending}")},
        "unpaired": {"name": "unpaired", "a": a, "b": b},
        "labelled": {"name": "labelled", "photos": a, "labels": str(root / f"L{ending}"), "num_classes": 5},
    }


def opened(root, kind, split, ending="", **settings):
    return open_dataset(DataConfig(size=16, **kinds(root, ending)[kind], **settings), split)


def keys_of(images):
    return [{path.stem for path in files} for files in files_of(images)]


KINDS = list(kinds(Path(), ""))


@pytest.fixture
def folders(tmp_path):
    for name in ("A", "B", "AB", "L"):
        draw(tmp_path / name, KEYS, wide=len(name), grey=name == "L")
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_for_all_splits_is_divided_by_a_hash_of_the_names(folders, kind):
    train, test = (keys_of(opened(folders, kind, split)) for split in ("train", "test"))
    # What is held out depends on names alone: both sides of unpaired data, the same folder twice, leave out the same.
    assert sorted(set.union(*train, *test)) == KEYS and len(train) == 18 and len(test) == 3
    assert not set.union(*train) & set.union(*test) and not trained_on(*_both(folders, kind))
    other = keys_of(opened(folders, kind, "test", split_seed=1))
    assert other != test != keys_of(opened(folders, kind, "val", split_seed=2))
    config = DataConfig(size=16, split_seed=7, **kinds(folders, "")[kind])
    assert split_said(config, "test") == "test, a tenth of the files by a hash of their names, split_seed 7"
    assert split_said(DataConfig(), "val") == "val"


def _both(folders, kind, **settings):
    return opened(folders, kind, "test", **settings), opened(folders, kind, "train", **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_the_validation_images_stand_for_test_images_that_are_not_there(tmp_path, kind, caplog):
    for name in ("A", "B", "AB", "L"):
        for split, start in (("train", 0), ("val", 3)):
            draw(tmp_path / f"{name} {split}", KEYS[:3], wide=len(name), grey=name == "L", start=start)
    with caplog.at_level(logging.INFO):
        test = opened(tmp_path, kind, "test", " {split}")
    assert all("val" in path.parent.name for files in files_of(test) for path in files)
    assert "no test images: their val images are taken" in caplog.text
    config = DataConfig(size=16, **kinds(tmp_path, " {split}")[kind])
    assert split_said(config, "test") == "val (there is no test)"
    (tmp_path / "A test").mkdir()  # photos of a test set whose labels nobody has
    if kind in ("paired", "labelled", "unpaired"):
        assert len(opened(tmp_path, kind, "test", " {split}")) == 3
    shutil.rmtree(tmp_path / "A val")
    shutil.rmtree(tmp_path / "AB val")
    with pytest.raises(FileNotFoundError, match="val does not exist"):
        opened(tmp_path, kind, "val", " {split}")


@pytest.mark.parametrize("how", rest_exhaustive(["copy", "link", "same folder"], ["link"].__contains__))
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_on_and_is_scored_is_found(tmp_path, kind, how, caplog):
    for name in ("A", "B", "AB", "L"):
        for split, start in (("train", 0), ("test", 5)):
            draw(tmp_path / f"{name} {split}", KEYS[:5], wide=len(name), grey=name == "L", start=start)
        shutil.copy(tmp_path / f"{name} train/00.png", tmp_path / f"{name} test/03.png")
        if how == "link":
            (tmp_path / f"{name} test/03.png").unlink()
            (tmp_path / f"{name} test/03.png").symlink_to(tmp_path / f"{name} train/00.png")
        if how == "same folder":
            shutil.rmtree(tmp_path / f"{name} test")
            (tmp_path / f"{name} test").symlink_to(tmp_path / f"{name} train")
    scored, trained = _both(tmp_path, kind, ending=" {split}")
    leaked = [0, 1, 2, 3, 4] if how == "same folder" else [3]
    assert trained_on(scored, None, trained) == leaked
    assert trained_on(scored, trained, limit=3) == leaked[: 3 * (how == "same folder")]
    warn_trained_on(scored, trained)
    name = scored.sample(leaked[0], None)["name"]
    assert (
        f"{len(leaked)} of the 5 images to score are among the training images, {name} the first"
        in caplog.text
    )


def test_inputs_without_targets_and_tensors_are_looked_at_too(folders):
    draw(folders / "more", KEYS[:3])
    shutil.copy(sorted((folders / "A").iterdir())[int(keys_of(opened(folders, "paired", "test"))[1].pop())],
                folders / "more" / "x.png")  # fmt: skip
    config = DataConfig(size=16, unlabelled=str(folders / "more"), **kinds(folders, "")["paired"])
    assert trained_on(open_dataset(config, "test"), open_dataset(config), open_unlabelled(config)) == [1]
    photos = [torch.rand(3, 8, 8) for _ in range(12)]
    kept, held = hold_out(TensorInputs([*photos[:10], photos[4].clone(), photos[0]]))
    assert trained_on(held, kept) == [0, 1] and not trained_on(*hold_out(TensorInputs(photos)))


def streets(folder, names, *, start=0):
    """Smooth pictures, as photos are, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start):
        small = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(small).resize((48, 40), Image.Resampling.BICUBIC).save(folder / name)


def test_pictures_that_were_saved_anew_are_found(tmp_path):
    for side, start in (("A", 0), ("B", 100)):
        streets(tmp_path / f"{side} train", [f"{key}.png" for key in KEYS], start=start)
        streets(tmp_path / f"{side} test", [f"{key}.png" for key in KEYS[:4]], start=start + 50)
        taken = Image.open(tmp_path / f"{side} train/07.png")
        (tmp_path / f"{side} test/01.png").unlink()
        taken.resize((32, 28)).save(tmp_path / f"{side} test/01.jpg", quality=60)
    flat = Image.new("RGB", (48, 40), "grey")  # which says nothing
    for split in ("train", "test"):
        flat.save(tmp_path / f"A {split}/flat.png")
    photos, unpaired = (_both(tmp_path, kind, ending=" {split}") for kind in ("photos", "unpaired"))
    assert trained_on(*photos) == [1, 4]  # the flat one is a copy, to the byte
    flat.save(tmp_path / "A test/flat.png", compress_level=0)
    assert trained_on(*photos) == trained_on(*unpaired) == [1]
    for split in ("train", "test"):
        (tmp_path / f"A {split}/flat.png").unlink()
    assert trained_on(*_both(tmp_path, "paired", ending=" {split}")) == [1]
    another = Image.open(tmp_path / "A test/02.png")  # masks of two photos may be alike, a pair is both
    another.resize((32, 28)).save(tmp_path / "A test/01.jpg")
    assert trained_on(*_both(tmp_path, "paired", ending=" {split}")) == []


class Careless:
    """A data set of one's own that does not look at the split."""

    in_channels = out_channels = 3
    size = (8, 8)

    def __init__(self, config=None, split="train"):
        self.images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def sample(self, index, rng):
        return {"input": self.images[index], "name": str(index)}


def test_a_data_set_of_ones_own_that_does_not_look_at_the_split_is_noticed():
    assert trained_on(Careless(split="test"), Careless()) == [0, 1, 2, 3]
    assert not trained_on(open_dataset(DataConfig(size=16), "test"), open_dataset(DataConfig(size=16)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_partition_says_which_file_is_whose(folders, kind):
    """As CelebA's list_eval_partition.txt."""
    lines = [f"{key}.png {number % 3}" for number, key in enumerate(KEYS)]
    (folders / "partition.txt").write_text("\n".join(lines) + "\n")
    settings = {"partition": str(folders / "partition.txt"), "split_seed": 0}
    for number, split in enumerate(("train", "val", "test")):
        found = opened(folders, kind, split, **settings)
        assert {min(keys) for keys in keys_of(found)} == set(KEYS[number::3])
    config = DataConfig(size=16, **kinds(folders, "")[kind], **settings)
    assert split_said(config, "val") == "val, by partition.txt"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("00.png 0\n01.png 2\n", "partition.txt does not name 19 of 21 files, the first: 02"),
        ("00.png train\n", "'00.png train' is no name and 0, 1 or 2"),
        ("".join(f"{key} 0\n" for key in KEYS), "has no file for test (number 2)"),
        (None, "there is no file"),
    ],
)
def test_a_partition_that_does_not_fit_is_refused(folders, lines, message):
    file = folders / "partition.txt"
    if lines is not None:
        file.write_text(lines)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        opened(folders, "photos", "test", partition=str(file))
    (folders / "apart").mkdir()
    draw(folders / "apart/A-test", KEYS[:2])
    with pytest.raises(ValueError, match="for folders without {split} in their names"):
        opened(folders / "apart", "photos", "test", "-{split}", partition=str(file))
