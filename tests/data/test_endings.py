"""Folders as data sets are downloaded: names that differ by an ending, patterns, splits that are not there."""

import numpy as np
import pytest
from PIL import Image

from ganshrink.data import DataConfig, open_dataset
from ganshrink.data.endings import common_endings

IDS = np.random.default_rng(0).integers(0, 34, (16, 32)).astype(np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (16, 32, 3)).astype(np.uint8)


def write(folder, names, pixels):
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def cityscapes(root, kinds=("_gtFine_labelIds", "_gtFine_instanceIds", "_gtFine_color"), count=3):
    for city in ("aachen", "bochum"):
        for index in range(count):
            name = f"train/{city}/{city}_00000{index}_000019"
            write(root / "leftImg8bit", [f"{name}_leftImg8bit"], RGB)
            for kind in kinds:
                write(root / "gtFine", [f"{name}{kind}"], RGB if kind.endswith("color") else IDS)


def labelled(root, **settings):
    folders = {"photos": str(root / "leftImg8bit/{split}"), "labels": str(root / "gtFine/{split}")}
    return DataConfig(**{"name": "labelled", **folders, "num_classes": 34, "size": (16, 32), **settings})


def names(images):
    return [images.sample(index, None)["name"] for index in range(len(images))]


@pytest.mark.parametrize(
    "kinds",
    [
        ("_gtFine_labelIds",),
        ("_gtFine_labelIds", "_gtFine_instanceIds", "_gtFine_color", "_gtFine_labelTrainIds"),
        ("_gtCoarse_labelIds", "_gtCoarse_color"),
    ],
)
def test_cityscapes_as_it_is_downloaded(tmp_path, kinds):
    cityscapes(tmp_path, kinds)
    images = open_dataset(labelled(tmp_path))
    assert len(images) == 6 and names(images)[0] == "aachen__aachen_000000_000019"
    assert np.array_equal(images.sample(0, None)["labels"], IDS)


def test_a_photo_whose_label_map_is_missing_is_named(tmp_path):
    cityscapes(tmp_path)
    (tmp_path / "gtFine/train/bochum/bochum_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(ValueError, match="1 problem .*bochum_000001_000019_leftImg8bit.png has no partner"):
        open_dataset(labelled(tmp_path))


def test_which_of_several_is_meant_must_be_said(tmp_path):
    cityscapes(tmp_path, ("_gtFine_trainIds", "_gtFine_instanceIds"))
    with pytest.raises(
        ValueError, match=r"data.labels: several images belong to each, .*\*_gtFine_trainIds: say"
    ):
        open_dataset(labelled(tmp_path))
    images = open_dataset(labelled(tmp_path, labels=str(tmp_path / "gtFine/{split}/*_gtFine_trainIds.png")))
    assert len(images) == 6


@pytest.mark.parametrize(
    ("a", "b", "pattern"),
    [
        (["0001x4", "0002x4"], ["0001", "0002"], ("{root}/a", "{root}/b")),  # DIV2K
        (["0001TP_1", "0001TP_2"], ["0001TP_1_L", "0001TP_2_L"], ("{root}/a", "{root}/b")),  # CamVid
        (["s1_colors", "s2_colors"], ["s1_depth", "s2_depth"], ("{root}/a", "{root}/b")),  # NYU
        (["x/1_rgb", "y/1_rgb"], ["x/1_depth", "y/1_depth"], ("{root}/a/*_rgb.png", "{root}/b/**/*_depth.*")),
    ],
)
def test_names_of_other_data_sets(tmp_path, a, b, pattern):
    write(tmp_path / "train/a", a, RGB)
    write(tmp_path / "train/b", b, RGB)
    sides = {
        side: text.replace("{root}", f"{tmp_path}/{{split}}")
        for side, text in zip("ab", pattern, strict=True)
    }
    assert len(open_dataset(DataConfig(name="paired", size=16, **sides))) == 2


def test_a_pattern_tells_two_kinds_in_one_folder_apart(tmp_path):
    write(tmp_path / "train", ["cmp_1_photo", "cmp_2_photo", "cmp_1_map", "cmp_2_map"], RGB)
    sides = {"a": str(tmp_path / "{split}/cmp_*_map.png"), "b": str(tmp_path / "{split}/cmp_*_photo.png")}
    assert names(open_dataset(DataConfig(name="paired", size=16, **sides))) == ["1", "2"]
    with pytest.raises(ValueError, match=r"no images in .* of names like \*_edges.png"):
        open_dataset(DataConfig(name="photos", size=16, photos=str(tmp_path / "*_edges.png")))


@pytest.mark.parametrize(
    ("first", "second"),
    [(["a1", "b1"], ["a2", "b2"]), (["112", "113"], ["12", "13"]), (["x", "y"], ["p_1", "q_1"])],
)
def test_names_that_only_look_alike_are_not_paired(first, second):
    assert common_endings(first, second) is None
